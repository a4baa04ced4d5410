#pragma once

#include "kernels/rows/element.h"

#if !defined(__CUDACC__)
#include <cmath>
#endif

namespace group_robust {

/** y = x · inverse · (1 + weight), inverse = 1 / sqrt(mean(x²) + epsilon) of each row. */
template <class T>
struct RmsNormForward {
  const T* x;       // [rows, columns]
  const T* weight;  // [columns]
  T* y;             // [rows, columns]
  float* inverse;   // [rows], for backward; null where there is none
  int64_t rows;
  int64_t columns;
  float epsilon;
};

/** dx from dy; the weight is frozen. */
template <class T>
struct RmsNormBackward {
  const T* x;
  const T* weight;
  const float* inverse;
  const T* dy;
  T* dx;
  int64_t rows;
  int64_t columns;
};

GROUP_ROBUST_ROW float inverseRms(float sumOfSquares, int64_t columns, float epsilon) {
  return 1 / sqrtf(sumOfSquares / static_cast<float>(columns) + epsilon);
}

GROUP_ROBUST_ROW float rmsNormValue(float x, float weight, float inverse) { return x * inverse * (1 + weight); }

/** Summed over a row: the product of x with the gradient that reaches x / rms. */
GROUP_ROBUST_ROW float rmsNormProduct(float x, float weight, float dy) { return dy * (1 + weight) * x; }

/** What the row's inverse moves by, as x's share of it: inverse² / columns · Σ rmsNormProduct. */
GROUP_ROBUST_ROW float rmsNormShare(float product, int64_t columns, float inverse) {
  return product * inverse * inverse / static_cast<float>(columns);
}

GROUP_ROBUST_ROW float rmsNormGradient(float x, float weight, float dy, float inverse, float share) {
  return inverse * (dy * (1 + weight) - x * share);
}

}  // namespace group_robust
