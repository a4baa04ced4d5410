#pragma once

#include <ATen/core/Tensor.h>

namespace group_robust {

/**
 * Grouped-query attention of one row, a sequence's newest token, to keys and values that are all seen: query
 * [heads, headSize], keys and values [keyValueHeads, n, headSize] in float32 or better; [heads · headSize] of the
 * query's type. The same scale and cap as treeAttention's.
 */
at::Tensor cachedAttention(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values, double scale,
                           double cap);

}  // namespace group_robust
