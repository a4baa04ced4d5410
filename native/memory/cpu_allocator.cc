#include "memory/cpu_allocator.h"

#include <c10/core/CPUAllocator.h>

#include <atomic>
#include <mutex>

#include "memory/block_pool.h"

namespace group_robust {
namespace {

std::atomic<int64_t> live{0};

class PoolingAllocator final : public c10::Allocator {
 public:
  explicit PoolingAllocator(c10::Allocator* base) : base_(base) { baseDelete_ = base->raw_deleter(); }

  c10::DataPtr allocate(size_t bytes) override {
    void* data = pool_->take(bytes);
    if (data == nullptr) data = base_->allocate(bytes).release_context();
    if (data != nullptr) live.fetch_add(1, std::memory_order_relaxed);
    return {data, data, &release, c10::Device(c10::kCPU)};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &release; }

  void copy_data(void* to, const void* from, size_t bytes) const override { default_copy_data(to, from, bytes); }

 private:
  static void release(void* data) {
    if (data == nullptr) return;
    live.fetch_sub(1, std::memory_order_relaxed);
    pool_->give(data, baseDelete_);
  }

  c10::Allocator* base_;
  static inline BlockPool* pool_ = new BlockPool;  // never freed, as the allocator
  static inline c10::DeleterFnPtr baseDelete_ = nullptr;
};

}  // namespace

void installCpuAllocator() {
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
    c10::SetCPUAllocator(new PoolingAllocator(base), 1);
  });
}

int64_t liveStorages() { return live.load(); }

}  // namespace group_robust
