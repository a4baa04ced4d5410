#pragma once

#include <ATen/core/Tensor.h>

namespace group_robust {

/** gelu(gate) · up, with the tanh form of GELU. Backward keeps gate and up only. */
at::Tensor geglu(const at::Tensor& gate, const at::Tensor& up);

/** The two implementations geglu() chooses from. */
at::Tensor fusedGeglu(const at::Tensor& gate, const at::Tensor& up);
at::Tensor composedGeglu(const at::Tensor& gate, const at::Tensor& up);

}  // namespace group_robust
