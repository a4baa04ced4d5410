#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/parallel.h"
#include "kernels/rows/element.h"

/**
 * The two matrix products of a language model's head on a CPU, for few rows of hidden states [P, H] and very many of
 * weights [V, H]; the first one serves every product of a step of generation, whose rows are few (rowwise_product.h).
 * General matrix products first copy the weights into another order, which for 16 rows takes longer than the product;
 * these read the weights once, as they lie, and keep everything else in registers and cache.
 *
 * Positions come in lanes: P is padded with zeros to whole lanes.
 */
namespace group_robust {

constexpr int64_t kLanes = 16;
typedef float Lanes __attribute__((vector_size(kLanes * sizeof(float)), aligned(sizeof(float)), may_alias));

GROUP_ROBUST_ROW void loadLanes(const float* from, Lanes& to) { to = *reinterpret_cast<const Lanes*>(from); }
GROUP_ROBUST_ROW void loadLanes(const Bfloat16* from, Lanes& to) {
  for (int64_t lane = 0; lane < kLanes; ++lane) to[lane] = widen(from[lane]);
}
GROUP_ROBUST_ROW void storeLanes(float* to, const Lanes& from) { *reinterpret_cast<Lanes*>(to) = from; }

/**
 * What a product holds in registers: kRows rows of weights with one lane of positions, kPairRows with two; in backward
 * kRows rows with kPositions positions.
 */
template <int kRows, int kPairRows, int kPositions>
struct RegisterTile {};
/** For 32 registers of 16 numbers (AVX-512), and for 16 of 8. */
using WideTile = RegisterTile<8, 8, 4>;
using NarrowTile = RegisterTile<4, 2, 2>;

/** Whether GROUP_ROBUST_VECTORISED code runs with AVX-512 here. */
inline bool hasWideRegisters() {
#ifdef GROUP_ROBUST_CLONES
  static const bool wide = __builtin_cpu_supports("avx512vl") != 0;
  return wide;
#else
  return false;
#endif
}

inline GROUP_ROBUST_VECTORISED void widenNumbers(const Bfloat16* __restrict from, int64_t count, float* __restrict to) {
  for (int64_t i = 0; i < count; ++i) to[i] = widen(from[i]);
}

/** `count` weights in float32; `wide` is the thread's room for them. */
inline const float* wideWeights(const float* weight, int64_t, std::vector<float>&) { return weight; }
inline const float* wideWeights(const Bfloat16* weight, int64_t count, std::vector<float>& wide) {
  wide.resize(std::max(wide.size(), static_cast<size_t>(count)));
  widenNumbers(weight, count, wide.data());
  return wide.data();
}

/** Hidden states in the order logits are computed in: panels of up to two lanes of positions, each [H][width]. */
inline int64_t panelWidth(int64_t first, int64_t padded) { return padded - first > kLanes ? 2 * kLanes : kLanes; }

/** Terms of a logit that are summed one by one; such sums are then added up, for a smaller rounding error. */
constexpr int64_t kSummedTerms = 256;

/** logits[r][position] of kRows rows and one panel. */
template <int kRows, int kWidth>
GROUP_ROBUST_ROW void panelLogits(const float* weight, int64_t hidden, const float* panel, float* logits,
                                  int64_t padded) {
  for (int64_t begin = 0; begin < hidden; begin += kSummedTerms) {
    const int64_t end = std::min(hidden, begin + kSummedTerms);
    Lanes sums[kRows][kWidth] = {};
    for (int64_t k = begin; k < end; ++k) {
      Lanes h[kWidth];
      for (int w = 0; w < kWidth; ++w) loadLanes(panel + (k * kWidth + w) * kLanes, h[w]);
      for (int r = 0; r < kRows; ++r)
        for (int w = 0; w < kWidth; ++w) sums[r][w] += weight[r * hidden + k] * h[w];
    }
    for (int r = 0; r < kRows; ++r)
      for (int w = 0; w < kWidth; ++w) {
        Lanes before = {};
        if (begin > 0) loadLanes(logits + r * padded + w * kLanes, before);
        storeLanes(logits + r * padded + w * kLanes, before + sums[r][w]);
      }
  }
}

template <int kRows, int kWidth>
GROUP_ROBUST_ROW void panelLogits(const float* weight, int64_t rows, int64_t hidden, const float* panel, float* logits,
                                  int64_t padded) {
  int64_t r = 0;
  for (; r + kRows <= rows; r += kRows)
    panelLogits<kRows, kWidth>(weight + r * hidden, hidden, panel, logits + r * padded, padded);
  for (; r < rows; ++r) panelLogits<1, kWidth>(weight + r * hidden, hidden, panel, logits + r * padded, padded);
}

/** logits [rows, padded] = weight [rows, H] · panelsᵀ */
template <int kRows, int kPairRows, int kPositions>
GROUP_ROBUST_VECTORISED void headLogits(RegisterTile<kRows, kPairRows, kPositions>, const float* weight, int64_t rows,
                                        int64_t hidden, const float* panels, float* logits, int64_t padded) {
  for (int64_t first = 0; first < padded; first += panelWidth(first, padded)) {
    const float* panel = panels + first * hidden;
    if (panelWidth(first, padded) == kLanes)
      panelLogits<kRows, 1>(weight, rows, hidden, panel, logits + first, padded);
    else
      panelLogits<kPairRows, 2>(weight, rows, hidden, panel, logits + first, padded);
  }
}

/**
 * sums[k / 16][position][k % 16] += Σ_r gradients[r][position] · weight[r][k] for k in [k, k + 16) and kRows rows.
 * `count` < 16 at the end of a row.
 */
template <int kRows, int kPositions, class T>
GROUP_ROBUST_ROW void addRows(const T* weight, int64_t hidden, const float* gradients, int64_t padded,
                              int64_t positions, int64_t k, int64_t count, float* sums) {
  Lanes w[kRows] = {};
  for (int r = 0; r < kRows; ++r) {
    if (count == kLanes)
      loadLanes(weight + r * hidden + k, w[r]);
    else
      for (int64_t lane = 0; lane < count; ++lane) w[r][lane] = widen(weight[r * hidden + k + lane]);
  }
  for (int64_t p = 0; p < positions; p += kPositions) {
    Lanes sum[kPositions];
    for (int i = 0; i < kPositions; ++i) loadLanes(sums + (p + i) * kLanes, sum[i]);
    for (int r = 0; r < kRows; ++r)
      for (int i = 0; i < kPositions; ++i) sum[i] += gradients[r * padded + p + i] * w[r];
    for (int i = 0; i < kPositions; ++i) storeLanes(sums + (p + i) * kLanes, sum[i]);
  }
}

/** Numbers of a product's sums that one pass over some rows leaves in the cache nearest but one. */
constexpr int64_t kCachedSums = 1 << 16;
constexpr int64_t kCachedRows = 128;

/** As addRows, for all rows and the lanes [begin, end) of every row of weights. `positions` is a multiple of 4. */
template <int kRows, int kPairRows, int kPositions, class T>
GROUP_ROBUST_VECTORISED void addHeadGradient(RegisterTile<kRows, kPairRows, kPositions>, const T* weight, int64_t rows,
                                             int64_t hidden, const float* gradients, int64_t padded, int64_t positions,
                                             int64_t begin, int64_t end, float* sums) {
  const int64_t step = std::max<int64_t>(kCachedSums / (positions * kLanes), 4);
  for (int64_t top = 0; top < rows; top += kCachedRows)
    for (int64_t left = begin; left < end; left += step) {
      const int64_t bottom = std::min(rows, top + kCachedRows), right = std::min(end, left + step);
      int64_t r = top;
      for (; r + kRows <= bottom; r += kRows)
        for (int64_t lane = left; lane < right; ++lane)
          addRows<kRows, kPositions>(weight + r * hidden, hidden, gradients + r * padded, padded, positions,
                                     lane * kLanes, std::min(kLanes, hidden - lane * kLanes),
                                     sums + lane * positions * kLanes);
      for (; r < bottom; ++r)
        for (int64_t lane = left; lane < right; ++lane)
          addRows<1, kPositions>(weight + r * hidden, hidden, gradients + r * padded, padded, positions, lane * kLanes,
                                 std::min(kLanes, hidden - lane * kLanes), sums + lane * positions * kLanes);
    }
}

}  // namespace group_robust
