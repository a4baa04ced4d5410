#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace group_robust {

/** One tree of a batch: its rows, and what each of them sees. */
struct AttentionTree {
  int64_t begin;
  int64_t length;
  at::Tensor mask;  // [length, length], added to the scores: 0 where a row sees a column, -inf elsewhere
};

/**
 * Grouped-query attention within each tree of a batch: a row sees its prompt and its own response, up to itself.
 * query [T, heads, headSize], key and value [T, keyValueHeads, headSize]; returns [T, heads · headSize].
 * Scores are scaled by headSize^-0.5; softmax in float32 or better.
 */
at::Tensor treeAttention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                         const std::vector<AttentionTree>& trees);

}  // namespace group_robust
