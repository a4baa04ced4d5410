#include "gemma/batch.h"

#include <ATen/ATen.h>

#include <array>
#include <string>
#include <utility>

#include "error_types.h"
#include "kernels/upload.h"

namespace group_robust {
namespace {

void check(const PackedTokens& packed, int64_t vocabulary) {
  if (packed.promptLengths.empty()) throw InputError("the batch has no trees");
  if (packed.responseCounts.size() != packed.promptLengths.size())
    throw InputError("responseCounts has " + std::to_string(packed.responseCounts.size()) + " entries for " +
                     std::to_string(packed.promptLengths.size()) + " trees");
  int64_t responses = 0, tokens = 0;
  for (size_t t = 0; t < packed.promptLengths.size(); ++t) {
    if (packed.promptLengths[t] < 1) throw InputError("promptLengths[" + std::to_string(t) + "] must be at least 1");
    if (packed.responseCounts[t] < 1) throw InputError("responseCounts[" + std::to_string(t) + "] must be at least 1");
    tokens += packed.promptLengths[t];
    responses += packed.responseCounts[t];
  }
  if (static_cast<int64_t>(packed.responseLengths.size()) != responses)
    throw InputError("responseLengths has " + std::to_string(packed.responseLengths.size()) +
                     " entries, but the trees have " + std::to_string(responses) + " responses");
  for (size_t r = 0; r < packed.responseLengths.size(); ++r) {
    if (packed.responseLengths[r] < 1)
      throw InputError("responseLengths[" + std::to_string(r) + "] must be at least 1");
    tokens += packed.responseLengths[r];
  }
  if (static_cast<int64_t>(packed.tokens.size()) != tokens)
    throw InputError("tokens has " + std::to_string(packed.tokens.size()) + " entries, but the lengths add up to " +
                     std::to_string(tokens));
  for (size_t i = 0; i < packed.tokens.size(); ++i)
    if (packed.tokens[i] < 0 || packed.tokens[i] >= vocabulary)
      throw InputError("tokens[" + std::to_string(i) + "] is " + std::to_string(packed.tokens[i]) +
                       ", outside the vocabulary of " + std::to_string(vocabulary));
}

}  // namespace

Batch makeBatch(const PackedTokens& packed, int64_t vocabulary, const at::Device& device, Readout readout) {
  check(packed, vocabulary);
  Batch batch;
  std::vector<int64_t> tokens, positions, headRows, predictors, targets, responseOf;
  tokens.reserve(packed.tokens.size());
  positions.reserve(packed.tokens.size());
  size_t token = 0;
  int64_t response = 0;
  for (size_t t = 0; t < packed.promptLengths.size(); ++t) {
    const auto begin = static_cast<int64_t>(positions.size());
    const int64_t prompt = packed.promptLengths[t];
    for (int64_t i = 0; i < prompt; ++i, ++token) {
      tokens.push_back(packed.tokens[token]);
      positions.push_back(i);
    }

    const auto firstHeadRow = static_cast<int64_t>(headRows.size());
    // The prompt's last token predicts the first one of every response.
    if (readout == Readout::kTokens) headRows.push_back(begin + prompt - 1);
    std::vector<int64_t> lengths;
    for (int32_t r = 0; r < packed.responseCounts[t]; ++r, ++response) {
      const int64_t length = packed.responseLengths[response];
      for (int64_t i = 0; i < length; ++i, ++token) {
        const bool isLast = i + 1 == length;
        if (readout == Readout::kTokens) {
          predictors.push_back(i == 0 ? firstHeadRow : static_cast<int64_t>(headRows.size()) - 1);
          targets.push_back(packed.tokens[token]);
          responseOf.push_back(response);
          // The last token has no row: nothing comes after it that could see it.
          if (isLast) continue;
        }
        if (readout == Readout::kTokens || isLast) headRows.push_back(static_cast<int64_t>(tokens.size()));
        tokens.push_back(packed.tokens[token]);
        positions.push_back(prompt + i);
      }
      const int64_t rows = readout == Readout::kTokens ? length - 1 : length;
      if (rows > 0) lengths.push_back(rows);
    }

    batch.trees.push_back({begin, static_cast<int64_t>(positions.size()) - begin, prompt, std::move(lengths)});
    batch.headCounts.push_back(static_cast<int64_t>(headRows.size()) - firstHeadRow);
  }
  // All in one tensor, so that one copy takes them to the device.
  const std::array<std::pair<at::Tensor*, const std::vector<int64_t>*>, 6> parts = {{{&batch.tokens, &tokens},
                                                                                     {&batch.positions, &positions},
                                                                                     {&batch.headRows, &headRows},
                                                                                     {&batch.predictors, &predictors},
                                                                                     {&batch.targets, &targets},
                                                                                     {&batch.responseOf, &responseOf}}};
  std::vector<int64_t> all;
  for (const auto& [tensor, values] : parts) all.insert(all.end(), values->begin(), values->end());
  const at::Tensor together = uploaded(at::tensor(all, at::TensorOptions(at::kLong)), device);
  int64_t begin = 0;
  for (const auto& [tensor, values] : parts) {
    const auto size = static_cast<int64_t>(values->size());
    *tensor = together.narrow(0, begin, size);
    begin += size;
  }
  batch.responses = response;
  return batch;
}

}  // namespace group_robust
