#pragma once

#include <ATen/core/Tensor.h>

namespace group_robust {

/** gelu(gate) · up, with the tanh form of GELU. */
at::Tensor geglu(const at::Tensor& gate, const at::Tensor& up);

}  // namespace group_robust
