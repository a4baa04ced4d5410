#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>

/**
 * On a function (or template) with plain loops: compiled once for each generation of vector instructions, the best one
 * for the processor taken when the addon is loaded. What the loops call must be inlined, so that it is compiled with
 * them.
 */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define GROUP_ROBUST_CLONES 1
#define GROUP_ROBUST_VECTORISED __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define GROUP_ROBUST_VECTORISED
#endif

#define GROUP_ROBUST_INLINE __attribute__((always_inline))

namespace group_robust {

/** Below so many numbers for each thread, waking another one costs more than it saves. */
constexpr int64_t kNumbersPerThread = 1 << 15;

/**
 * f(begin, end) over runs of rows of `columns` numbers, on LibTorch's threads. A row is never split, so results do not
 * depend on the number of threads.
 */
template <class F>
void parallelRows(int64_t rows, int64_t columns, const F& f) {
  at::parallel_for(0, rows, std::max<int64_t>(1, kNumbersPerThread / std::max<int64_t>(1, columns)), f);
}

/**
 * f(begin, end) over stretches of `size` numbers. They begin at multiples of a block, so that each number has its place
 * in the vector loop, or in its remainder, whatever the number of threads.
 */
template <class F>
void parallelNumbers(int64_t size, const F& f) {
  constexpr int64_t kBlock = 1024;
  parallelRows((size + kBlock - 1) / kBlock, kBlock,
               [&](int64_t begin, int64_t end) { f(begin * kBlock, std::min(size, end * kBlock)); });
}

constexpr int64_t kSumLanes = 32;

/**
 * Σ term(i) for i in [0, n) in kSumLanes partial sums: vector code without permission to reorder, always in the same
 * order, and with an error that grows with n / kSumLanes. `term` must be inlined.
 */
template <class Term>
inline GROUP_ROBUST_INLINE auto laneSum(int64_t n, const Term& term) {
  decltype(term(n)) lanes[kSumLanes] = {};
  int64_t i = 0;
  for (; i + kSumLanes <= n; i += kSumLanes)
    for (int64_t lane = 0; lane < kSumLanes; ++lane) lanes[lane] += term(i + lane);
  for (int64_t lane = 0; i < n; ++i, ++lane) lanes[lane] += term(i);
  for (int64_t width = kSumLanes / 2; width > 0; width /= 2)
    for (int64_t lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  return lanes[0];
}

}  // namespace group_robust
