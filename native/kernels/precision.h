#pragma once

#include <ATen/core/Tensor.h>

namespace group_robust {

/** The type statistics are computed in: float32, or float64 where the data is. */
inline at::ScalarType accurate(at::ScalarType dtype) { return dtype == at::kDouble ? at::kDouble : at::kFloat; }

}  // namespace group_robust
