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

/**
 * A batch of trees, ready for the model, its tensors on the model's device. Of the tokens, T have a row: all but the
 * last one of each response, which is predicted but predicts nothing. Of those, U predict at least one of the P
 * response tokens.
 */
struct Batch {
  at::Tensor tokens;     // [T] int64
  at::Tensor positions;  // [T] int64; each response continues from its prompt
  std::vector<AttentionTree> trees;
  std::vector<int64_t> predicting;  // [trees] how many of predictorRows are the tree's
  at::Tensor predictorRows;         // [U] int64, ascending
  at::Tensor predictors;            // [P] int64, index in predictorRows of the token before the target on its path
  at::Tensor targets;               // [P] int64, token ids
  at::Tensor responseOf;            // [P] int64
  int64_t responses;
};

/** Throws InputError on lengths that do not add up, an empty prompt or response, or an id outside [0, vocabulary). */
Batch makeBatch(const PackedTokens& packed, int64_t vocabulary, const at::Device& device);

}  // namespace group_robust
