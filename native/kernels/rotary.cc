#include "kernels/rotary.h"

#include <ATen/ATen.h>

#include "kernels/precision.h"

namespace group_robust {

RotaryTable rotaryTable(const at::Tensor& positions, int64_t headSize, double theta, at::ScalarType dtype) {
  const at::ScalarType precise = accurate(dtype);
  const at::Tensor exponents = at::arange(0, headSize, 2, at::TensorOptions(precise)) / headSize;
  const at::Tensor frequencies = at::pow(theta, exponents).reciprocal();
  const at::Tensor angles = at::outer(positions.to(precise), frequencies).unsqueeze(1);
  return {angles.cos().to(dtype), angles.sin().to(dtype)};
}

at::Tensor rotate(const at::Tensor& x, const RotaryTable& table) {
  const auto halves = x.chunk(2, -1);
  return at::cat({halves[0] * table.cos - halves[1] * table.sin, halves[1] * table.cos + halves[0] * table.sin}, -1);
}

}  // namespace group_robust
