#pragma once

#include <cstdint>

namespace group_robust {

/**
 * Puts an allocator before LibTorch's for the CPU, for the whole process and for good: it keeps large blocks that are
 * freed (BlockPool) and counts those in use. To be called before the first tensor; later calls do nothing.
 */
void installCpuAllocator();

/**
 * Blocks in use. A tensor's storage is one block, views share it, and an empty tensor has none, so this is what a leak
 * test needs, for intermediate tensors too.
 */
int64_t liveStorages();

}  // namespace group_robust
