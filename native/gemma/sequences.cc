#include "gemma/sequences.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <set>
#include <utility>

#include "error_types.h"
#include "gemma/device_memory.h"
#include "kernels/cached_attention.h"
#include "kernels/frozen_matrix.h"
#include "kernels/implementation.h"
#include "kernels/precision.h"
#include "kernels/product.h"
#include "kernels/rowwise_product.h"
#include "profile.h"

namespace group_robust {
namespace {

std::vector<float> toFloats(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.cpu().contiguous();
  return {flat.const_data_ptr<float>(), flat.const_data_ptr<float>() + flat.numel()};
}

/** f() for generation with keys and values of `sequences` kept, the longest of so many tokens. */
template <class F>
auto withinGenerationMemory(size_t sequences, int64_t longest, const F& f) {
  const auto what = [&] {
    return "keys and values of " + std::to_string(sequences) + " sequences, the longest of " + std::to_string(longest) +
           " tokens, and their next tokens";
  };
  return withinMemory(what, "fewer sequences at once, and shorter ones, take less", f);
}

}  // namespace

Sequences::Prefilled Sequences::prefill(const std::vector<int32_t>& prompt, const LoraLayers* lora) {
  transformer_.weights();
  if (prompt.empty()) throw InputError("the prompt has no tokens");
  for (size_t i = 0; i < prompt.size(); ++i) checkToken(prompt[i], "prompt[" + std::to_string(i) + "]");
  const c10::NoGradGuard noGrad;
  const profile::Scope scope(profile::kEmbedding);
  const auto length = static_cast<int64_t>(prompt.size());
  return withinGenerationMemory(sequences_.size() + 1, std::max(length, longestSequence()), [&] {
    KeyValueCache cache(transformer_.weights().layers.size());
    const auto attend = [&, within = transformer_.attentionWithin({{0, length, length, {}}})](
                            size_t n, const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                            const AttentionSettings& settings) {
      cache.fill(n, key, value, settings.window);
      return within(n, query, key, value, settings);
    };
    const at::Tensor positions = transformer_.onDevice(at::arange(length));
    const at::Tensor hidden =
        transformer_.headInput({transformer_.onDevice(at::tensor(prompt).to(at::kLong)),
                                transformer_.rotariesOf(positions), attend, positions.narrow(0, length - 1, 1)},
                               lora);
    cache.advance(length);
    const at::Tensor row = logits(hidden, rowsTogether() > 1);
    transformer_.weights().checkFiles();
    std::vector<float> values = toFloats(row);
    sequences_.emplace(++lastSequence_, std::move(cache));
    return Prefilled{lastSequence_, std::move(values)};
  });
}

int64_t Sequences::fork(int64_t sequence, int64_t room) {
  const c10::NoGradGuard noGrad;
  const KeyValueCache& cache = cacheOf(sequence);
  const int64_t longest = std::max(cache.length() + room, longestSequence());
  KeyValueCache copy = withinGenerationMemory(sequences_.size() + 1, longest, [&] { return cache.fork(room); });
  sequences_.emplace(++lastSequence_, std::move(copy));
  return lastSequence_;
}

int64_t Sequences::longestSequence() const {
  int64_t longest = 0;
  for (const auto& [number, cache] : sequences_) longest = std::max(longest, cache.length());
  return longest;
}

std::vector<float> Sequences::decode(const std::vector<int64_t>& sequences, const std::vector<int32_t>& tokens,
                                     const LoraLayers* lora) {
  transformer_.weights();
  if (tokens.size() != sequences.size())
    throw InputError("tokens has " + std::to_string(tokens.size()) + " entries for " +
                     std::to_string(sequences.size()) + " sequences");
  if (std::set<int64_t>(sequences.begin(), sequences.end()).size() < sequences.size())
    throw InputError("sequences names one twice");
  for (size_t i = 0; i < tokens.size(); ++i) {
    checkToken(tokens[i], "tokens[" + std::to_string(i) + "]");
    if (!cacheOf(sequences[i]).hasRoom())
      throw InputError("sequence " + std::to_string(sequences[i]) +
                       " has no room for another token: fork it with more");
  }
  const c10::NoGradGuard noGrad;
  std::vector<float> all;
  all.reserve(sequences.size() * transformer_.config().vocabulary);
  try {
    for (size_t begin = 0; begin < sequences.size(); begin += rowsTogether()) {
      const size_t end = std::min(sequences.size(), begin + rowsTogether());
      std::vector<KeyValueCache*> caches;
      for (size_t i = begin; i < end; ++i) caches.push_back(&cacheOf(sequences[i]));
      const std::vector<float> some = withinGenerationMemory(sequences_.size(), longestSequence() + 1, [&] {
        return toFloats(decodeTogether(caches, {tokens.begin() + begin, tokens.begin() + end}, lora));
      });
      all.insert(all.end(), some.begin(), some.end());
    }
    transformer_.weights().checkFiles();
  } catch (...) {
    // Some have the token, or some of their layers, and others not: nothing can go on from these.
    for (const int64_t sequence : sequences) sequences_.erase(sequence);
    throw;
  }
  return all;
}

at::Tensor Sequences::decodeTogether(const std::vector<KeyValueCache*>& caches, const std::vector<int64_t>& tokens,
                                     const LoraLayers* lora) {
  const profile::Scope scope(profile::kEmbedding);
  // Each row by itself, here too: cosines of whole vectors and of what is left over are not the same to the bit.
  std::vector<std::vector<at::Tensor>> cos, sin;
  for (const KeyValueCache* cache : caches) {
    const at::Tensor position = at::full({1}, cache->length(), at::TensorOptions(at::kLong));
    const std::vector<RotaryTable> own = transformer_.rotariesOf(transformer_.onDevice(position));
    cos.resize(own.size());
    sin.resize(own.size());
    for (size_t kind = 0; kind < own.size(); ++kind) {
      cos[kind].push_back(own[kind].cos);
      sin[kind].push_back(own[kind].sin);
    }
  }
  std::vector<RotaryTable> rotaries;
  for (size_t kind = 0; kind < cos.size(); ++kind) rotaries.push_back({at::cat(cos[kind]), at::cat(sin[kind])});
  const auto attend = [&](size_t n, const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                          const AttentionSettings& settings) {
    std::vector<at::Tensor> rows;
    for (size_t r = 0; r < caches.size(); ++r) {
      const auto row = static_cast<int64_t>(r);
      const auto [keys, values] = caches[r]->append(n, key.select(0, row), value.select(0, row), settings.window);
      rows.push_back(cachedAttention(query.select(0, row), keys, values, settings.scale, settings.cap));
    }
    return at::stack(rows);
  };
  const bool rowwise = rowsTogether() > 1;
  const at::Tensor hidden =
      transformer_.headInput({transformer_.onDevice(at::tensor(tokens)), rotaries, attend,
                              transformer_.onDevice(at::arange(static_cast<int64_t>(caches.size()))), rowwise},
                             lora);
  for (KeyValueCache* cache : caches) cache->advance(1);
  return logits(hidden, rowwise);
}

at::Tensor Sequences::logits(const at::Tensor& headInput, bool rowwise) const {
  const profile::Scope head(profile::kHead);
  const Weights& weights = transformer_.weights();
  // In float32 or better, as token log-probabilities are: in bfloat16 each logit would be rounded to 8 bits.
  const at::Tensor all = headInput.is_cpu() ? FrozenMatrix{weights.embedding, weights.scratch, rowwise}.times(
                                                  headInput.to(accurate(headInput.scalar_type())))
                                            : wideProduct(headInput, weights.embedding);
  const double cap = transformer_.config().logitCap;
  if (cap != 0)
    for (int64_t row = 0; row < all.size(0); ++row) all.select(0, row).div_(cap).tanh_().mul_(cap);
  return all.to(at::kFloat);
}

size_t Sequences::rowsTogether() const {
  const ModelOptions& options = transformer_.options();
  // The rows of a product by LibTorch may depend on how many there are.
  const bool rowwise = options.device.is_cpu() && chosenKernels() != Kernels::kLibTorch && options.dtype != at::kDouble;
  return rowwise ? kRowsAtOnce : 1;
}

void Sequences::release(int64_t sequence) {
  cacheOf(sequence);
  sequences_.erase(sequence);
}

void Sequences::checkToken(int32_t token, const std::string& name) const {
  if (token < 0 || token >= transformer_.config().vocabulary)
    throw InputError(name + " is " + std::to_string(token) + ", outside the vocabulary of " +
                     std::to_string(transformer_.config().vocabulary));
}

KeyValueCache& Sequences::cacheOf(int64_t sequence) {
  const auto found = sequences_.find(sequence);
  if (found == sequences_.end())
    throw InputError("there is no sequence " + std::to_string(sequence) +
                     ": it was released, or weights or adapter have changed since");
  return found->second;
}

}  // namespace group_robust
