#pragma once

#include "kernels/rows/element.h"

namespace group_robust {

/** y = gelu(gate) · up over `size` numbers. */
template <class T>
struct GegluForward {
  const T* gate;
  const T* up;
  T* y;
  int64_t size;
};

/** Gradients of both factors, from dy. */
template <class T>
struct GegluBackward {
  const T* gate;
  const T* up;
  const T* dy;
  T* dgate;
  T* dup;
  int64_t size;
};

struct Gelu {
  float value;
  float slope;
};

/**
 * GELU in its tanh form, 0.5 x (1 + tanh u) with u = √(2/π) (x + 0.044715 x³), and its derivative.
 *
 * 0.5 (1 + tanh u) is the logistic function of 2u. Written with e^-|2u| it neither overflows nor cancels: the relative
 * error stays small also where tanh u rounds to -1.
 */
GROUP_ROBUST_ROW Gelu gelu(float x) {
  const float doubled = 1.5957691216f * x;  // 2 √(2/π) x
  const float square = x * x;
  const float inner = doubled * (1 + 0.044715f * square);  // 2u
  const float e = expOfNegative(inner < 0 ? inner : -inner);
  const float r = 1 / (1 + e);
  const float gate = inner < 0 ? e * r : r;  // logistic(2u)
  const float bell = e * r * r;              // its derivative
  // Where the bell is 0 its factor may be infinite; the product's limit is 0.
  const float slope = bell > 0 ? bell * (doubled * (1 + 3 * 0.044715f * square)) : 0;
  return {x * gate, gate + slope};
}

GROUP_ROBUST_ROW float gegluValue(float gate, float up) { return gelu(gate).value * up; }

struct GegluGradient {
  float gate;
  float up;
};

GROUP_ROBUST_ROW GegluGradient gegluGradient(float gate, float up, float dy) {
  const Gelu g = gelu(gate);
  return {dy * up * g.slope, dy * g.value};
}

}  // namespace group_robust
