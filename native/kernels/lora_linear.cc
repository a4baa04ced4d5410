#include "kernels/lora_linear.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

namespace group_robust {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Low-rank products are taken with the rank's side first, [rank, T] = A xᵀ: matrix products whose long side is the rows
// of the result take two to six times as long.

/** `low` is A xᵀ [rank, T] in the adapter's type. */
at::Tensor adapted(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& low, const at::Tensor& b,
                   double scale) {
  return at::linear(x, weight).to(b.scalar_type()).addmm_(low.t(), b.t(), 1, scale).to(x.scalar_type());
}

at::Tensor lowRank(const at::Tensor& x, const at::Tensor& a) { return at::mm(a, x.to(a.scalar_type()).t()); }

class LoraLinear : public torch::autograd::Function<LoraLinear> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& a,
                            const at::Tensor& b, double scale, const c10::intrusive_ptr<LoraGradient>& gradient) {
    const at::Tensor low = lowRank(x, a);
    ctx->save_for_backward({x, weight, a, b, low});
    ctx->saved_data["scale"] = scale;
    ctx->saved_data["gradient"] = c10::IValue::make_capsule(gradient);
    return adapted(x, weight, low, b, scale);
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &a = saved[2], &b = saved[3], &low = saved[4];
    const double scale = ctx->saved_data["scale"].toDouble();
    const auto holder = ctx->saved_data["gradient"].toCapsule();
    const auto& accumulators = static_cast<const LoraGradient&>(*holder);

    const at::Tensor dy = gradients[0].to(a.scalar_type());
    const at::Tensor wide = x.to(a.scalar_type());
    const at::Tensor lowGradient = at::mm(b.t(), dy.t()).mul_(scale);  // [rank, T]
    for (const auto& [begin, end, accumulator] : *accumulators.runs) {
      const int64_t count = end - begin;
      accumulators.a.select(0, accumulator).addmm_(lowGradient.narrow(1, begin, count), wide.narrow(0, begin, count));
      const at::Tensor db = at::mm(low.narrow(1, begin, count), dy.narrow(0, begin, count));  // [rank, out]
      accumulators.b.select(0, accumulator).add_(db.t(), scale);
    }
    at::Tensor dx;
    // The first trainable layer's input comes from frozen layers only: nothing below needs it.
    if (ctx->needs_input_grad(0))
      dx = at::mm(gradients[0], weight).to(a.scalar_type()).addmm_(lowGradient.t(), a).to(x.scalar_type());
    // No gradient for A and B: they are inputs so that autograd reaches this node, and have been served above.
    return {dx, at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor loraLinear(const at::Tensor& x, const at::Tensor& weight, const LoraPair& pair, double scale) {
  if (at::GradMode::is_enabled() && pair.gradient)
    return LoraLinear::apply(x, weight, pair.a, pair.b, scale, pair.gradient);
  return adapted(x, weight, lowRank(x, pair.a), pair.b, scale);
}

}  // namespace group_robust
