#include "kernels/tree_attention.h"

#include <ATen/ATen.h>

#include <cmath>

#include "kernels/precision.h"

namespace group_robust {

at::Tensor treeAttention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                         const std::vector<AttentionTree>& trees) {
  const int64_t heads = query.size(1), headSize = query.size(2), groups = key.size(1);
  const int64_t shared = heads / groups;  // query heads that share one key and value
  const double scale = 1 / std::sqrt(static_cast<double>(headSize));
  std::vector<at::Tensor> outputs;
  for (const auto& [begin, n, mask] : trees) {
    // Query head h uses key head h / shared: all of a group's query rows meet its keys in one product.
    const at::Tensor q = query.narrow(0, begin, n)
                             .view({n, groups, shared, headSize})
                             .permute({1, 2, 0, 3})
                             .reshape({groups, shared * n, headSize});
    const at::Tensor k = key.narrow(0, begin, n).transpose(0, 1);
    const at::Tensor v = value.narrow(0, begin, n).transpose(0, 1);
    const at::Tensor scores = (at::bmm(q, k.transpose(1, 2)) * scale).view({groups, shared, n, n}) + mask;
    const at::Tensor weights = at::softmax(scores, -1, accurate(scores.scalar_type())).to(query.scalar_type());
    outputs.push_back(at::bmm(weights.view({groups, shared * n, n}), v)
                          .view({groups, shared, n, headSize})
                          .permute({2, 0, 1, 3})
                          .reshape({n, heads * headSize}));
  }
  return outputs.size() == 1 ? outputs[0] : at::cat(outputs);
}

}  // namespace group_robust
