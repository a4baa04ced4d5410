#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "gemma/batch.h"
#include "gemma/lora.h"
#include "gemma/sequences.h"
#include "gemma/transformer.h"

namespace group_robust {

/** Which adapter a forward pass uses: the trainable one, the frozen copy (none if never frozen), or none. */
enum class Source { kPolicy, kReference, kBase };

/** A Gemma model with at most one trainable adapter. Used from one thread; see NativeGemma in src/native/types.ts. */
class Model {
 public:
  Model(const GemmaConfig& config, const ModelOptions& options) : transformer_(config, options) {}

  void load(const std::vector<HeaderedFile>& files, const WeightNames& names);
  void randomize(uint64_t seed, double standardDeviation);
  void addAdapter(const std::vector<LoraModule>& modules, bool scoreHead, uint64_t seed, int64_t accumulators,
                  const AdamWConfig& optimizer);
  void loadAdapter(const HeaderedFile& file, const std::string& model);
  void saveAdapter(const std::string& file, const std::string& model);
  void saveState(const std::string& file);
  void loadState(const HeaderedFile& file);
  void freezeReference();

  /** log π of every response, summed over its tokens; of the policy, scores where its adapter has a head for them. */
  std::vector<double> forward(const PackedTokens& packed, Source source, bool record);
  void backward(const std::vector<double>& cotangents, const std::vector<int32_t>& accumulators);
  void discardGradients();
  double step(const std::vector<double>& coefficients, double learningRate, double maxGradNorm,
              const SumOverPeers& sumOverPeers);
  /** See Adapter. */
  void average();
  void exchangeAverage();

  /** See Sequences. A change of weights or adapter ends all of them. */
  Sequences::Prefilled prefill(const std::vector<int32_t>& prompt);
  int64_t fork(int64_t sequence, int64_t room) { return sequences_.fork(sequence, room); }
  std::vector<float> decode(const std::vector<int64_t>& sequences, const std::vector<int32_t>& tokens);
  void release(int64_t sequence) { sequences_.release(sequence); }

  /** Throws InputError without an adapter. */
  Adapter& adapter();
  std::vector<double> readTrainable(const std::string& name);
  void writeTrainable(const std::string& name, const std::vector<double>& values);
  std::vector<double> readGradient(const std::string& name, const std::vector<double>& coefficients);

  /** How many nodes of each name the graph of the recorded forward pass has. */
  std::map<std::string, int64_t> recordedNodes() const;

  const at::Device& device() const { return transformer_.options().device; }

  /** Bytes of weights, adapter, its accumulators and optimiser. */
  size_t bytes() const;

 private:
  /** A forward pass that waits for its backward pass. */
  struct Recorded {
    at::Tensor outputs;    // [responses] what forward returned, with its graph
    at::Tensor headInput;  // [responses, hidden], what a score head took; undefined without one
    std::vector<AttentionTree> trees;
    std::vector<int64_t> headCounts;
  };

  /** The adapter a pass uses; null: none. */
  const LoraLayers* active(Source source) const;
  /** After a change of weights or adapter: what was computed with the old ones is of no use. */
  void forget();
  /** What the head takes of a batch, [U, hidden]. */
  at::Tensor headInput(const Batch& batch, const LoraLayers* lora) const;
  /** [responses] float64 */
  at::Tensor responseLogProbabilities(const Batch& batch, const at::Tensor& headInput) const;
  /** [responses] of the adapter's type, of as many rows of that type */
  at::Tensor responseScores(const at::Tensor& headInput) const;
  /** Whether the adapter of this source is a reward model. */
  bool scores(Source source) const { return source == Source::kPolicy && adapter_ && adapter_->hasScoreHead(); }

  Transformer transformer_;
  std::optional<Adapter> adapter_;
  LoraLayers reference_;  // empty: the reference is the base
  std::optional<Recorded> recorded_;
  Sequences sequences_{transformer_};
};

}  // namespace group_robust
