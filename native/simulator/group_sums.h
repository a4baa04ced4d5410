#pragma once

#include <algorithm>
#include <cstdint>

#include "simulator/losses.h"

/** Loss and gradient of all pairs of a group at once, for steps on the full batch (src/bandit/training.ts). */
namespace group_robust::simulator {

/** Columns are padded to whole vectors of any width. */
constexpr int64_t kPadding = 8;

struct GroupPairs {
  int64_t count;
  int64_t dimension;
  const double* columns;  // [dimension × count rounded up to kPadding], column j holds d_ij of all pairs i
  const double* offsets;  // [count rounded up] o_i, or null: all are 0
};

/**
 * Returns Σ l(h_i), h_i = ⟨d_i, θ⟩ − o_i, and puts Σ l'(h_i) d_i into `gradient`. One pass: reads 8 · dimension bytes a
 * pair. kDimension is the dimension, or 0: any.
 */
template <class V, int kDimension, class Loss>
SIMULATOR_INLINE double sumGroup(const Loss& loss, const GroupPairs& pairs, const double* theta, double* gradient) {
  constexpr int kLanes = kLanesOf<V>;
  const int64_t dimension = kDimension > 0 ? kDimension : pairs.dimension;
  const int64_t stride = (pairs.count + kPadding - 1) / kPadding * kPadding;
  const double scale = loss.scale();
  typename Loss::template Sum<V> losses{loss};
  V sums[kDimension > 0 ? kDimension : 1]{};
  if constexpr (kDimension == 0)
    for (int64_t j = 0; j < dimension; ++j) gradient[j] = 0;

  const auto add = [&](int64_t i, Mask<V> present) __attribute__((always_inline)) {
    V u = pairs.offsets ? -scale * load<V>(pairs.offsets + i) : V{};
    for (int64_t j = 0; j < dimension; ++j) u += scale * theta[j] * load<V>(pairs.columns + j * stride + i);
    const V descent = losses.add(u, present);
    for (int64_t j = 0; j < dimension; ++j) {
      const V pull = descent * load<V>(pairs.columns + j * stride + i);
      if constexpr (kDimension > 0)
        sums[j] -= pull;
      else
        gradient[j] -= scale * sum(pull);
    }
  };
  const int64_t whole = pairs.count / kLanes * kLanes;
  int64_t i = 0;
  do {
    // The last stretch takes the rest with it.
    const int64_t end = std::min(whole, i + (kAddedAtOnce - 1) * kLanes);
    for (; i < end; i += kLanes) add(i, ~Mask<V>{});
    if (i == whole && i < pairs.count) {
      Mask<V> present;
      for (int lane = 0; lane < kLanes; ++lane) present[lane] = i + lane < pairs.count ? -1 : 0;
      add(i, present);
    }
    losses.close();
  } while (i < whole);
  for (int64_t j = 0; j < kDimension; ++j) gradient[j] = scale * sum(sums[j]);
  return losses.total;
}

}  // namespace group_robust::simulator
