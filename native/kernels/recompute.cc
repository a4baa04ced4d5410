#include "kernels/recompute.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

namespace group_robust {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Recipe : torch::CustomClassHolder {
  explicit Recipe(std::function<at::Tensor(const at::Tensor&)> f) : run(std::move(f)) {}
  std::function<at::Tensor(const at::Tensor&)> run;
};

class Recomputed : public torch::autograd::Function<Recomputed> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& parameter,
                            const c10::intrusive_ptr<Recipe>& recipe) {
    ctx->save_for_backward({x});
    ctx->saved_data["recipe"] = c10::IValue::make_capsule(recipe);
    return recipe->run(x);  // gradients are off inside forward()
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto recipe = c10::static_intrusive_pointer_cast<Recipe>(ctx->saved_data["recipe"].toCapsule());
    const bool needsInput = ctx->needs_input_grad(0);
    const at::Tensor x = ctx->get_saved_variables()[0].detach().requires_grad_(needsInput);
    {
      const c10::AutoGradMode gradientsOn(true);
      recipe->run(x).backward(gradients[0]);
    }
    return {needsInput ? x.grad() : at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor recomputed(const std::function<at::Tensor(const at::Tensor&)>& run, const at::Tensor& x,
                      const at::Tensor& parameter) {
  return Recomputed::apply(x, parameter, c10::make_intrusive<Recipe>(run));
}

}  // namespace group_robust
