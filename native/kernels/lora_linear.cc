#include "kernels/lora_linear.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/geglu.h"
#include "kernels/product.h"
#include "kernels/rowwise_product.h"
#include "profile.h"

namespace group_robust {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Low-rank products are taken in the type of the data: a pass over an output in float32 would take as long as the
// product itself on a GPU, and a twelfth of a bfloat16 step on a CPU.

/** x Aᵀ, [T, rank]. */
at::Tensor lowRank(const at::Tensor& x, const at::Tensor& a) {
  const profile::Scope scope(profile::kLora);
  return product(x, a.to(x.scalar_type()));
}

at::Tensor adapted(const at::Tensor& x, const FrozenMatrix& weight, const at::Tensor& low, const at::Tensor& b,
                   double scale) {
  return weight.times(x, LowRankSum{low, b.to(low.scalar_type()), scale});
}

/** What the backward pass of one projection needs beside its input, as the context of an autograd function keeps it. */
struct Saved {
  FrozenMatrix weight;
  at::Tensor a, b, low;
  double scale;
  c10::intrusive_ptr<LoraGradient> gradient;

  /** `inputs` come first among the saved variables. */
  void keep(AutogradContext* ctx, variable_list inputs) const {
    inputs.insert(inputs.end(), {weight.stored, a, b, low});
    ctx->save_for_backward(std::move(inputs));
    ctx->saved_data["scratch"] = c10::IValue::make_capsule(weight.scratch);
    ctx->saved_data["scale"] = scale;
    ctx->saved_data["gradient"] = c10::IValue::make_capsule(gradient);
  }

  static Saved from(AutogradContext* ctx, const variable_list& variables, size_t inputs) {
    const auto at = variables.begin() + static_cast<std::ptrdiff_t>(inputs);
    const auto scratch = c10::static_intrusive_pointer_cast<Scratch>(ctx->saved_data["scratch"].toCapsule());
    const auto gradient = c10::static_intrusive_pointer_cast<LoraGradient>(ctx->saved_data["gradient"].toCapsule());
    return {{at[0], scratch}, at[1], at[2], at[3], ctx->saved_data["scale"].toDouble(), gradient};
  }

  /** Adds to the accumulators. @returns dx, where it is asked for */
  at::Tensor backward(const at::Tensor& x, const at::Tensor& dy, bool needsInput) const {
    const profile::Section section = profile::current();
    const profile::Scope scope(profile::kLora);
    const at::ScalarType type = x.scalar_type();
    const at::Tensor lowGradient = product(dy, b.to(type).t()).mul_(scale);  // [T, rank]
    for (const auto& [begin, end, accumulator] : *gradient->runs) {
      // [n, T]: as products they are taken with the rows of the batch last.
      const auto columns = [begin = begin, count = end - begin](const at::Tensor& t) {
        return t.narrow(0, begin, count).t();
      };
      const auto summed = [&](const at::Tensor& t, const at::Tensor& u) { return wideProduct(columns(t), columns(u)); };
      gradient->a.select(0, accumulator).add_(summed(lowGradient, x));
      gradient->b.select(0, accumulator).add_(summed(low, dy).t(), scale);
    }
    if (!needsInput) return {};
    const LowRankSum update{lowGradient, a.to(type).t(), 1};
    const profile::Scope frozen(section);
    return weight.transposedTimes(dy, update);
  }
};

class LoraLinear : public torch::autograd::Function<LoraLinear> {
 public:
  // A and B are inputs so that autograd reaches this node where x needs no gradient; they get none.
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& a, const at::Tensor& b,
                            const FrozenMatrix& weight, double scale,
                            const c10::intrusive_ptr<LoraGradient>& gradient) {
    const at::Tensor low = lowRank(x, a);
    Saved{weight, a, b, low, scale, gradient}.keep(ctx, {x});
    return adapted(x, weight, low, b, scale);
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto variables = ctx->get_saved_variables();
    // The first trainable layer's input comes from frozen layers only: nothing below needs it.
    const at::Tensor dx = Saved::from(ctx, variables, 1).backward(variables[0], gradients[0], ctx->needs_input_grad(0));
    return {dx, at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

class LoraLinearOfGeglu : public torch::autograd::Function<LoraLinearOfGeglu> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& gate, const at::Tensor& up, const at::Tensor& a,
                            const at::Tensor& b, const FrozenMatrix& weight, double scale,
                            const c10::intrusive_ptr<LoraGradient>& gradient) {
    const at::Tensor x = geglu(gate, up);
    const at::Tensor low = lowRank(x, a);
    Saved{weight, a, b, low, scale, gradient}.keep(ctx, {gate, up});
    return adapted(x, weight, low, b, scale);
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto variables = ctx->get_saved_variables();
    const bool needsInput = ctx->needs_input_grad(0) || ctx->needs_input_grad(1);
    const c10::AutoGradMode gradientsOn(needsInput);
    const variable_list inputs = {variables[0].detach().requires_grad_(needsInput),
                                  variables[1].detach().requires_grad_(needsInput)};
    const at::Tensor x = geglu(inputs[0], inputs[1]);
    at::Tensor dx;
    {
      const c10::NoGradGuard noGrad;
      dx = Saved::from(ctx, variables, 2).backward(x.detach(), gradients[0], needsInput);
    }
    variable_list result(7);
    if (needsInput) {
      const variable_list onInputs = torch::autograd::grad({x}, inputs, {dx});
      result[0] = onInputs[0];
      result[1] = onInputs[1];
    }
    return result;
  }
};

bool records(const LoraPair& pair) { return at::GradMode::is_enabled() && pair.gradient; }

}  // namespace

at::Tensor loraLinear(const at::Tensor& x, const FrozenMatrix& weight, const LoraPair& pair) {
  if (records(pair)) return LoraLinear::apply(x, pair.a, pair.b, weight, pair.scale, pair.gradient);
  const at::Tensor low = weight.rowwise ? rowwiseProduct(x.to(pair.a.scalar_type()), pair.a) : lowRank(x, pair.a);
  return adapted(x, weight, low, pair.b, pair.scale);
}

at::Tensor loraLinearOfGeglu(const at::Tensor& gate, const at::Tensor& up, const FrozenMatrix& weight,
                             const LoraPair& pair) {
  if (records(pair)) return LoraLinearOfGeglu::apply(gate, up, pair.a, pair.b, weight, pair.scale, pair.gradient);
  return loraLinear(geglu(gate, up), weight, pair);
}

}  // namespace group_robust
