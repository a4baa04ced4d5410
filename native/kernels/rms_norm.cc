#include "kernels/rms_norm.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/implementation.h"
#include "kernels/launch.h"
#include "kernels/parallel.h"
#include "kernels/precision.h"
#include "kernels/rows/rms_norm.h"

namespace group_robust {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

template <class T>
GROUP_ROBUST_VECTORISED void forwardRows(const RmsNormForward<T>& run, int64_t begin, int64_t end) {
  const int64_t columns = run.columns;
  const T* __restrict weight = run.weight;
  for (int64_t row = begin; row < end; ++row) {
    const T* __restrict x = run.x + row * columns;
    T* __restrict y = run.y + row * columns;
    const float sum = laneSum(columns, [x](int64_t i) GROUP_ROBUST_INLINE { return widen(x[i]) * widen(x[i]); });
    const float inverse = inverseRms(sum, columns, run.epsilon);
    if (run.inverse != nullptr) run.inverse[row] = inverse;
    for (int64_t i = 0; i < columns; ++i) narrow(rmsNormValue(widen(x[i]), widen(weight[i]), inverse), y[i]);
  }
}

/** Its own function because compilers believe __restrict of parameters only. */
template <class T>
inline GROUP_ROBUST_INLINE void backwardRow(const T* __restrict x, const T* __restrict weight, const T* __restrict dy,
                                            T* __restrict dx, float inverse, int64_t columns) {
  const float product = laneSum(columns, [=](int64_t i) GROUP_ROBUST_INLINE {
    return rmsNormProduct(widen(x[i]), widen(weight[i]), widen(dy[i]));
  });
  const float share = rmsNormShare(product, columns, inverse);
  for (int64_t i = 0; i < columns; ++i)
    narrow(rmsNormGradient(widen(x[i]), widen(weight[i]), widen(dy[i]), inverse, share), dx[i]);
}

template <class T>
GROUP_ROBUST_VECTORISED void backwardRows(const RmsNormBackward<T>& run, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const int64_t at = row * run.columns;
    backwardRow(run.x + at, run.weight, run.dy + at, run.dx + at, run.inverse[row], run.columns);
  }
}

template <class T>
void forwardOnCpu(const RmsNormForward<T>& run) {
  parallelRows(run.rows, run.columns, [&](int64_t begin, int64_t end) { forwardRows(run, begin, end); });
}

template <class T>
void backwardOnCpu(const RmsNormBackward<T>& run) {
  parallelRows(run.rows, run.columns, [&](int64_t begin, int64_t end) { backwardRows(run, begin, end); });
}

/** x and weight contiguous and of one type; `inverse` [rows] float32, or undefined where there is no backward. */
at::Tensor forward(const at::Tensor& x, const at::Tensor& weight, double epsilon, const at::Tensor& inverse) {
  const at::Tensor y = at::empty_like(x);
  const int64_t columns = weight.numel();
  withElement(x.scalar_type(), [&](auto element) {
    using T = decltype(element);
    const RmsNormForward<T> run{elements<T>(x),
                                elements<T>(weight),
                                mutableElements<T>(y),
                                inverse.defined() ? mutableElements<float>(inverse) : nullptr,
                                x.numel() / columns,
                                columns,
                                static_cast<float>(epsilon)};
    launch(x, run, forwardOnCpu<T>);
  });
  return y;
}

class RmsNorm : public torch::autograd::Function<RmsNorm> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight, double epsilon) {
    const at::Tensor inverse = at::empty({x.numel() / weight.numel()}, x.options().dtype(at::kFloat));
    ctx->save_for_backward({x, weight, inverse});
    return group_robust::forward(x, weight, epsilon, inverse);
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &inverse = saved[2];
    const at::Tensor dy = gradients[0].contiguous(), dx = at::empty_like(x);
    withElement(x.scalar_type(), [&](auto element) {
      using T = decltype(element);
      const RmsNormBackward<T> run{elements<T>(x),  elements<T>(weight),    elements<float>(inverse),
                                   elements<T>(dy), mutableElements<T>(dx), inverse.numel(),
                                   weight.numel()};
      launch(x, run, backwardOnCpu<T>);
    });
    return {dx, at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor rmsNorm(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  return fusedKernelsFor(x) ? fusedRmsNorm(x, weight, epsilon) : composedRmsNorm(x, weight, epsilon);
}

at::Tensor fusedRmsNorm(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  const at::Tensor rows = x.contiguous(), scale = weight.to(x.scalar_type()).contiguous();
  return recorded(x) ? RmsNorm::apply(rows, scale, epsilon) : forward(rows, scale, epsilon, at::Tensor());
}

at::Tensor composedRmsNorm(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  const at::ScalarType precise = accurate(x.scalar_type());
  const at::Tensor wide = x.to(precise);
  const at::Tensor normalised = wide * at::rsqrt(wide.square().mean(-1, true) + epsilon);
  // Gemma's weights are offsets from one; the cast comes after the product.
  return (normalised * (weight.to(precise) + 1)).to(x.scalar_type());
}

}  // namespace group_robust
