#include "bindings/process.h"

#include <ATen/Parallel.h>
#include <torch/version.h>

#include <atomic>
#include <cstdlib>
#include <mutex>

#include "bindings/arguments.h"
#include "bindings/device.h"
#include "bindings/errors.h"
#include "kernels/implementation.h"
#include "kernels/processor.h"
#include "kernels/product.h"
#include "memory/cpu_allocator.h"

namespace group_robust {
namespace {

/** maxThreads in src/native/types.ts, which says why. */
constexpr int kMostThreads = 1024;

std::atomic<int> requestedThreads{0};  // 0: LibTorch's own choice

const char* nameOf(Kernels kernels) {
  switch (kernels) {
    case Kernels::kFused:
      return "fused";
    case Kernels::kLibTorch:
      return "libtorch";
    case Kernels::kGpuPlan:
      return "gpu-plan";
  }
  return "";
}

Napi::Value nativeInfo(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const int requested = requestedThreads.load();
    auto result = Napi::Object::New(env);
    result.Set("torchVersion", TORCH_VERSION);
    result.Set("cxx11Abi", Napi::Boolean::New(env, _GLIBCXX_USE_CXX11_ABI == 1));
    result.Set("napiVersion", NAPI_VERSION);
#ifdef GROUP_ROBUST_CUDA
    result.Set("cudaBuilt", Napi::Boolean::New(env, true));
#else
    result.Set("cudaBuilt", Napi::Boolean::New(env, false));
#endif
    result.Set("cudaDevices", cudaDevices());
    result.Set("threads", requested > 0 ? requested : at::get_num_threads());
    result.Set("kernels", nameOf(chosenKernels()));
    result.Set("registers", registerFloats());
    result.Set("bfloat16Products", multipliesBfloat16());
    result.Set("products", hasOneDnnProducts() ? "onednn" : "libtorch");
    return result;
  });
}

void setThreads(const Napi::CallbackInfo& info) {
  guarded(info.Env(),
          [&] { requestedThreads = static_cast<int>(readInteger(info[0], "setThreads count", 1, kMostThreads)); });
}

Napi::Value liveTensors(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(liveStorages()));
}

Napi::Value nameOfCard(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return Napi::String::New(info.Env(), cardName(readDevice(info[0], "device")));
  });
}

Napi::Value peakMemory(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return Napi::Number::New(info.Env(), static_cast<double>(peakDeviceMemory(readDevice(info[0], "device"))));
  });
}

void endProcess(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] { std::_Exit(static_cast<int>(readInteger(info[0], "status", 0, 255))); });
}

/**
 * oneDNN, and the layer above it, read these at the first products. They keep what they prepare for every new number of
 * rows, 1,024 entries each by default: steps of ever new sizes would fill 300 MB for each layer of Gemma-2B. A small
 * number is no slower. From JavaScript they could not be set in a worker thread, whose environment is a copy.
 */
void boundProductCaches() {
  for (const char* name : {"LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"}) setenv(name, "64", 0);
}

}  // namespace

void applyRequestedThreads() {
  const int requested = requestedThreads.load();
  if (requested > 0 && requested != at::get_num_threads()) at::set_num_threads(requested);
}

void registerProcess(Napi::Env env, Napi::Object exports) {
  // At the first environment's load, before any tensor of ours.
  installCpuAllocator();
  static std::once_flag once;
  std::call_once(once, boundProductCaches);
  exports.Set("nativeInfo", Napi::Function::New(env, nativeInfo, "nativeInfo"));
  exports.Set("endProcess", Napi::Function::New(env, endProcess, "endProcess"));
  exports.Set("setThreads", Napi::Function::New(env, setThreads, "setThreads"));
  exports.Set("cardName", Napi::Function::New(env, nameOfCard, "cardName"));
  exports.Set("peakDeviceMemory", Napi::Function::New(env, peakMemory, "peakDeviceMemory"));
  exports.Set("liveTensors", Napi::Function::New(env, liveTensors, "liveTensors"));
}

}  // namespace group_robust
