#pragma once

#include <ATen/core/Tensor.h>

namespace group_robust {

/**
 * log softmax(z)[target] of every row, with z = hidden · headᵀ, or cap · tanh(z / cap) where cap is not 0; float64 [P];
 * hidden [P, H], head [V, H], targets [P] int64 in [0, V). Differentiable in hidden; the head is frozen, and may be of
 * a narrower type than hidden: bfloat16 weights meet float32 rows as float32.
 *
 * Goes through the vocabulary a chunk at a time, in backward again. The fused CPU kernel keeps the logits for backward
 * where they fit into kKeptLogits numbers, which saves one of three readings of the head; nothing else of [P, V]
 * outlives a chunk. Logits are float32 or better, as are the sums within a chunk; chunks meet in float64.
 */
at::Tensor tokenLogProbabilities(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& targets,
                                 double cap);

/** The two implementations tokenLogProbabilities() chooses from. */
at::Tensor fusedTokenLogProbabilities(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& targets,
                                      double cap);
at::Tensor composedTokenLogProbabilities(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& targets,
                                         double cap);

/** 32 MiB in float32: 32 rows of Gemma's vocabulary. */
constexpr int64_t kKeptLogits = int64_t{1} << 23;

}  // namespace group_robust
