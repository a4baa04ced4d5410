#include "gemma/batch.h"

#include <ATen/ATen.h>

#include <string>
#include <utility>

#include "error_types.h"

namespace group_robust {
namespace {

at::Tensor toTensor(const std::vector<int64_t>& values) { return at::tensor(values, at::TensorOptions(at::kLong)); }

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

Batch makeBatch(const PackedTokens& packed, int64_t vocabulary) {
  check(packed, vocabulary);
  Batch batch;
  std::vector<int64_t> positions, predictors, targets, responseOf;
  positions.reserve(packed.tokens.size());
  int64_t response = 0;
  for (size_t t = 0; t < packed.promptLengths.size(); ++t) {
    const auto begin = static_cast<int64_t>(positions.size());
    const int64_t prompt = packed.promptLengths[t];
    for (int64_t i = 0; i < prompt; ++i) positions.push_back(i);

    std::vector<int64_t> lengths;
    for (int32_t r = 0; r < packed.responseCounts[t]; ++r, ++response) {
      const int64_t length = packed.responseLengths[response];
      lengths.push_back(length);
      for (int64_t i = 0; i < length; ++i) {
        const auto row = static_cast<int64_t>(positions.size());
        // A response's first token is predicted by the prompt's last, whichever response it belongs to.
        predictors.push_back(i == 0 ? begin + prompt - 1 : row - 1);
        targets.push_back(packed.tokens[row]);
        responseOf.push_back(response);
        positions.push_back(prompt + i);
      }
    }

    batch.trees.push_back({begin, static_cast<int64_t>(positions.size()) - begin, prompt, std::move(lengths)});
  }
  batch.tokens = toTensor(std::vector<int64_t>(packed.tokens.begin(), packed.tokens.end()));
  batch.positions = toTensor(positions);
  batch.predictors = toTensor(predictors);
  batch.targets = toTensor(targets);
  batch.responseOf = toTensor(responseOf);
  batch.responses = response;
  return batch;
}

}  // namespace group_robust
