#pragma once

#include "kernels/rows/element.h"

namespace group_robust {

/**
 * Rotates the pairs (x[i], x[i + half]) of every head by its row's angles, or back, which is the gradient.
 * Rows are positions; all heads of a row share its angles.
 */
template <class T>
struct Rotation {
  const T* x;    // [rows, heads, 2 half]
  const T* cos;  // [rows, half]
  const T* sin;  // [rows, half]
  T* y;          // [rows, heads, 2 half]
  int64_t rows;
  int64_t heads;
  int64_t half;
  float direction;  // 1, or -1 for back
};

struct Rotated {
  float first;
  float second;
};

GROUP_ROBUST_ROW Rotated rotated(float first, float second, float cos, float sin) {
  return {first * cos - second * sin, second * cos + first * sin};
}

}  // namespace group_robust
