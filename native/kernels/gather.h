#pragma once

#include <ATen/ATen.h>

#include "kernels/precision.h"

namespace group_robust {

/**
 * The rows of x [T, …] that `rows` [n] int64 names, [n, …]. Where one is taken several times, its gradient is a sum of
 * as many terms: in float32 or better, rounded once, where LibTorch would round bfloat16 after each.
 */
inline at::Tensor gathered(const at::Tensor& x, const at::Tensor& rows) {
  return x.to(accurate(x.scalar_type())).index_select(0, rows).to(x.scalar_type());
}

}  // namespace group_robust
