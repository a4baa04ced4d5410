#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "gemma/batch.h"
#include "gemma/config.h"
#include "gemma/key_value_cache.h"
#include "gemma/lora.h"
#include "gemma/weights.h"
#include "kernels/rotary.h"

namespace group_robust {

/** Which adapter a forward pass uses: the trainable one, the frozen copy (none if never frozen), or none. */
enum class Source { kPolicy, kReference, kBase };

struct ModelOptions {
  at::ScalarType dtype;  // of activations
  /** Of the base weights: `dtype`, or bfloat16 for half the memory. */
  at::ScalarType stored;
  /** Where all of the model lives and is computed; a GPU's index is given. */
  at::Device device;
  /** Keep only the input of each layer for the backward pass, which computes the layers again. */
  bool recompute;
};

/** A Gemma model with at most one trainable adapter. Used from one thread; see NativeGemma in src/native/types.ts. */
class Model {
 public:
  Model(const GemmaConfig& config, const ModelOptions& options);

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

  /** Logits of the token after the last one of each sequence. */
  struct Prefilled {
    int64_t sequence;
    std::vector<float> logits;  // [vocabulary]
  };
  /** See NativeGemma in src/native/types.ts. A change of weights or adapter ends all sequences. */
  Prefilled prefill(const std::vector<int32_t>& prompt);
  int64_t fork(int64_t sequence, int64_t room);
  std::vector<float> decode(const std::vector<int64_t>& sequences, const std::vector<int32_t>& tokens);
  void release(int64_t sequence);

  /** Throws InputError without an adapter. */
  Adapter& adapter();
  std::vector<double> readTrainable(const std::string& name);
  void writeTrainable(const std::string& name, const std::vector<double>& values);
  std::vector<double> readGradient(const std::string& name, const std::vector<double>& coefficients);

  /** How many nodes of each name the graph of the recorded forward pass has. */
  std::map<std::string, int64_t> recordedNodes() const;

  const at::Device& device() const { return options_.device; }

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

  /** The adapter a pass uses; null: none. */
  const LoraLayers* active(Source source) const;
  at::Tensor onDevice(const at::Tensor& tensor) const;
  /** After a change of weights or adapter: what was computed with the old ones is of no use. */
  void forget();
  /** Attention within trees, in every layer; what depends on the trees alone is made once. */
  Attend attentionWithin(const std::vector<AttentionTree>& trees) const;
  std::vector<RotaryTable> rotariesOf(const at::Tensor& positions) const;
  /** What the head takes of a batch, [U, hidden]. */
  at::Tensor headInput(const Batch& batch, const LoraLayers* lora) const;
  /** [responses] float64 */
  at::Tensor responseLogProbabilities(const Batch& batch, const at::Tensor& headInput) const;
  /** [responses] of the adapter's type, of as many rows of that type */
  at::Tensor responseScores(const at::Tensor& headInput) const;
  /** Whether the adapter of this source is a reward model. */
  bool scores(Source source) const { return source == Source::kPolicy && adapter_ && adapter_->hasScoreHead(); }
  /** After the last layer, before the norm, [U, hidden]. */
  at::Tensor hiddenStates(const Pass& pass, const LoraLayers* lora) const;
  /** [T, hidden] to [T, hidden]; the last layer to [U, hidden]. */
  at::Tensor layer(size_t n, const at::Tensor& hidden, const Pass& pass, const LoraLayers* lora) const;
  /** Of hidden states [U, hidden]: [U, vocabulary] in float32. */
  at::Tensor logits(const at::Tensor& hidden, bool rowwise) const;
  /** Of a step of generation: those of one pass, whose numbers do not depend on how many there are. */
  size_t rowsTogether() const;
  at::Tensor decodeTogether(const std::vector<KeyValueCache*>& caches, const std::vector<int64_t>& tokens);
  void checkToken(int32_t token, const std::string& name) const;
  KeyValueCache& cacheOf(int64_t sequence);
  /** Tokens of the longest sequence; 0 where there is none. */
  int64_t longestSequence() const;

  GemmaConfig config_;
  ModelOptions options_;
  std::optional<Weights> weights_;
  std::optional<Adapter> adapter_;
  LoraLayers reference_;  // empty: the reference is the base
  std::optional<Recorded> recorded_;
  std::map<int64_t, KeyValueCache> sequences_;
  int64_t lastSequence_ = 0;
};

}  // namespace group_robust
