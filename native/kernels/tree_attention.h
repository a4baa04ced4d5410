#pragma once

#include <ATen/core/Tensor.h>

#include "gemma/batch.h"

namespace group_robust {

/**
 * Grouped-query attention within each tree of a batch: a row sees its prompt and its own response, up to itself.
 * query [T, heads, headSize], key and value [T, keyValueHeads, headSize]; returns [T, heads · headSize].
 * Scores are scaled by headSize^-0.5; softmax in float32 or better.
 */
at::Tensor treeAttention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value, const Batch& batch);

}  // namespace group_robust
