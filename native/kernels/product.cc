#include "kernels/product.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "kernels/precision.h"
#include "kernels/processor.h"

namespace group_robust {
namespace {

using OneDnnLinear = at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                                std::string_view, c10::List<std::optional<at::Scalar>>,
                                std::optional<std::string_view>);

/**
 * oneDNN's product, which takes the weight in either order of its strides as it lies in memory: 183 to 207 GFLOP/s
 * where at::linear and at::mm have 100 to 160 (352 rows, 2048 x 16384, two cores with AVX-512), and twice as fast for
 * the few columns of a low-rank product. Absent where LibTorch was built without oneDNN.
 */
const std::optional<c10::TypedOperatorHandle<OneDnnLinear>>& oneDnnLinear() {
  static const auto handle = []() -> std::optional<c10::TypedOperatorHandle<OneDnnLinear>> {
    const auto found = c10::Dispatcher::singleton().findSchema({"mkldnn::_linear_pointwise", ""});
    if (!found || !found->hasKernelForDispatchKey(c10::DispatchKey::CPU)) return std::nullopt;
    try {
      return found->typed<OneDnnLinear>();
    } catch (const c10::Error&) {
      return std::nullopt;  // another signature than that of LibTorch 2.11 to 2.14
    }
  }();
  return handle;
}

/** Where neither operand has so many elements, at::mm is faster, whose calls cost less. */
constexpr int64_t kLarge = 1 << 18;

std::atomic<int64_t> oneDnnCalls{0}, libTorchCalls{0};

}  // namespace

at::ScalarType productType(const at::Tensor& x) {
  const at::ScalarType type = x.scalar_type();
  return type == at::kBFloat16 && x.is_cpu() && !multipliesBfloat16() ? at::kFloat : type;
}

at::Tensor product(const at::Tensor& x, const at::Tensor& weight) {
  const at::ScalarType type = productType(x);
  if (type != x.scalar_type()) return product(x.to(type), weight.to(type)).to(x.scalar_type());
  if (x.is_cpu() && x.scalar_type() == at::kFloat && std::max(x.numel(), weight.numel()) >= kLarge && x.numel() > 0)
    if (const auto& linear = oneDnnLinear()) {
      oneDnnCalls.fetch_add(1, std::memory_order_relaxed);
      return linear->call(x, weight, std::nullopt, "none", c10::List<std::optional<at::Scalar>>(), "");
    }
  libTorchCalls.fetch_add(1, std::memory_order_relaxed);
  return at::mm(x, weight.t());
}

void addProduct(const at::Tensor& y, const at::Tensor& x, const at::Tensor& weight, double scale) {
  const at::ScalarType type = productType(x);
  if (type != x.scalar_type()) {
    y.add_(product(x.to(type), weight.to(type)), scale);
    return;
  }
  libTorchCalls.fetch_add(1, std::memory_order_relaxed);
  y.addmm_(x, weight.t(), 1, scale);
}

at::Tensor wideProduct(const at::Tensor& x, const at::Tensor& weight) {
  const at::ScalarType wide = accurate(x.scalar_type());
  if (x.scalar_type() != wide && !x.is_cpu() && weight.scalar_type() == x.scalar_type())
    return at::mm(x, weight.t(), wide);
  return product(x.to(wide), weight.to(wide));
}

void useExactProducts() {
  setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/1);
  at::globalContext().setFloat32MatmulPrecision("highest");
  at::globalContext().setAllowBF16ReductionCuBLAS(false);
}

bool hasOneDnnProducts() { return oneDnnLinear().has_value(); }

ProductCalls productCalls() { return {oneDnnCalls.load(), libTorchCalls.load()}; }

}  // namespace group_robust
