#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <vector>

namespace group_robust {

/** One tree of a batch: the rows of a prompt, then of each response that continues it. */
struct AttentionTree {
  int64_t begin;                   // first row in the batch
  int64_t length;                  // rows
  int64_t prompt;                  // rows of the prompt, at least 1
  std::vector<int64_t> responses;  // rows of each response, at least 1
};

struct AttentionSettings {
  double scale;    // of the scores
  double cap;      // scaled scores become cap · tanh(score / cap); 0: as they are
  int64_t window;  // keys a row sees, itself included; 0: all of its path
};

/** By window: of each tree the columns that its rows do not see, [length, length] bool. */
using TreeMasks = std::map<int64_t, std::vector<at::Tensor>>;

/**
 * Grouped-query attention within each tree of a batch: a row sees its prompt and its own response, up to itself, or the
 * last `window` of these. query [T, heads, headSize], key and value [T, keyValueHeads, headSize]; returns [T, heads ·
 * headSize]. Softmax in float32 or better.
 *
 * The fused implementation works through tiles of rows, so that no more scores exist at once than a tile's, and most of
 * those that no row may see are never computed. Backward keeps query, key and value only and computes the softmax
 * again. `masks` are those of these trees that another layer has made, and gets what is missing.
 */
at::Tensor treeAttention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                         const std::vector<AttentionTree>& trees, TreeMasks& masks, const AttentionSettings& settings);

/** The two implementations treeAttention() chooses from: in tiles, on a CPU only, and with a dense mask a tree. */
at::Tensor fusedTreeAttention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                              const std::vector<AttentionTree>& trees, const AttentionSettings& settings);
at::Tensor composedTreeAttention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                                 const std::vector<AttentionTree>& trees, TreeMasks& masks,
                                 const AttentionSettings& settings);

}  // namespace group_robust
