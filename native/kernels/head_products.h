#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/parallel.h"
#include "kernels/processor.h"
#include "kernels/rows/lanes.h"

/**
 * The two matrix products of a language model's head on a CPU, for few rows of hidden states [P, H] and very many of
 * weights [V, H]; the first one serves every product of a step of generation, whose rows are few (rowwise_product.h).
 * General matrix products first copy the weights into another order, which for 16 rows takes longer than the product;
 * these read the weights once, as they lie, and keep everything else in registers and cache.
 *
 * Positions come in lanes: P is padded with zeros to whole lanes.
 */
namespace group_robust {

/**
 * What a product holds in registers of kFloats numbers: kRows rows of weights with one lane of positions, kPairRows
 * with two; in backward kRows rows with kPositions positions.
 */
template <int kFloats, int kRows, int kPairRows, int kPositions>
struct RegisterTile {};

/** f(tile) with the tile for the registers there are: 32 of 16 numbers, or 16 of 8 or 4. */
template <class F>
void withRegisterTile(const F& f) {
  if (registerFloats() >= 16)
    f(RegisterTile<16, 8, 8, 4>());
  else if (registerFloats() >= 8)
    f(RegisterTile<8, 6, 3, 2>());
  else
    f(RegisterTile<4, 3, 1, 1>());
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

/** logits[r][position] of kRows rows and one panel, which is kRegisters wide. */
template <int kFloats, int kRows, int kRegisters>
GROUP_ROBUST_ROW void panelLogits(const float* weight, int64_t hidden, const float* panel, float* logits,
                                  int64_t padded) {
  for (int64_t begin = 0; begin < hidden; begin += kSummedTerms) {
    const int64_t end = std::min(hidden, begin + kSummedTerms);
    Register<kFloats> sums[kRows][kRegisters] = {};
    for (int64_t k = begin; k < end; ++k) {
      Register<kFloats> h[kRegisters];
      for (int w = 0; w < kRegisters; ++w) load<kFloats>(panel + (k * kRegisters + w) * kFloats, h[w]);
      for (int r = 0; r < kRows; ++r)
        for (int w = 0; w < kRegisters; ++w) sums[r][w] += weight[r * hidden + k] * h[w];
    }
    for (int r = 0; r < kRows; ++r)
      for (int w = 0; w < kRegisters; ++w) {
        Register<kFloats> before = {};
        if (begin > 0) load<kFloats>(logits + r * padded + w * kFloats, before);
        store<kFloats>(logits + r * padded + w * kFloats, before + sums[r][w]);
      }
  }
}

template <int kFloats, int kRows, int kRegisters>
GROUP_ROBUST_ROW void panelLogits(const float* weight, int64_t rows, int64_t hidden, const float* panel, float* logits,
                                  int64_t padded) {
  int64_t r = 0;
  for (; r + kRows <= rows; r += kRows)
    panelLogits<kFloats, kRows, kRegisters>(weight + r * hidden, hidden, panel, logits + r * padded, padded);
  for (; r < rows; ++r)
    panelLogits<kFloats, 1, kRegisters>(weight + r * hidden, hidden, panel, logits + r * padded, padded);
}

/** logits [rows, padded] = weight [rows, H] · panelsᵀ */
template <int kFloats, int kRows, int kPairRows, int kPositions>
GROUP_ROBUST_VECTORISED void headLogits(RegisterTile<kFloats, kRows, kPairRows, kPositions>, const float* weight,
                                        int64_t rows, int64_t hidden, const float* panels, float* logits,
                                        int64_t padded) {
  for (int64_t first = 0; first < padded; first += panelWidth(first, padded)) {
    const float* panel = panels + first * hidden;
    if (panelWidth(first, padded) == kLanes)
      panelLogits<kFloats, kRows, kLanes / kFloats>(weight, rows, hidden, panel, logits + first, padded);
    else
      panelLogits<kFloats, kPairRows, 2 * kLanes / kFloats>(weight, rows, hidden, panel, logits + first, padded);
  }
}

/**
 * sums[k / 16][position][k % 16] += Σ_r gradients[r][position] · weight[r][k] for k in [k, k + 16) and kRows rows.
 * `count` < 16 at the end of a row.
 */
template <int kFloats, int kRows, int kPositions, class T>
GROUP_ROBUST_ROW void addRows(const T* weight, int64_t hidden, const float* gradients, int64_t padded,
                              int64_t positions, int64_t k, int64_t count, float* sums) {
  constexpr int kRegisters = kLanes / kFloats;
  Register<kFloats> w[kRows][kRegisters] = {};
  for (int r = 0; r < kRows; ++r) {
    const T* from = weight + r * hidden + k;
    if (count == kLanes)
      for (int i = 0; i < kRegisters; ++i) load<kFloats>(from + i * kFloats, w[r][i]);
    else
      for (int64_t lane = 0; lane < count; ++lane) w[r][lane / kFloats][lane % kFloats] = widen(from[lane]);
  }
  for (int64_t p = 0; p < positions; p += kPositions) {
    Register<kFloats> sum[kPositions][kRegisters];
    for (int i = 0; i < kPositions; ++i)
      for (int j = 0; j < kRegisters; ++j) load<kFloats>(sums + (p + i) * kLanes + j * kFloats, sum[i][j]);
    for (int r = 0; r < kRows; ++r)
      for (int i = 0; i < kPositions; ++i)
        for (int j = 0; j < kRegisters; ++j) sum[i][j] += gradients[r * padded + p + i] * w[r][j];
    for (int i = 0; i < kPositions; ++i)
      for (int j = 0; j < kRegisters; ++j) store<kFloats>(sums + (p + i) * kLanes + j * kFloats, sum[i][j]);
  }
}

/** Numbers of a product's sums that one pass over some rows leaves in the cache nearest but one. */
constexpr int64_t kCachedSums = 1 << 16;
constexpr int64_t kCachedRows = 128;

/** As addRows, for all rows and the lanes [begin, end) of every row of weights. `positions` is a multiple of 4. */
template <int kFloats, int kRows, int kPairRows, int kPositions, class T>
GROUP_ROBUST_VECTORISED void addHeadGradient(RegisterTile<kFloats, kRows, kPairRows, kPositions>, const T* weight,
                                             int64_t rows, int64_t hidden, const float* gradients, int64_t padded,
                                             int64_t positions, int64_t begin, int64_t end, float* sums) {
  const int64_t step = std::max<int64_t>(kCachedSums / (positions * kLanes), 4);
  for (int64_t top = 0; top < rows; top += kCachedRows)
    for (int64_t left = begin; left < end; left += step) {
      const int64_t bottom = std::min(rows, top + kCachedRows), right = std::min(end, left + step);
      int64_t r = top;
      for (; r + kRows <= bottom; r += kRows)
        for (int64_t lane = left; lane < right; ++lane)
          addRows<kFloats, kRows, kPositions>(weight + r * hidden, hidden, gradients + r * padded, padded, positions,
                                              lane * kLanes, std::min(kLanes, hidden - lane * kLanes),
                                              sums + lane * positions * kLanes);
      for (; r < bottom; ++r)
        for (int64_t lane = left; lane < right; ++lane)
          addRows<kFloats, 1, kPositions>(weight + r * hidden, hidden, gradients + r * padded, padded, positions,
                                          lane * kLanes, std::min(kLanes, hidden - lane * kLanes),
                                          sums + lane * positions * kLanes);
    }
}

}  // namespace group_robust
