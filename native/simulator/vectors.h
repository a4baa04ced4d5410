#pragma once

#include <cmath>
#include <cstdint>

/**
 * Vectors of doubles, and the functions of them that losses and weights are made of. Everything here is inlined into
 * code that is compiled for one generation of vector instructions (see simulator.cc), never called across them.
 */
#define SIMULATOR_INLINE inline __attribute__((always_inline))

namespace group_robust::simulator {

template <int kLanes>
struct VectorOf {
  typedef double Type __attribute__((vector_size(kLanes * sizeof(double)), may_alias));
  typedef uint64_t Words __attribute__((vector_size(kLanes * sizeof(double)), may_alias));
};
/** kLanes doubles: 2 of SSE2 or NEON, 4 of AVX2, 8 of AVX-512. */
template <int kLanes>
using Vector = typename VectorOf<kLanes>::Type;

/** What comparing two such vectors gives: for each lane a 64-bit integer, 0 or −1. */
template <class V>
using Mask = decltype(V{} < V{});

template <class V>
constexpr int kLanesOf = sizeof(V) / sizeof(double);

/** As many 64-bit integers, whose sums wrap around. */
template <class V>
using Words = typename VectorOf<kLanesOf<V>>::Words;

template <class V>
SIMULATOR_INLINE V all(double value) {
  // Not V{} + value: 0 + −0 is 0.
  V result;
  for (int lane = 0; lane < kLanesOf<V>; ++lane) result[lane] = value;
  return result;
}
template <class V>
SIMULATOR_INLINE V load(const double* from) {
  V result;
  __builtin_memcpy(&result, from, sizeof result);
  return result;
}
template <class V>
SIMULATOR_INLINE void store(double* to, V value) {
  __builtin_memcpy(to, &value, sizeof value);
}
template <class V>
SIMULATOR_INLINE V negativeSize(V x) {
  return (V)((Words<V>)x | (Words<V>)all<V>(-0.0));
}
template <class V>
SIMULATOR_INLINE V squareRoot(V x) {
  for (int lane = 0; lane < kLanesOf<V>; ++lane) x[lane] = __builtin_sqrt(x[lane]);
  return x;
}
/** All lanes joined by `join`, which takes two vectors or two numbers: halves, quarters and so on, a short chain. */
template <class V, class Join>
SIMULATOR_INLINE double fold(V x, const Join& join) {
  if constexpr (kLanesOf<V> == 2) {
    return join(double(x[0]), double(x[1]));
  } else {
    Vector<kLanesOf<V> / 2> halves[2];
    __builtin_memcpy(halves, &x, sizeof x);
    return fold(join(halves[0], halves[1]), join);
  }
}
template <class V>
SIMULATOR_INLINE double sum(V x) {
  return fold(
      x, [](auto a, auto b) __attribute__((always_inline)) { return a + b; });
}
template <class V>
SIMULATOR_INLINE bool any(Mask<V> mask) {
  int64_t result = 0;
  for (int lane = 0; lane < kLanesOf<V>; ++lane) result |= mask[lane];
  return result != 0;
}

/** Adding 1.5 · 2⁵² rounds to the nearest whole number, which then stands in the low bits. */
constexpr double kRounder = 6755399441055744.0;

/**
 * e^x for x ≤ 0, within 1e-15 relatively; 0 below −708, where the result would be subnormal; NaN stays NaN.
 *
 * x = n ln 2 + r, |r| ≤ ln 2 / 2, so e^x = 2ⁿ e^r; e^r − 1 is r times the polynomial of degree 9 that agrees with it in
 * Chebyshev's ten points.
 */
template <class V>
SIMULATOR_INLINE V exponential(V x) {
  const V shifted = x * 1.4426950408889634 + kRounder;
  const V n = shifted - kRounder;
  // ln 2 in two parts; the first has 32 significant bits, so that its product with n is exact.
  const V r = (x - n * 0.6931471803691238) - n * 1.9082149292705877e-10;
  const V r2 = r * r;
  const V r4 = r2 * r2;
  const V low = (1.0 + r * 0.5) + r2 * (0.16666666666615648 + r * 0.041666666666624164);
  const V middle =
      (0.008333333367311624 + r * 0.0013888888917196736) + r2 * (0.00019841190647512536 + r * 2.480152132234228e-05);
  const V high = 2.763264069051338e-06 + r * 2.7620075892548164e-07;
  const V excess = r * (low + r4 * (middle + r4 * high));
  const V scale = (V)(((Words<V>)shifted << 52) + (Words<V>)all<V>(1.0));
  return x < -708.0 ? V{} : scale + scale * excess;
}

/**
 * log(1 + e) for e in [0, 1], within 1e-15 relatively, given s = e / (2 + e) ≤ 1/3: it is 2 artanh s, and artanh(s) / s
 * is a polynomial of degree 9 in s², which agrees with it in Chebyshev's ten points.
 */
template <class V>
SIMULATOR_INLINE V logarithmOf1Plus(V s) {
  const V w = s * s;
  const V w2 = w * w;
  const V w4 = w2 * w2;
  const V low = (2.0 + w * 0.6666666666668257) + w2 * (0.399999999952876 + w * 0.2857142911165716);
  const V middle =
      (0.22222190861346283 + w * 0.1818285980047391) + w2 * (0.15363676248891633 + w * 0.13591305485579894);
  const V high = 0.09880789048764786 + w * 0.17780763826113302;
  return s * (low + w4 * (middle + w4 * high));
}

}  // namespace group_robust::simulator
