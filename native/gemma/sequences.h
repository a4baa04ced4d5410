#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "gemma/key_value_cache.h"
#include "gemma/transformer.h"

namespace group_robust {

/** Texts that a model is writing, by number, with their keys and values; see NativeGemma in src/native/types.ts. */
class Sequences {
 public:
  /** @param transformer outlives this */
  explicit Sequences(const Transformer& transformer) : transformer_(transformer) {}

  /** Logits of the token after the last one of each sequence. */
  struct Prefilled {
    int64_t sequence;
    std::vector<float> logits;  // [vocabulary]
  };
  Prefilled prefill(const std::vector<int32_t>& prompt, const LoraLayers* lora);
  int64_t fork(int64_t sequence, int64_t room);
  /** [sequences, vocabulary] */
  std::vector<float> decode(const std::vector<int64_t>& sequences, const std::vector<int32_t>& tokens,
                            const LoraLayers* lora);
  void release(int64_t sequence);
  void clear() { sequences_.clear(); }

 private:
  /** Of head inputs [U, hidden]: [U, vocabulary] in float32. */
  at::Tensor logits(const at::Tensor& headInput, bool rowwise) const;
  /** Of a step of generation: those of one pass, whose numbers do not depend on how many there are. */
  size_t rowsTogether() const;
  at::Tensor decodeTogether(const std::vector<KeyValueCache*>& caches, const std::vector<int64_t>& tokens,
                            const LoraLayers* lora);
  void checkToken(int32_t token, const std::string& name) const;
  KeyValueCache& cacheOf(int64_t sequence);
  /** Tokens of the longest sequence; 0 where there is none. */
  int64_t longestSequence() const;

  const Transformer& transformer_;
  std::map<int64_t, KeyValueCache> sequences_;
  int64_t lastSequence_ = 0;
};

}  // namespace group_robust
