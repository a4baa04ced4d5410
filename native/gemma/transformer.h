#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <vector>

#include "gemma/config.h"
#include "gemma/lora.h"
#include "gemma/weights.h"
#include "kernels/rotary.h"
#include "kernels/tree_attention.h"

namespace group_robust {

struct ModelOptions {
  at::ScalarType dtype;  // of activations
  /** Of the base weights: `dtype`, or bfloat16 for half the memory. */
  at::ScalarType stored;
  /** Where all of the model lives and is computed; a GPU's index is given. */
  at::Device device;
  /** Keep only the input of each layer for the backward pass, which computes the layers again. */
  bool recompute;
};

/** Gemma from tokens to what its head takes: frozen weights, with the adapter that a pass is given. Used from one
 * thread. */
class Transformer {
 public:
  /** In layer n, query [T, heads, headSize], key and value [T, keyValueHeads, headSize] to [T, heads · headSize]. */
  using Attend = std::function<at::Tensor(size_t n, const at::Tensor& query, const at::Tensor& key,
                                          const at::Tensor& value, const AttentionSettings& settings)>;

  /** Rows of tokens on their way through the layers. */
  struct Pass {
    at::Tensor tokens;                  // [T] int64
    std::vector<RotaryTable> rotaries;  // of the rows' positions, by kind of attention
    Attend attend;
    at::Tensor left;  // [U] int64: the rows that matter after the last layer's attention
    /** Whether no row's numbers may depend on the others; without a graph. */
    bool rowwise = false;
  };

  Transformer(const GemmaConfig& config, const ModelOptions& options);

  void load(const std::vector<HeaderedFile>& files, const WeightNames& names);
  void randomize(uint64_t seed, double standardDeviation);

  const GemmaConfig& config() const { return config_; }
  const ModelOptions& options() const { return options_; }
  /** Throws InputError before they are loaded or drawn. */
  const Weights& weights() const;
  size_t bytes() const { return weights_ ? weights_->bytes() : 0; }

  at::Tensor onDevice(const at::Tensor& tensor) const;
  /** Of positions [T] int64, by kind of attention. */
  std::vector<RotaryTable> rotariesOf(const at::Tensor& positions) const;
  /** Attention within trees, in every layer; what depends on the trees alone is made once. */
  Attend attentionWithin(const std::vector<AttentionTree>& trees) const;
  /** The states after the last layer and its norm, [U, hidden]. @param lora null: no adapter */
  at::Tensor headInput(const Pass& pass, const LoraLayers* lora) const;

 private:
  /** After the last layer, before the norm, [U, hidden]. */
  at::Tensor hiddenStates(const Pass& pass, const LoraLayers* lora) const;
  /** [T, hidden] to [T, hidden]; the last layer to [U, hidden]. */
  at::Tensor layer(size_t n, const at::Tensor& hidden, const Pass& pass, const LoraLayers* lora) const;

  GemmaConfig config_;
  ModelOptions options_;
  std::optional<Weights> weights_;
};

}  // namespace group_robust
