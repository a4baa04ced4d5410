#pragma once

#include <ATen/ATen.h>

namespace group_robust {

/** A CPU tensor on `device`: itself, or a copy that this thread does not wait for, from memory the GPU reads by itself.
 */
inline at::Tensor uploaded(const at::Tensor& tensor, const at::Device& device) {
  return device.is_cpu() ? tensor : tensor.pin_memory().to(device, tensor.scalar_type(), /*non_blocking=*/true);
}

}  // namespace group_robust
