#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "gemma/adamw.h"
#include "gemma/weights.h"
#include "io/safetensors.h"
#include "kernels/lora_linear.h"

namespace group_robust {

/** LoRA on one projection of one layer. */
struct LoraModule {
  int64_t layer;
  std::string target;  // "q_proj" …
  int64_t rank;
  double scale;
};

/** The adapted projections of every layer; empty where a projection has none. */
using LoraLayers = std::vector<std::array<std::optional<LoraPair>, kProjections>>;

/** Replaces a tensor by its sum over several processes, where there are; empty where this one is alone. */
using SumOverPeers = std::function<void(at::Tensor&)>;

/** Where a matrix of LoRA belongs. */
struct LoraPlace {
  size_t layer;
  Projection projection;
  bool isA;
};

/** One tensor of an adapter, a stretch of its flat vector of values. */
struct AdapterTensor {
  std::string name;  // "model.layers.0.self_attn.q_proj.lora_A.weight", "score.weight"
  std::array<int64_t, 2> shape;
  int64_t offset;
  int64_t size;
  std::optional<LoraPlace> place;  // none: of the score head
};

/**
 * A trainable adapter: values, one gradient accumulator per number, and the optimiser. All of them are flat vectors
 * over the same parameters, so a step is a handful of vector operations; A and B matrices are views, and so is the head
 * of a reward model, [1, hidden], where there is one.
 */
class Adapter {
 public:
  /**
   * Of the type and on the device of `options`. A: Kaiming-uniform as PEFT, U(-1/√in, 1/√in), drawn in the order of
   * `modules`; B: 0; a score head: 0. Throws InputError on a module that the model lacks or that is there twice, and on
   * a bad scale.
   */
  Adapter(const GemmaConfig& config, const std::vector<LoraModule>& modules, bool scoreHead,
          const at::TensorOptions& options, uint64_t seed, int64_t accumulators, const AdamWConfig& optimizer);

  const LoraLayers& layers() const { return layers_; }
  const std::vector<AdapterTensor>& tensors() const { return tensors_; }
  bool hasScoreHead() const { return !tensors_.back().place; }
  /** [hidden], a view. Throws InputError without one. */
  at::Tensor scoreHead() const;
  int64_t accumulators() const { return accumulators_.size(0); }
  size_t bytes() const;

  /**
   * Reads values from a PEFT adapter_model.safetensors; a score head that the file lacks stays as it is. Throws
   * InputError, with nothing changed.
   * @param model what stands there for "model." in the names of the tensors
   */
  void load(const HeaderedFile& input, const std::string& model);
  /** Writes the values in PEFT's names, float32. @param model as of load */
  void save(const std::string& file, const std::string& model) const;
  /** Writes values and optimiser, as they are: what a later process needs to continue bit for bit. */
  void saveState(const std::string& file) const;
  /** Puts back what saveState wrote for an adapter of this shape and type. Throws InputError, with nothing changed. */
  void loadState(const HeaderedFile& input);
  /** A copy of LoRA's values that no step changes; its pairs have no gradient. */
  LoraLayers frozenCopy() const;

  /** View of one tensor's values. Throws InputError on an unknown name. */
  at::Tensor values(const std::string& name) const;
  /** Σ_k coefficients_k · accumulator_k of one tensor, in its shape. */
  at::Tensor gradient(const std::string& name, const std::vector<double>& coefficients) const;

  /** Before a backward pass. @param head the runs of the rows that are left after the last layer's attention */
  void setRuns(std::vector<AccumulatorRun> runs, std::vector<AccumulatorRun> head) {
    *runs_ = std::move(runs);
    *headRuns_ = std::move(head);
  }
  /**
   * Adds the gradient of scores hidden · head to the head's accumulators, by the runs of the rows.
   * @param hidden [responses, hidden] what the head took
   * @param cotangents [responses]; both of the type and on the device of the values
   */
  void addScoreGradient(const at::Tensor& hidden, const at::Tensor& cotangents);
  void discardGradients() { accumulators_.zero_(); }
  /** See NativeGemma.step in src/native/types.ts. */
  double step(const std::vector<double>& coefficients, double learningRate, double maxGradNorm,
              const SumOverPeers& sumOverPeers);
  /** Takes the values as they are into their mean, in which all that it was called on count the same. */
  void average();
  /**
   * Puts the mean in the place of the values, and these in its place; the next call undoes it. Meanwhile there are no
   * steps, and no state to save. Returns whether there is a mean: else nothing changes.
   */
  bool exchangeAverage();

 private:
  const AdapterTensor& find(const std::string& name) const;
  /** Throws InputError while the mean stands in the place of the values. */
  void requireValues() const;
  at::Tensor combine(const at::Tensor& accumulators, const std::vector<double>& coefficients) const;
  /** Pairs whose A and B are views of `flat`. */
  LoraLayers viewsOf(const at::Tensor& flat) const;

  size_t layerCount_;
  /** Of the adapted projections. */
  std::vector<std::array<double, kProjections>> scales_;
  std::vector<AdapterTensor> tensors_;  // the score head last
  at::Tensor values_;                   // [parameters]
  at::Tensor accumulators_;             // [accumulators, parameters]
  at::Tensor mean_;                     // [parameters]; undefined before average()
  int64_t averaged_ = 0;                // how many values it is the mean of
  bool exchanged_ = false;
  AdamW optimizer_;
  LoraLayers layers_;
  std::shared_ptr<std::vector<AccumulatorRun>> runs_ = std::make_shared<std::vector<AccumulatorRun>>();
  std::shared_ptr<std::vector<AccumulatorRun>> headRuns_ = std::make_shared<std::vector<AccumulatorRun>>();
};

}  // namespace group_robust
