#include "kernels/processor.h"

#include <algorithm>
#include <atomic>

#include "kernels/parallel.h"

namespace group_robust {
namespace {

int widest() {
#ifdef GROUP_ROBUST_CLONES
  if (__builtin_cpu_supports("x86-64-v4")) return 16;
  if (__builtin_cpu_supports("x86-64-v3")) return 8;
#endif
  return 4;
}

std::atomic<int> limit{16};

}  // namespace

int registerFloats() {
  static const int here = widest();
  return std::min(here, limit.load(std::memory_order_relaxed));
}

void limitRegisters(int floats) { limit = floats; }

bool multipliesBfloat16() {
#ifdef GROUP_ROBUST_CLONES
  return registerFloats() == 16 && (__builtin_cpu_supports("avx512bf16") || __builtin_cpu_supports("amx-bf16"));
#else
  return false;
#endif
}

}  // namespace group_robust
