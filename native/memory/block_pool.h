#pragma once

#include <cstddef>
#include <deque>
#include <iterator>
#include <mutex>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace group_robust {

/**
 * Freed blocks of a mebibyte or more, kept for the next tensors of their size. The C library hands such blocks back to
 * the kernel and fetches them anew, a page fault for every 4 KiB: for an activation of 22 MB that is several times what
 * computing it takes. Layers ask for the same few sizes again and again, so a small pool serves nearly all of them.
 *
 * Holds at most kLimit bytes, the longest unused given up first. Any thread may call.
 */
class BlockPool {
 public:
  /** A kept block of at least `bytes` (and little more), or null. */
  void* take(size_t bytes) {
    if (bytes < kSmallest) return nullptr;
    std::lock_guard lock(mutex_);
    for (auto block = blocks_.rbegin(); block != blocks_.rend(); ++block) {
      if (block->size < bytes || block->size - bytes > bytes / 8) continue;
      void* data = block->data;
      kept_ -= block->size;
      blocks_.erase(std::next(block).base());
      return data;
    }
    return nullptr;
  }

  /** Keeps `data`, or frees it by `release`. */
  template <class Release>
  void give(void* data, const Release& release) {
    const size_t size = sizeOf(data);
    if (size < kSmallest || size > kLargest) return release(data);
    std::lock_guard lock(mutex_);
    blocks_.push_back({data, size});
    kept_ += size;
    while (kept_ > kLimit) {
      release(blocks_.front().data);
      kept_ -= blocks_.front().size;
      blocks_.pop_front();
    }
  }

 private:
  static constexpr size_t kSmallest = size_t{1} << 20;
  static constexpr size_t kLargest = size_t{64} << 20;  // above are weights
  static constexpr size_t kLimit = size_t{128} << 20;

  struct Block {
    void* data;
    size_t size;
  };

  /**
   * 0, so that nothing is kept, where the C library does not tell, or where LibTorch may have memory of another
   * allocator, of which the C library would tell nonsense: on ARM that is mimalloc since 2.10.
   */
  static size_t sizeOf(void* data) {
#if defined(__GLIBC__) && defined(__x86_64__)
    return malloc_usable_size(data);
#else
    return 0;
#endif
  }

  std::mutex mutex_;
  std::deque<Block> blocks_;  // the longest unused first
  size_t kept_ = 0;
};

}  // namespace group_robust
