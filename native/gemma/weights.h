#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gemma/config.h"
#include "io/safetensors.h"
#include "kernels/frozen_matrix.h"

namespace group_robust {

/** The seven linear maps of a layer, in the order they are applied. */
enum Projection { kQuery, kKey, kValue, kOutput, kGate, kUp, kDown, kProjections };

/** "self_attn.q_proj" … as in checkpoints. */
const std::string& modulePath(Projection projection);
/** [out, in] */
std::array<int64_t, 2> projectionShape(const GemmaConfig& config, Projection projection);

struct LayerWeights {
  at::Tensor attentionNorm;        // [hidden], of what attention takes
  at::Tensor attentionOutputNorm;  // [hidden], of what it gives; with norms around
  at::Tensor queryNorm, keyNorm;   // [headSize]; with query/key norms
  at::Tensor mlpNorm;              // [hidden], of what the MLP takes
  at::Tensor mlpOutputNorm;        // [hidden], of what it gives; with norms around
  std::array<at::Tensor, kProjections> projections;
};

/** The frozen base weights, all of the dtype they are stored in; none requires a gradient. */
struct Weights {
  at::Tensor embedding;  // [vocabulary, hidden], also the head
  std::vector<LayerWeights> layers;
  at::Tensor norm;  // [hidden]
  /** Where matrices are widened that are not stored in the type of the data. */
  c10::intrusive_ptr<Scratch> scratch = c10::make_intrusive<Scratch>();
  /** The files that the weights were read from; those are gone that no weight is a view of. */
  std::vector<std::weak_ptr<const MappedFile>> files;

  size_t bytes() const;
  /** To be called after use of the weights. Throws InputError where a file that one is a view of has changed. */
  void checkFiles() const;
};

/** How a checkpoint names the tensors of the language model. */
struct WeightNames {
  std::string model;  // before "layers.0.…"
  std::string head;   // "lm_head.weight"
};

/**
 * Reads a checkpoint from its shards: tensors that are stored in `dtype` stay in the mapped files, the others are
 * converted one at a time; to a GPU each goes straight from there. Every tensor must be there once with its shape, and
 * no other; the head is taken only if it equals the embedding it is tied to. Throws InputError naming files and
 * tensors.
 */
Weights loadWeights(const GemmaConfig& config, at::ScalarType dtype, const at::Device& device,
                    const std::vector<HeaderedFile>& files, const WeightNames& names);

/**
 * N(0, standardDeviation²) for matrices, 0 for norms (which multiply by 1 + w). The numbers are drawn in float32
 * on the CPU whatever the dtype and the device, so one seed means one model.
 */
Weights randomWeights(const GemmaConfig& config, at::ScalarType dtype, const at::Device& device, uint64_t seed,
                      double standardDeviation);

}  // namespace group_robust
