#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "kernels/tree_attention.h"

namespace group_robust {

/**
 * A batch of trees as sequences for an attention kernel of variable lengths: one a prompt, one a response. Queries are
 * the batch's rows as they lie. The keys of a response are its prompt's and its own, so a prompt's keys and values are
 * gathered once more for each of its responses: with one key head of 256 numbers that is 1 KB a row, where the MLP
 * keeps 64 KB. Causal masks are aligned to the last key: row i of a response sees its prompt and its own rows up to i.
 */
struct SequencePlan {
  at::Tensor queryStarts, keyStarts;  // [sequences + 1] int32: rows of the batch, places in keyRows
  at::Tensor keyRows;                 // [keys] int64: the batch's row of each gathered key
  int64_t longestQuery = 0, longestKey = 0;
};

SequencePlan planSequences(const std::vector<AttentionTree>& trees, const at::Device& device);

/** Whether sequenceAttention() computes this: on a GPU flash attention takes bfloat16 and no cap; a CPU takes all. */
bool takesSequences(const at::Tensor& query, const AttentionSettings& settings);

/**
 * As treeAttention(). On a GPU one call of flash attention, whose sums have a fixed order where LibTorch is told to be
 * deterministic; on a CPU plain operations for each sequence, which show that the plan is right.
 */
at::Tensor sequenceAttention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                             const SequencePlan& plan, const AttentionSettings& settings);

}  // namespace group_robust
