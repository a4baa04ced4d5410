#include "kernels/sequence_attention.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <tuple>

#ifdef GROUP_ROBUST_CUDA
#include <c10/cuda/CUDAException.h>
#endif

#include "kernels/gather.h"
#include "kernels/precision.h"
#include "kernels/upload.h"

namespace group_robust {
namespace {

/** Of one sequence: query [q, heads, headSize], key and value [k, keyValueHeads, headSize] to [q, heads · headSize]. */
at::Tensor plainAttention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                          const AttentionSettings& settings) {
  const int64_t rows = query.size(0), keys = key.size(0), shared = query.size(1) / key.size(1);
  const at::ScalarType precise = accurate(query.scalar_type());
  const auto perHead = [&](const at::Tensor& x) {
    return x.to(precise).repeat_interleave(shared, 1).transpose(0, 1);  // [heads, k, headSize]
  };
  at::Tensor scores = at::bmm(query.to(precise).transpose(0, 1), perHead(key).transpose(1, 2)) * settings.scale;
  if (settings.cap != 0) scores = at::tanh(scores / settings.cap) * settings.cap;
  // How many keys lie between a row's own and a column's: below 0 for what comes later.
  const at::Tensor distance = at::arange(keys - rows, keys).unsqueeze(1) - at::arange(keys).unsqueeze(0);
  at::Tensor unseen = distance.lt(0);
  if (settings.window > 0) unseen = unseen.logical_or(distance.ge(settings.window));
  const at::Tensor weights =
      at::softmax(scores.masked_fill(unseen, -std::numeric_limits<double>::infinity()), -1);  // [heads, q, k]
  return at::bmm(weights, perHead(value)).transpose(0, 1).flatten(1).to(query.scalar_type());
}

at::Tensor attendOnCpu(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
                       const SequencePlan& plan, const AttentionSettings& settings) {
  const auto* queryStarts = plan.queryStarts.const_data_ptr<int32_t>();
  const auto* keyStarts = plan.keyStarts.const_data_ptr<int32_t>();
  std::vector<at::Tensor> outputs;
  for (int64_t i = 0; i + 1 < plan.queryStarts.size(0); ++i)
    outputs.push_back(plainAttention(query.slice(0, queryStarts[i], queryStarts[i + 1]),
                                     keys.slice(0, keyStarts[i], keyStarts[i + 1]),
                                     values.slice(0, keyStarts[i], keyStarts[i + 1]), settings));
  return at::cat(outputs);
}

/** From the generation of the A100 on. */
bool hasFlashAttention(const at::Device& device) {
#ifdef GROUP_ROBUST_CUDA
  int major = 0;
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device.index()));
  return major >= 8;
#else
  return false;
#endif
}

at::Tensor flashAttention(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
                          const SequencePlan& plan, const AttentionSettings& settings) {
  // Keys to the left of a row's own.
  const auto left = settings.window > 0 ? std::optional<int64_t>(settings.window - 1) : std::nullopt;
  const auto right = settings.window > 0 ? std::optional<int64_t>(0) : std::nullopt;
  return std::get<0>(at::_flash_attention_forward(
                         query, keys, values, plan.queryStarts, plan.keyStarts, plan.longestQuery, plan.longestKey,
                         /*dropout_p=*/0, /*is_causal=*/true, /*return_debug_mask=*/false, settings.scale, left, right))
      .flatten(1);
}

}  // namespace

SequencePlan planSequences(const std::vector<AttentionTree>& trees, const at::Device& device) {
  SequencePlan plan;
  std::vector<int32_t> queryStarts{0}, keyStarts{0};
  std::vector<int64_t> keyRows;
  const auto addKeys = [&](int64_t begin, int64_t count) {
    for (int64_t i = 0; i < count; ++i) keyRows.push_back(begin + i);
  };
  const auto endSequence = [&](int64_t ownRows) {
    queryStarts.push_back(queryStarts.back() + static_cast<int32_t>(ownRows));
    plan.longestQuery = std::max(plan.longestQuery, ownRows);
    plan.longestKey = std::max(plan.longestKey, static_cast<int64_t>(keyRows.size()) - keyStarts.back());
    keyStarts.push_back(static_cast<int32_t>(keyRows.size()));
  };
  for (const AttentionTree& tree : trees) {
    addKeys(tree.begin, tree.prompt);
    endSequence(tree.prompt);
    int64_t begin = tree.begin + tree.prompt;
    for (const int64_t rows : tree.responses) {
      addKeys(tree.begin, tree.prompt);
      addKeys(begin, rows);
      endSequence(rows);
      begin += rows;
    }
  }
  plan.queryStarts = uploaded(at::tensor(queryStarts, at::TensorOptions(at::kInt)), device);
  plan.keyStarts = uploaded(at::tensor(keyStarts, at::TensorOptions(at::kInt)), device);
  plan.keyRows = uploaded(at::tensor(keyRows, at::TensorOptions(at::kLong)), device);
  return plan;
}

bool takesSequences(const at::Tensor& query, const AttentionSettings& settings) {
  if (query.is_cpu()) return true;
  // What the kernel of LibTorch takes: heads of whole 16 bytes, at most 256 numbers.
  return query.scalar_type() == at::kBFloat16 && settings.cap == 0 && query.size(2) % 8 == 0 && query.size(2) <= 256 &&
         hasFlashAttention(query.device());
}

at::Tensor sequenceAttention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                             const SequencePlan& plan, const AttentionSettings& settings) {
  const at::Tensor keys = gathered(key, plan.keyRows), values = gathered(value, plan.keyRows);
  return query.is_cpu() ? attendOnCpu(query, keys, values, plan, settings)
                        : flashAttention(query, keys, values, plan, settings);
}

}  // namespace group_robust
