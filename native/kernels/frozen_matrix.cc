#include "kernels/frozen_matrix.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/product.h"
#include "kernels/rowwise_product.h"

namespace group_robust {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class FrozenLinear : public torch::autograd::Function<FrozenLinear> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& stored,
                            const c10::intrusive_ptr<Scratch>& scratch) {
    ctx->save_for_backward({stored});
    ctx->saved_data["scratch"] = c10::IValue::make_capsule(scratch);
    return FrozenMatrix{stored, scratch}.times(x);
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto scratch = c10::static_intrusive_pointer_cast<Scratch>(ctx->saved_data["scratch"].toCapsule());
    const FrozenMatrix weight{ctx->get_saved_variables()[0], scratch};
    return {weight.transposedTimes(gradients[0]), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor widened(const at::Tensor& stored, at::ScalarType dtype, Scratch& scratch) {
  if (stored.scalar_type() == dtype) return stored;
  at::Tensor& buffer = scratch.buffer;
  if (!buffer.defined() || buffer.scalar_type() != dtype || buffer.numel() < stored.numel())
    buffer = at::empty({stored.numel()}, stored.options().dtype(dtype));
  return buffer.narrow(0, 0, stored.numel()).view(stored.sizes()).copy_(stored);
}

at::Tensor FrozenMatrix::times(const at::Tensor& x) const {
  if (rowwise) return rowwiseProduct(x, stored);
  const at::ScalarType type = productType(x);
  return product(x.to(type), widened(stored, type, *scratch)).to(x.scalar_type());
}

at::Tensor FrozenMatrix::transposedTimes(const at::Tensor& dy) const {
  const at::ScalarType type = productType(dy);
  return product(dy.to(type), widened(stored, type, *scratch).t()).to(dy.scalar_type());
}

at::Tensor frozenLinear(const at::Tensor& x, const FrozenMatrix& weight) {
  if (weight.rowwise) return weight.times(x);
  return FrozenLinear::apply(x, weight.stored, weight.scratch);
}

}  // namespace group_robust
