#include "kernels/geglu.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/implementation.h"
#include "kernels/launch.h"
#include "kernels/parallel.h"
#include "kernels/rows/geglu.h"

namespace group_robust {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

template <class T>
GROUP_ROBUST_VECTORISED void forwardNumbers(const GegluForward<T>& run, int64_t begin, int64_t end) {
  const T* __restrict gate = run.gate;
  const T* __restrict up = run.up;
  T* __restrict y = run.y;
  for (int64_t i = begin; i < end; ++i) narrow(gegluValue(widen(gate[i]), widen(up[i])), y[i]);
}

template <class T>
GROUP_ROBUST_VECTORISED void backwardNumbers(const GegluBackward<T>& run, int64_t begin, int64_t end) {
  const T* __restrict gate = run.gate;
  const T* __restrict up = run.up;
  const T* __restrict dy = run.dy;
  T* __restrict dgate = run.dgate;
  T* __restrict dup = run.dup;
  for (int64_t i = begin; i < end; ++i) {
    const GegluGradient gradient = gegluGradient(widen(gate[i]), widen(up[i]), widen(dy[i]));
    narrow(gradient.gate, dgate[i]);
    narrow(gradient.up, dup[i]);
  }
}

template <class T>
void forwardOnCpu(const GegluForward<T>& run) {
  parallelNumbers(run.size, [&](int64_t begin, int64_t end) { forwardNumbers(run, begin, end); });
}

template <class T>
void backwardOnCpu(const GegluBackward<T>& run) {
  parallelNumbers(run.size, [&](int64_t begin, int64_t end) { backwardNumbers(run, begin, end); });
}

/** Both contiguous, of one shape and type. */
at::Tensor forward(const at::Tensor& gate, const at::Tensor& up) {
  const at::Tensor y = at::empty_like(gate);
  withElement(gate.scalar_type(), [&](auto element) {
    using T = decltype(element);
    const GegluForward<T> run{elements<T>(gate), elements<T>(up), mutableElements<T>(y), gate.numel()};
    launch(gate, run, forwardOnCpu<T>);
  });
  return y;
}

class Geglu : public torch::autograd::Function<Geglu> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& gate, const at::Tensor& up) {
    ctx->save_for_backward({gate, up});
    return group_robust::forward(gate, up);
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &gate = saved[0], &up = saved[1];
    const at::Tensor dy = gradients[0].contiguous(), dgate = at::empty_like(gate), dup = at::empty_like(up);
    withElement(gate.scalar_type(), [&](auto element) {
      using T = decltype(element);
      const GegluBackward<T> run{elements<T>(gate),         elements<T>(up),         elements<T>(dy),
                                 mutableElements<T>(dgate), mutableElements<T>(dup), gate.numel()};
      launch(gate, run, backwardOnCpu<T>);
    });
    return {dgate, dup};
  }
};

}  // namespace

at::Tensor geglu(const at::Tensor& gate, const at::Tensor& up) {
  return fusedKernelsFor(gate) ? fusedGeglu(gate, up) : composedGeglu(gate, up);
}

at::Tensor fusedGeglu(const at::Tensor& gate, const at::Tensor& up) {
  const at::Tensor gates = gate.contiguous(), ups = up.contiguous();
  return recorded(gate, up) ? Geglu::apply(gates, ups) : forward(gates, ups);
}

at::Tensor composedGeglu(const at::Tensor& gate, const at::Tensor& up) { return at::gelu(gate, "tanh") * up; }

}  // namespace group_robust
