#include "bench/measure.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#ifdef GROUP_ROBUST_CUDA
#include <c10/cuda/CUDAFunctions.h>
#endif

#include "error_types.h"
#include "gemma/generator.h"
#include "kernels/parallel.h"
#include "kernels/product.h"

namespace group_robust {
namespace {

using Tensors = std::vector<at::Tensor>;
using Pass = std::function<Tensors()>;

const BenchKernel& findKernel(const std::string& name, const KernelSizes& sizes, const c10::Device& device) {
  std::string known;
  for (const BenchKernel& kernel : kernelTable()) {
    known += (known.empty() ? "" : ", ") + kernel.name;
    if (kernel.name != name) continue;
    for (const std::string& size : kernel.sizes)
      if (sizes.count(size) == 0) throw InputError("sizes." + size + ": expected a number for " + name);
    openDevice(device);
    if (kernel.cpuOnly && !device.is_cpu()) throw InputError("device: " + name + " is for the CPU only");
    return kernel;
  }
  throw InputError("kernel: expected one of " + known + ", not " + name);
}

Tensors cast(const Tensors& tensors, at::ScalarType dtype, const c10::Device& device) {
  Tensors result;
  for (const at::Tensor& tensor : tensors)
    result.push_back(tensor.to(device, tensor.is_floating_point() ? dtype : tensor.scalar_type()));
  return result;
}

/** NaN where the shapes differ or either has a NaN. */
double largestError(const Tensors& results, const Tensors& oracle) {
  double largest = 0;
  for (size_t i = 0; i < oracle.size(); ++i) {
    if (results[i].sizes() != oracle[i].sizes()) return std::numeric_limits<double>::quiet_NaN();
    const double difference = (results[i].to(at::kDouble) - oracle[i]).abs().max().item<double>();
    const double relative = difference / oracle[i].abs().max().item<double>();
    if (std::isnan(relative)) return relative;
    largest = std::max(largest, relative);
  }
  return largest;
}

/** Whether more runs give the same bits: one as before, and, where `anyThreads`, one with a single thread on the CPU.
 */
bool repeats(const Pass& pass, const Tensors& first, bool anyThreads) {
  const auto same = [&] {
    const Tensors again = pass();
    return std::equal(first.begin(), first.end(), again.begin(), again.end(),
                      [](const at::Tensor& a, const at::Tensor& b) { return a.equal(b); });
  };
  if (!same()) return false;
  if (!anyThreads) return true;
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const bool alone = same();
  at::set_num_threads(threads);
  return alone;
}

PassMeasurement measurePass(const Pass& fused, const Pass& composed, const Pass& oracle, bool anyThreads,
                            const KernelWork& work, const c10::Device& device, double seconds) {
  PassMeasurement pass{};
  {
    const Tensors exact = oracle(), results = fused();
    pass.error = largestError(results, exact);
    pass.repeatable = repeats(fused, results, anyThreads);
    pass.torchError = largestError(composed(), exact);
  }
  const auto times = timeCalls({[&] { fused(); }, [&] { composed(); }}, device, seconds);
  pass.seconds = times[0];
  pass.torchSeconds = times[1];
  pass.work = work;
  return pass;
}

double bestRate(double work, const std::vector<std::function<void()>>& ways, const c10::Device& device,
                double seconds) {
  double least = std::numeric_limits<double>::infinity();
  for (const Quartiles& times : timeCalls(ways, device, seconds)) least = std::min(least, times.median);
  return work / least;
}

double copyRate(const c10::Device& device, double seconds) {
  const int64_t bytes = int64_t{256} << 20;
  const at::Tensor from = at::ones({bytes}, at::TensorOptions(at::kByte).device(device));
  const at::Tensor to = at::zeros_like(from);
  std::vector<std::function<void()>> ways{[&] { to.copy_(from); }};
  if (device.is_cpu())
    ways.push_back([&] {
      const auto* source = from.const_data_ptr<uint8_t>();
      auto* target = to.mutable_data_ptr<uint8_t>();
      parallelNumbers(bytes, [&](int64_t begin, int64_t end) {
        std::memcpy(target + begin, source + begin, static_cast<size_t>(end - begin));
      });
    });
  return bestRate(2.0 * static_cast<double>(bytes), ways, device, seconds);
}

double gemmRate(at::ScalarType dtype, const c10::Device& device, double seconds) {
  const int64_t n = device.is_cpu() ? 2048 : 8192;  // enough tiles for a card to be at its best
  const at::Generator generator = seededGenerator(0);
  const auto matrix = [&] {
    return at::empty({n, n}, at::TensorOptions(at::kFloat)).normal_(0, 1, generator).to(device, dtype);
  };
  const at::Tensor a = matrix(), b = matrix();
  std::vector<std::function<void()>> ways{[&] { product(a, b); }, [&] { product(a, b.t()); }};
  // What the processor has no instruction for takes LibTorch minutes.
  if (productType(a) == dtype)
    ways.insert(ways.end(), {[&] { at::mm(a, b); }, [&] { at::mm(a, b.t()); }, [&] { at::mm(a.t(), b); }});
  at::Tensor packedA, packedB;
  if (device.is_cpu() && dtype == at::kFloat && at::globalContext().hasMKLDNN()) {
    // Tensors of oneDNN's own, whose weight it may bring into another order at every call.
    packedA = a.to_mkldnn();
    packedB = b.to_mkldnn();
    ways.push_back([&] { at::mkldnn_linear(packedA, packedB); });
  }
  return bestRate(2.0 * static_cast<double>(n * n * n), ways, device, seconds);
}

}  // namespace

void openDevice(const c10::Device& device) {
  if (device.is_cpu()) return;
#ifdef GROUP_ROBUST_CUDA
  if (device.is_cuda() && c10::cuda::device_count() > 0) return useExactProducts();
  throw InputError("device: no CUDA device was found");
#else
  throw InputError("device: this addon is built without CUDA; build it with a CUDA LibTorch and nvcc");
#endif
}

KernelResults runKernel(const std::string& name, const KernelSizes& sizes, at::ScalarType dtype,
                        const c10::Device& device, Kernels kernels, const std::vector<std::vector<double>>& inputs) {
  const BenchKernel& kernel = findKernel(name, sizes, device);
  Tensors tensors = kernel.inputs(sizes, seededGenerator(0));
  if (inputs.size() != tensors.size())
    throw InputError("inputs: expected " + std::to_string(tensors.size()) + " arrays for " + name);
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (static_cast<int64_t>(inputs[i].size()) != tensors[i].numel())
      throw InputError("inputs[" + std::to_string(i) + "]: expected " + std::to_string(tensors[i].numel()) +
                       " numbers");
    tensors[i] =
        at::tensor(inputs[i], at::TensorOptions(at::kDouble)).view(tensors[i].sizes()).to(tensors[i].scalar_type());
  }
  const KernelRun run = kernel.run(sizes, cast(tensors, dtype, device), kernels);
  return {run.forward(), run.backward()};
}

KernelMeasurement measureKernel(const std::string& name, const KernelSizes& sizes, at::ScalarType dtype,
                                const c10::Device& device, double seconds) {
  const BenchKernel& kernel = findKernel(name, sizes, device);
  const Tensors inputs = cast(kernel.inputs(sizes, seededGenerator(0)), dtype, device);
  const KernelRun fused = kernel.run(sizes, inputs, Kernels::kFused);
  const KernelRun composed = kernel.run(sizes, inputs, Kernels::kLibTorch);
  const KernelRun oracle = kernel.run(sizes, cast(inputs, at::kDouble, device), Kernels::kLibTorch);
  const auto elementBytes = static_cast<double>(c10::elementSize(dtype));
  return {measurePass(fused.forward, composed.forward, oracle.forward, kernel.anyThreads,
                      kernel.forwardWork(sizes, elementBytes), device, seconds),
          measurePass(fused.backward, composed.backward, oracle.backward, kernel.anyThreads,
                      kernel.backwardWork(sizes, elementBytes), device, seconds)};
}

MachineMeasurement measureMachine(at::ScalarType dtype, const c10::Device& device, double seconds) {
  openDevice(device);
  const c10::NoGradGuard noGrad;
  return {copyRate(device, seconds), gemmRate(dtype, device, seconds)};
}

}  // namespace group_robust
