#include "kernels/geglu.h"

#include <ATen/ATen.h>

namespace group_robust {

at::Tensor geglu(const at::Tensor& gate, const at::Tensor& up) { return at::gelu(gate, "tanh") * up; }

}  // namespace group_robust
