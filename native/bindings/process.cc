#include "bindings/process.h"

#include <ATen/Parallel.h>
#include <c10/core/CPUAllocator.h>
#include <torch/version.h>

#include <atomic>
#include <mutex>

#ifdef GROUP_ROBUST_CUDA
#include <c10/cuda/CUDAFunctions.h>
#endif

#include "bindings/arguments.h"
#include "bindings/block_pool.h"
#include "bindings/errors.h"
#include "kernels/implementation.h"

namespace group_robust {
namespace {

/** maxThreads in src/native/types.ts, which says why. */
constexpr int kMostThreads = 1024;

std::atomic<int> requestedThreads{0};  // 0: LibTorch's own choice
std::atomic<int64_t> liveStorages{0};

/**
 * LibTorch's CPU allocator with a pool of large blocks and a count of those alive. A tensor's storage is one block,
 * views share it, and an empty tensor has none, so the count is what a leak test needs, for intermediate tensors too.
 */
class CountingAllocator final : public c10::Allocator {
 public:
  explicit CountingAllocator(c10::Allocator* base) : base_(base) { baseDelete_ = base->raw_deleter(); }

  c10::DataPtr allocate(size_t bytes) override {
    void* data = pool_->take(bytes);
    if (data == nullptr) data = base_->allocate(bytes).release_context();
    if (data != nullptr) liveStorages.fetch_add(1, std::memory_order_relaxed);
    return {data, data, &release, c10::Device(c10::kCPU)};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &release; }

  void copy_data(void* to, const void* from, size_t bytes) const override { default_copy_data(to, from, bytes); }

 private:
  static void release(void* data) {
    if (data == nullptr) return;
    liveStorages.fetch_sub(1, std::memory_order_relaxed);
    pool_->give(data, baseDelete_);
  }

  c10::Allocator* base_;
  static inline BlockPool* pool_ = new BlockPool;  // never freed, as the allocator
  static inline c10::DeleterFnPtr baseDelete_ = nullptr;
};

/** Once per process, at the first environment's load: before any tensor of ours, and never again. */
void countAllocations() {
  static std::once_flag once;
  std::call_once(once, [] {
#if defined(__GLIBC__)
    // The C library raises this threshold as it meets large blocks, and then keeps them on a heap that cannot shrink
    // past the block at its top: for Gemma-2B 0.2 GB that nobody uses. A fixed threshold maps and unmaps each.
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
#endif
    c10::Allocator* base = c10::GetCPUAllocator();
    // A base that cannot free a bare pointer cannot be wrapped; LibTorch's default can.
    if (base->raw_deleter() == nullptr) return;
    // Never freed: tensors that outlive every environment still point to it.
    c10::SetCPUAllocator(new CountingAllocator(base), 1);
  });
}

int cudaDevices() {
#ifdef GROUP_ROBUST_CUDA
  return c10::cuda::device_count();
#else
  return 0;
#endif
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
    result.Set("kernels", chosenKernels() == Kernels::kFused ? "fused" : "libtorch");
    return result;
  });
}

void setThreads(const Napi::CallbackInfo& info) {
  guarded(info.Env(),
          [&] { requestedThreads = static_cast<int>(readInteger(info[0], "setThreads count", 1, kMostThreads)); });
}

Napi::Value liveTensors(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(liveStorages.load()));
}

}  // namespace

void applyRequestedThreads() {
  const int requested = requestedThreads.load();
  if (requested > 0 && requested != at::get_num_threads()) at::set_num_threads(requested);
}

void registerProcess(Napi::Env env, Napi::Object exports) {
  countAllocations();
  exports.Set("nativeInfo", Napi::Function::New(env, nativeInfo, "nativeInfo"));
  exports.Set("setThreads", Napi::Function::New(env, setThreads, "setThreads"));
  exports.Set("liveTensors", Napi::Function::New(env, liveTensors, "liveTensors"));
}

}  // namespace group_robust
