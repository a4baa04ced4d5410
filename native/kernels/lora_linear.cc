#include "kernels/lora_linear.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

namespace group_robust {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/** `low` is x Aᵀ in the adapter's type. */
at::Tensor adapted(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& low, const at::Tensor& b,
                   double scale) {
  const at::Tensor update = at::mm(low, b.t());
  return at::linear(x, weight).to(b.scalar_type()).add_(update, scale).to(x.scalar_type());
}

class LoraLinear : public torch::autograd::Function<LoraLinear> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& a,
                            const at::Tensor& b, double scale, const c10::intrusive_ptr<LoraGradient>& gradient) {
    const at::Tensor low = at::mm(x.to(a.scalar_type()), a.t());
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
    const at::Tensor lowGradient = at::mm(dy, b).mul_(scale);  // [T, rank]
    for (const auto& [begin, end, accumulator] : *accumulators.runs) {
      const auto rows = [begin = begin, count = end - begin](const at::Tensor& t) { return t.narrow(0, begin, count); };
      accumulators.a.select(0, accumulator).addmm_(rows(lowGradient).t(), rows(wide));
      accumulators.b.select(0, accumulator).addmm_(rows(dy).t(), rows(low), 1, scale);
    }
    at::Tensor dx;
    // The first trainable layer's input comes from frozen layers only: nothing below needs it.
    if (ctx->needs_input_grad(0))
      dx = at::mm(gradients[0], weight).to(a.scalar_type()).addmm_(lowGradient, a).to(x.scalar_type());
    // No gradient for A and B: they are inputs so that autograd reaches this node, and have been served above.
    return {dx, at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor loraLinear(const at::Tensor& x, const at::Tensor& weight, const LoraPair& pair, double scale) {
  if (at::GradMode::is_enabled() && pair.gradient)
    return LoraLinear::apply(x, weight, pair.a, pair.b, scale, pair.gradient);
  return adapted(x, weight, at::mm(x.to(pair.a.scalar_type()), pair.a.t()), pair.b, scale);
}

}  // namespace group_robust
