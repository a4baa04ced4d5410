#include "kernels/cached_attention.h"

#include <ATen/ATen.h>

namespace group_robust {

at::Tensor cachedAttention(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values, double scale,
                           double cap) {
  const int64_t groups = keys.size(0), headSize = keys.size(2);
  // Query head h uses key head h / shared, so those of one key head make one matrix.
  const at::Tensor rows = query.to(keys.scalar_type()).view({groups, -1, headSize});
  at::Tensor scores = at::bmm(rows, keys.transpose(1, 2)).mul_(scale);  // [groups, shared, n]
  if (cap != 0) scores.div_(cap).tanh_().mul_(cap);
  return at::bmm(at::softmax(scores, -1), values).view({-1}).to(query.scalar_type());
}

}  // namespace group_robust
