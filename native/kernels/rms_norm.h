#pragma once

#include <ATen/core/Tensor.h>

namespace group_robust {

/**
 * x / sqrt(mean(x²) + epsilon) · (1 + weight) over the last dimension; float32 throughout, cast to x's type at the end.
 * The weight is frozen. Backward keeps x and one number a row.
 */
at::Tensor rmsNorm(const at::Tensor& x, const at::Tensor& weight, double epsilon);

/** The two implementations rmsNorm() chooses from. */
at::Tensor fusedRmsNorm(const at::Tensor& x, const at::Tensor& weight, double epsilon);
at::Tensor composedRmsNorm(const at::Tensor& x, const at::Tensor& weight, double epsilon);

}  // namespace group_robust
