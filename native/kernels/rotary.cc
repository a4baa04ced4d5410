#include "kernels/rotary.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/implementation.h"
#include "kernels/launch.h"
#include "kernels/parallel.h"
#include "kernels/precision.h"
#include "kernels/rows/rotary.h"

namespace group_robust {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/** Its own function because compilers believe __restrict of parameters only. */
template <class T>
inline GROUP_ROBUST_INLINE void rotateHead(const T* __restrict x, const T* __restrict cos, const T* __restrict sin,
                                           float direction, T* __restrict first, T* __restrict second, int64_t half) {
  for (int64_t i = 0; i < half; ++i) {
    const Rotated y = rotated(widen(x[i]), widen(x[i + half]), widen(cos[i]), direction * widen(sin[i]));
    narrow(y.first, first[i]);
    narrow(y.second, second[i]);
  }
}

template <class T>
GROUP_ROBUST_VECTORISED void rotateRows(const Rotation<T>& run, int64_t begin, int64_t end) {
  const int64_t half = run.half;
  for (int64_t row = begin; row < end; ++row)
    for (int64_t head = row * run.heads; head < (row + 1) * run.heads; ++head) {
      T* y = run.y + head * 2 * half;
      rotateHead(run.x + head * 2 * half, run.cos + row * half, run.sin + row * half, run.direction, y, y + half, half);
    }
}

template <class T>
void rotateOnCpu(const Rotation<T>& run) {
  parallelRows(run.rows, run.heads * 2 * run.half, [&](int64_t begin, int64_t end) { rotateRows(run, begin, end); });
}

/** All contiguous and of one type. */
at::Tensor rotateBy(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, float direction) {
  const at::Tensor y = at::empty_like(x);
  withElement(x.scalar_type(), [&](auto element) {
    using T = decltype(element);
    const Rotation<T> run{elements<T>(x), elements<T>(cos), elements<T>(sin), mutableElements<T>(y),
                          x.size(0),      x.size(1),        x.size(2) / 2,    direction};
    launch(x, run, rotateOnCpu<T>);
  });
  return y;
}

class Rotate : public torch::autograd::Function<Rotate> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
    ctx->save_for_backward({cos, sin});
    return rotateBy(x, cos, sin, 1);
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    return {rotateBy(gradients[0].contiguous(), saved[0], saved[1], -1), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

RotaryTable rotaryTable(const at::Tensor& positions, int64_t headSize, double theta, double factor,
                        at::ScalarType dtype) {
  const at::ScalarType precise = accurate(dtype);
  const at::Tensor exponents = at::arange(0, headSize, 2, positions.options().dtype(precise)) / headSize;
  const at::Tensor frequencies = at::pow(theta, exponents).reciprocal() / factor;
  const at::Tensor angles = at::outer(positions.to(precise), frequencies).unsqueeze(1);
  return {angles.cos().to(dtype), angles.sin().to(dtype)};
}

at::Tensor rotate(const at::Tensor& x, const RotaryTable& table) {
  return fusedKernelsFor(x) ? fusedRotate(x, table) : composedRotate(x, table);
}

at::Tensor fusedRotate(const at::Tensor& x, const RotaryTable& table) {
  const at::Tensor rows = x.contiguous(), cos = table.cos.contiguous(), sin = table.sin.contiguous();
  return recorded(x) ? Rotate::apply(rows, cos, sin) : rotateBy(rows, cos, sin, 1);
}

at::Tensor composedRotate(const at::Tensor& x, const RotaryTable& table) {
  const auto halves = x.chunk(2, -1);
  return at::cat({halves[0] * table.cos - halves[1] * table.sin, halves[1] * table.cos + halves[0] * table.sin}, -1);
}

}  // namespace group_robust
