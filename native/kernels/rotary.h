#pragma once

#include <ATen/core/Tensor.h>

namespace group_robust {

/** cos and sin of every position's angles, [T, 1, headSize / 2], to be used with all heads of all layers. */
struct RotaryTable {
  at::Tensor cos;
  at::Tensor sin;
};

/**
 * Angles are position · theta^(-2i/headSize) / factor in float32 (float64 for a float64 model): bfloat16 could not tell
 * positions above 256 apart. Only their cosines and sines are cast to `dtype`.
 */
RotaryTable rotaryTable(const at::Tensor& positions, int64_t headSize, double theta, double factor,
                        at::ScalarType dtype);

/** Rotates x [T, heads, headSize]; dimension i is paired with i + headSize / 2 ("half split"). Backward keeps no x. */
at::Tensor rotate(const at::Tensor& x, const RotaryTable& table);

/** The two implementations rotate() chooses from; the table is of x's type. */
at::Tensor fusedRotate(const at::Tensor& x, const RotaryTable& table);
at::Tensor composedRotate(const at::Tensor& x, const RotaryTable& table);

}  // namespace group_robust
