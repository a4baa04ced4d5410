#pragma once

#include <ATen/core/Tensor.h>

namespace group_robust {

/**
 * log softmax(hidden · headᵀ)[target] of every row, float64 [P]; hidden [P, H], head [V, H], targets [P] int64.
 *
 * Rows go through the vocabulary a chunk at a time, in backward again, so no [P, V] tensor ever exists. Logits are
 * widened to float32 before anything is exponentiated. Differentiable in hidden; the head is frozen.
 */
at::Tensor tokenLogProbabilities(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& targets);

}  // namespace group_robust
