#include "kernels/rms_norm.h"

#include <ATen/ATen.h>

#include "kernels/precision.h"

namespace group_robust {

at::Tensor rmsNorm(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  const at::ScalarType precise = accurate(x.scalar_type());
  const at::Tensor wide = x.to(precise);
  const at::Tensor normalised = wide * at::rsqrt(wide.square().mean(-1, true) + epsilon);
  // Gemma's weights are offsets from one; the cast comes after the product.
  return (normalised * (weight.to(precise) + 1)).to(x.scalar_type());
}

}  // namespace group_robust
