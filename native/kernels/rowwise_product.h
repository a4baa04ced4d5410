#pragma once

#include <ATen/core/Tensor.h>

namespace group_robust {

/** Rows that a call takes at most: as many as one vector register has numbers. */
constexpr int64_t kRowsAtOnce = 16;

/**
 * x · weightᵀ for the few rows of a step of generation, without a graph: x [R, in] with R ≤ kRowsAtOnce, weight
 * [out, in], each float32 or bfloat16, on a CPU; [R, out] of x's type. Sums are float32.
 *
 * The numbers of a row are the same to the bit whatever the other rows hold and however many there are, so that a
 * sequence does not depend on those it is generated beside; general products choose their order of sums by R. The
 * weight is read once, as it lies, which is what such a product takes its time for.
 */
at::Tensor rowwiseProduct(const at::Tensor& x, const at::Tensor& weight);

}  // namespace group_robust
