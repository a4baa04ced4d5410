#pragma once

#include <cstdint>
#include <cstring>

/**
 * What the arithmetic of one row is written in: functions for the CPU and for CUDA alike, so that tests on a CPU cover
 * the formulas a GPU runs. Nothing below rows/ knows tensors; .cu files include it.
 */
#if defined(__CUDACC__)
#define GROUP_ROBUST_ROW __host__ __device__ __forceinline__
#else
#define GROUP_ROBUST_ROW inline __attribute__((always_inline))
#endif

namespace group_robust {

/** A bfloat16 as it lies in memory: the upper half of a float32. */
struct Bfloat16 {
  uint16_t bits;
};

template <class To, class From>
GROUP_ROBUST_ROW To bitCast(From from) {
  static_assert(sizeof(To) == sizeof(From), "bitCast between types of one size");
  To to;
  memcpy(&to, &from, sizeof(to));
  return to;
}

GROUP_ROBUST_ROW float widen(float value) { return value; }
GROUP_ROBUST_ROW float widen(Bfloat16 value) { return bitCast<float>(static_cast<uint32_t>(value.bits) << 16); }

GROUP_ROBUST_ROW void narrow(float value, float& to) { to = value; }
/** To nearest, ties to even; NaN stays NaN. */
GROUP_ROBUST_ROW void narrow(float value, Bfloat16& to) {
  const uint32_t bits = bitCast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  to.bits = static_cast<uint16_t>(value == value ? rounded : 0x7fc0);
}

/**
 * e^a for a ≤ 0 and NaN, within 2 units in the last place where a ≥ -87.3; below, e^a < 1.2e-38 is taken as 0.
 * Range reduction and polynomial of Cephes' expf, without a branch, so that loops over it become vector code.
 */
GROUP_ROBUST_ROW float expOfNegative(float a) {
#if defined(__CUDA_ARCH__)
  return expf(a);
#else
  const float rounder = 12582912;  // 1.5 · 2^23: adding it leaves the nearest whole number in the low bits
  const float shifted = a * 1.44269504f + rounder;
  const float n = shifted - rounder;
  const float r = a - n * 0.693359375f - n * -2.12194440e-4f;  // log 2 in two parts: the first product is exact
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float mantissa = p * r * r + r + 1;
  const uint32_t exponent = (bitCast<uint32_t>(shifted) + 127) << 23;  // the rounder's own bits are shifted out
  const float value = mantissa * bitCast<float>(exponent);
  return a < -87.3f ? 0 : value;
#endif
}

/** tanh, within 1.2e-7 of the range [-1, 1]. */
GROUP_ROBUST_ROW float hyperbolicTangent(float a) {
  const float e = expOfNegative(a < 0 ? 2 * a : -2 * a);
  const float value = (1 - e) / (1 + e);
  return a < 0 ? -value : value;
}

}  // namespace group_robust
