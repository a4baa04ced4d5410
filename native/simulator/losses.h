#pragma once

#include "simulator/vectors.h"

/**
 * The losses of src/objective/losses.ts, of the margin h, in vectors. `evaluate` gives value and dl/dh at once. `Sum`
 * adds up values of very many margins, each times `scale`: `add` takes those in the lanes that are `present` and
 * returns −dl/d(scale · h), 0 in the others; after at most kAddedAtOnce of it comes `close`, and `total` is the sum of
 * what has been closed.
 */
namespace group_robust::simulator {

constexpr int kAddedAtOnce = 64;

/** Of a loss whose values cost next to nothing; not scaled. */
template <class V, class Loss>
struct PlainSum {
  const Loss& loss;
  double total = 0;
  V values{};

  SIMULATOR_INLINE V add(V h, Mask<V> present) {
    V value, slope;
    loss.evaluate(h, value, slope);
    values += present ? value : V{};
    return present ? -slope : V{};
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

  double scale() const { return beta; }

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
   * Hardly any logarithm: Σ log(1 + e_i) = log Π (1 + e_i). Kept is Π − 1, a sum of positive numbers, so that pairs as
   * good as won, whose e_i are tiny, lose no digits. A factor is at most 2, so kAddedAtOnce of them in each of 8 lanes
   * do not overflow.
   */
  template <class V>
  struct Sum {
    const Logistic& loss;
    double total = 0;
    V values{};
    V excess{};

    SIMULATOR_INLINE V add(V u, Mask<V> present) {
      const V e = present ? exponential(negativeSize(u)) : V{};
      const Mask<V> lost = u < 0.0;
      values -= present & lost ? u : V{};
      excess += e + excess * e;
      V descent = (lost ? all<V>(1.0) : e) / (1.0 + e);
      if (loss.smoothing > 0) {
        values += present ? loss.smoothing * u : V{};
        descent -= loss.smoothing;
      }
      return present ? descent : V{};
    }
    SIMULATOR_INLINE void close() {
      const double all = fold(
          excess, [](auto a, auto b) __attribute__((always_inline)) { return a + (b + a * b); });
      total += sum(values) + std::log1p(all);
      values = excess = V{};
    }
  };
};

/** (h − c)². */
struct Square {
  double target;

  double scale() const { return 1; }

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

  double scale() const { return 1; }

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
