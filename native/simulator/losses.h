#pragma once

#include "simulator/vectors.h"

/**
 * The losses of src/objective/losses.ts, of the margin h, in vectors. `evaluate` gives value and dl/dh at once. `Sum` adds up values of
 * very many margins: `add` takes those in the lanes that are `present` and returns their dl/dh, 0 in the others; after at most
 * kAddedAtOnce of it comes `close`, and `total` is the sum of what has been closed.
 */
namespace group_robust::simulator {

constexpr int kAddedAtOnce = 64;

/** Of a loss whose values cost next to nothing. */
template <class V, class Loss>
struct PlainSum {
  double total = 0;
  V values{};

  SIMULATOR_INLINE V add(const Loss& loss, V h, Mask<V> present) {
    V value, slope;
    loss.evaluate(h, value, slope);
    values += present ? value : V{};
    return present ? slope : V{};
  }
  SIMULATOR_INLINE void close() {
    total += sum(values);
    values = V{};
  }
};

/** softplus(−βh) + εβh. */
struct Logistic {
  double beta;
  double smoothing;

  template <class V>
  SIMULATOR_INLINE void evaluate(V h, V& value, V& slope) const {
    const V z = -beta * h;
    const V e = exponential(negativeSize(z));
    // One division for both 1/(1 + e) and 1/(2 + e).
    const V one = 1.0 + e;
    const V two = 2.0 + e;
    const V both = 1.0 / (one * two);
    const Mask<V> lost = z >= 0.0;
    slope = beta * (smoothing - (lost ? all<V>(1.0) : e) * (two * both));
    value = (lost ? z : V{}) + logarithmOf1Plus(e * (one * both)) - smoothing * z;
  }

  /**
   * Hardly any logarithm: Σ log(1 + e_i) = log Π (1 + e_i). Kept is Π − 1, a sum of positive numbers, so that pairs as good as won, whose
   * e_i are tiny, lose no digits. A factor is at most 2, so kAddedAtOnce of them in each of 8 lanes do not overflow.
   */
  template <class V>
  struct Sum {
    double total = 0;
    V values{};
    V excess{};

    SIMULATOR_INLINE V add(const Logistic& loss, V h, Mask<V> present) {
      const V z = -loss.beta * h;
      const V e = present ? exponential(negativeSize(z)) : V{};
      const Mask<V> lost = z >= 0.0;
      values += present ? (lost ? z : V{}) - loss.smoothing * z : V{};
      excess += e + excess * e;
      const V slope = loss.beta * (loss.smoothing - (lost ? all<V>(1.0) : e) / (1.0 + e));
      return present ? slope : V{};
    }
    SIMULATOR_INLINE void close() {
      double all = 0;
      for (int lane = 0; lane < kLanesOf<V>; ++lane) all += excess[lane] + all * excess[lane];
      total += sum(values) + std::log1p(all);
      values = excess = V{};
    }
  };
};

/** (h − c)². */
struct Square {
  double target;

  template <class V>
  SIMULATOR_INLINE void evaluate(V h, V& value, V& slope) const {
    const V excess = h - target;
    value = excess * excess;
    slope = 2.0 * excess;
  }

  template <class V>
  using Sum = PlainSum<V, Square>;
};

/** max(0, 1 − βh). */
struct Hinge {
  double beta;

  template <class V>
  SIMULATOR_INLINE void evaluate(V h, V& value, V& slope) const {
    const V short_of = 1.0 - beta * h;
    // NaN is not at or below 0, so it stays.
    value = short_of <= 0.0 ? V{} : short_of;
    slope = beta * h < 1.0 ? all<V>(-beta) : V{};
  }

  template <class V>
  using Sum = PlainSum<V, Hinge>;
};

}  // namespace group_robust::simulator
