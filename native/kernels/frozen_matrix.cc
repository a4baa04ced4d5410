#include "kernels/frozen_matrix.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/precision.h"
#include "kernels/product.h"
#include "kernels/rowwise_product.h"
#include "profile.h"

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

/** x · weightᵀ and what is added to it; weight in the type of products. */
at::Tensor sum(const at::Tensor& x, const at::Tensor& weight, const std::optional<LowRankSum>& plus) {
  const at::ScalarType type = x.scalar_type();
  if (!plus) return product(x.to(weight.scalar_type()), weight).to(type);
  if (type == accurate(type)) {
    const at::Tensor y = product(x, weight);  // faster than addProduct
    const profile::Scope scope(profile::kLora);
    addProduct(y, plus->low, plus->factor, plus->scale);
    return y;
  }
  // The small summand first: added to a product that is rounded already, all that is below half a unit in its last
  // place would be lost, which is most of what an adapter does in its first steps.
  at::Tensor y;
  {
    const profile::Scope scope(profile::kLora);
    y = product(plus->low * plus->scale, plus->factor);
  }
  addProduct(y, x, weight, 1);
  return y;
}

/** The same for the few rows of generation, whose numbers do not depend on each other. */
at::Tensor rowwiseSum(const at::Tensor& x, const at::Tensor& weight, const std::optional<LowRankSum>& plus) {
  if (!plus) return rowwiseProduct(x, weight);
  const at::Tensor y = rowwiseProduct(x.to(accurate(x.scalar_type())), weight);
  const profile::Scope scope(profile::kLora);
  // Without a fused sum, whose rounding depends on where in its tensor a number stands.
  return y.add_(rowwiseProduct(plus->low * plus->scale, plus->factor)).to(x.scalar_type());
}

}  // namespace

at::Tensor widened(const at::Tensor& stored, at::ScalarType dtype, Scratch& scratch) {
  if (stored.scalar_type() == dtype) return stored;
  at::Tensor& buffer = scratch.buffer;
  if (!buffer.defined() || buffer.scalar_type() != dtype || buffer.numel() < stored.numel())
    buffer = at::empty({stored.numel()}, stored.options().dtype(dtype));
  return buffer.narrow(0, 0, stored.numel()).view(stored.sizes()).copy_(stored);
}

at::Tensor FrozenMatrix::times(const at::Tensor& x, const std::optional<LowRankSum>& plus) const {
  return rowwise ? rowwiseSum(x, stored, plus) : sum(x, widened(stored, productType(x), *scratch), plus);
}

at::Tensor FrozenMatrix::transposedTimes(const at::Tensor& dy, const std::optional<LowRankSum>& plus) const {
  return sum(dy, widened(stored, productType(dy), *scratch).t(), plus);
}

at::Tensor frozenLinear(const at::Tensor& x, const FrozenMatrix& weight) {
  if (weight.rowwise) return weight.times(x);
  return FrozenLinear::apply(x, weight.stored, weight.scratch);
}

}  // namespace group_robust
