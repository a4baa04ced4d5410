#pragma once

#include <ATen/core/Tensor.h>

namespace group_robust {

/**
 * x · weightᵀ, without a graph; x [T, in], weight [out, in] with any strides, of one type, so that a transposed view
 * gives x · W. The fastest way there is for large float32 matrices on a CPU, which at::linear and at::mm are not at the
 * few hundred rows of a preference batch.
 */
at::Tensor product(const at::Tensor& x, const at::Tensor& weight);

}  // namespace group_robust
