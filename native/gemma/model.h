#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "gemma/batch.h"
#include "gemma/config.h"
#include "gemma/lora.h"
#include "gemma/weights.h"

namespace group_robust {

/** Which adapter a forward pass uses: the trainable one, the frozen copy (none if never frozen), or none. */
enum class Source { kPolicy, kReference, kBase };

/** A Gemma model with at most one trainable adapter. Used from one thread; see NativeGemma in src/native/types.ts. */
class Model {
 public:
  /**
   * @param dtype type of activations
   * @param stored type the base weights are kept in: `dtype`, or bfloat16 for half the memory
   * @param recompute keep only the input of each layer for the backward pass, which computes the layers again
   */
  Model(const GemmaConfig& config, at::ScalarType dtype, at::ScalarType stored, bool recompute);

  void load(const std::vector<HeaderedFile>& files, const WeightNames& names);
  void randomize(uint64_t seed, double standardDeviation);
  void addAdapter(const std::vector<LoraModule>& modules, uint64_t seed, int64_t accumulators,
                  const AdamWConfig& optimizer);
  void loadAdapter(const HeaderedFile& file, const std::string& model);
  void saveAdapter(const std::string& file, const std::string& model);
  void saveState(const std::string& file);
  void loadState(const HeaderedFile& file);
  void freezeReference();

  /** log π of every response, summed over its tokens. */
  std::vector<double> forward(const PackedTokens& packed, Source source, bool record);
  void backward(const std::vector<double>& cotangents, const std::vector<int32_t>& accumulators);
  void discardGradients();
  double step(const std::vector<double>& coefficients, double learningRate, double maxGradNorm);

  /** Throws InputError without an adapter. */
  Adapter& adapter();
  std::vector<double> readTrainable(const std::string& name);
  void writeTrainable(const std::string& name, const std::vector<double>& values);
  std::vector<double> readGradient(const std::string& name, const std::vector<double>& coefficients);

  /** How many nodes of each name the graph of the recorded forward pass has. */
  std::map<std::string, int64_t> recordedNodes() const;

  /** Bytes of weights, adapter, its accumulators and optimiser. */
  size_t bytes() const;

 private:
  /** A forward pass that waits for its backward pass. */
  struct Recorded {
    at::Tensor logProbabilities;  // [responses] float64, with its graph
    std::vector<AttentionTree> trees;
    std::vector<int64_t> predicting;
  };

  /** The adapter a pass uses; null: none. */
  const LoraLayers* active(Source source) const;
  at::Tensor responseLogProbabilities(const Batch& batch, const LoraLayers* lora) const;
  /** [T, hidden] to [T, hidden]; the last layer to [U, hidden], since after it only the predicting rows matter. */
  at::Tensor layer(size_t n, const at::Tensor& hidden, const Batch& batch, const struct RotaryTable& rotary,
                   const LoraLayers* lora) const;

  GemmaConfig config_;
  at::ScalarType dtype_;
  at::ScalarType stored_;
  bool recompute_;
  std::optional<Weights> weights_;
  std::optional<Adapter> adapter_;
  LoraLayers reference_;  // empty: the reference is the base
  std::optional<Recorded> recorded_;
};

}  // namespace group_robust
