#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "kernels/tree_attention.h"

namespace group_robust {

/** Token counts of a batch of trees as they cross the boundary; see NativeBatch in src/native/types.ts. */
struct PackedTokens {
  std::vector<int32_t> tokens;
  std::vector<int32_t> promptLengths;    // [trees]
  std::vector<int32_t> responseCounts;   // [trees]
  std::vector<int32_t> responseLengths;  // [responses]
};

/** What a head is asked about a response: how likely each of its tokens is, or one number at its last token. */
enum class Readout { kTokens, kLast };

/**
 * A batch of trees, ready for the model, its tensors on the model's device. T of the tokens have a row, and the head
 * takes U of those:
 *
 * - kTokens: all but the last token of each response, which is predicted but predicts nothing, have a row. The head
 *   takes those that predict at least one of the P response tokens.
 * - kLast: all have a row, and the head takes the last one of each response: U is the number of responses, P is 0.
 */
struct Batch {
  at::Tensor tokens;     // [T] int64
  at::Tensor positions;  // [T] int64; each response continues from its prompt
  std::vector<AttentionTree> trees;
  std::vector<int64_t> headCounts;  // [trees] how many of headRows are the tree's
  at::Tensor headRows;              // [U] int64, ascending
  at::Tensor predictors;            // [P] int64, index in headRows of the token before the target on its path
  at::Tensor targets;               // [P] int64, token ids
  at::Tensor responseOf;            // [P] int64
  int64_t responses;
};

/** Throws InputError on lengths that do not add up, an empty prompt or response, or an id outside [0, vocabulary). */
Batch makeBatch(const PackedTokens& packed, int64_t vocabulary, const at::Device& device, Readout readout);

}  // namespace group_robust
