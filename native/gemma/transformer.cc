#include "gemma/transformer.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>
#include <memory>
#include <utility>

#include "error_types.h"
#include "kernels/geglu.h"
#include "kernels/implementation.h"
#include "kernels/product.h"
#include "kernels/recompute.h"
#include "kernels/rms_norm.h"
#include "kernels/sequence_attention.h"
#include "kernels/upload.h"
#include "profile.h"

namespace group_robust {
namespace {

/** A trainable tensor of layer n; null where it has none. */
const at::Tensor* firstTrainable(const LoraLayers* layers, size_t n) {
  if (layers != nullptr)
    for (const auto& pair : (*layers)[n])
      if (pair && pair->gradient) return &pair->a;
  return nullptr;
}

/**
 * Two runs on one card give the same bits: LibTorch, in all of this process, takes no sum in the order in which threads
 * happen to come, and refuses operations that would.
 */
void useFixedOrders() {
  at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
  at::globalContext().setDeterministicFillUninitializedMemory(false);
}

}  // namespace

Transformer::Transformer(const GemmaConfig& config, const ModelOptions& options) : config_(config), options_(options) {
  validate(config);
  if (options.stored != options.dtype && options.stored != at::kBFloat16)
    throw InputError("the base weights can be kept in bfloat16 or in the type of the activations");
  if (!options.device.is_cpu()) {
    useExactProducts();
    useFixedOrders();
  }
}

const Weights& Transformer::weights() const {
  if (!weights_) throw InputError("the model has no weights yet: call load or randomize first");
  return *weights_;
}

void Transformer::load(const std::vector<HeaderedFile>& files, const WeightNames& names) {
  weights_ = loadWeights(config_, options_.stored, options_.device, files, names);
}

void Transformer::randomize(uint64_t seed, double standardDeviation) {
  if (!(standardDeviation >= 0 && std::isfinite(standardDeviation)))
    throw InputError("standardDeviation must be a finite number of at least 0");
  weights_ = randomWeights(config_, options_.stored, options_.device, seed, standardDeviation);
}

at::Tensor Transformer::onDevice(const at::Tensor& tensor) const { return uploaded(tensor, options_.device); }

at::Tensor Transformer::headInput(const Pass& pass, const LoraLayers* lora) const {
  const at::Tensor hidden = hiddenStates(pass, lora);
  const profile::Scope head(profile::kHead);
  return rmsNorm(hidden, weights().norm, config_.rmsEpsilon);
}

std::vector<RotaryTable> Transformer::rotariesOf(const at::Tensor& positions) const {
  std::vector<RotaryTable> rotaries;
  for (const AttentionKind& kind : config_.attentionKinds)
    rotaries.push_back(rotaryTable(positions, config_.headSize, kind.ropeTheta, kind.ropeFactor, options_.dtype));
  return rotaries;
}

Transformer::Attend Transformer::attentionWithin(const std::vector<AttentionTree>& trees) const {
  const bool planned =
      chosenKernels() == Kernels::kGpuPlan || (options_.device.is_cuda() && chosenKernels() == Kernels::kFused);
  return [trees, masks = std::make_shared<TreeMasks>(),
          plan = planned ? std::optional(planSequences(trees, options_.device)) : std::nullopt](
             size_t, const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
             const AttentionSettings& settings) {
    return plan && takesSequences(query, settings) ? sequenceAttention(query, key, value, *plan, settings)
                                                   : treeAttention(query, key, value, trees, *masks, settings);
  };
}

at::Tensor Transformer::hiddenStates(const Pass& pass, const LoraLayers* lora) const {
  // Rounded to the compute type before the product: 45.25, not 45.2548, for hidden 2048 in bfloat16.
  const at::Tensor scale =
      at::scalar_tensor(std::sqrt(static_cast<double>(config_.hidden)), at::TensorOptions(options_.dtype));
  at::Tensor hidden = weights().embedding.index_select(0, pass.tokens).to(options_.dtype) * scale;
  for (size_t n = 0; n < weights().layers.size(); ++n) {
    // By value: when layers are recomputed, the backward pass calls it after this function has returned.
    const auto run = [this, n, pass, lora](const at::Tensor& x) { return layer(n, x, pass, lora); };
    // Gradients pass through layers without an adapter too, behind one that has it.
    const at::Tensor* differentiable = hidden.requires_grad() ? &hidden : firstTrainable(lora, n);
    const bool saves = options_.recompute && at::GradMode::is_enabled() && differentiable != nullptr;
    hidden = saves ? recomputed(run, hidden, *differentiable) : run(hidden);
  }
  return hidden;
}

at::Tensor Transformer::layer(size_t n, const at::Tensor& hidden, const Pass& pass, const LoraLayers* lora) const {
  const LayerWeights& weights = weights_->layers[n];
  const RotaryTable& rotary = pass.rotaries[config_.layerPattern[n % config_.layerPattern.size()]];
  const auto matrix = [&](Projection projection) {
    return FrozenMatrix{weights.projections[projection], weights_->scratch, pass.rowwise};
  };
  const auto adapterOf = [&](Projection projection) -> const LoraPair* {
    if (lora == nullptr) return nullptr;
    const auto& pair = (*lora)[n][projection];
    return pair ? &*pair : nullptr;
  };
  const auto project = [&](Projection projection, const at::Tensor& x) {
    const LoraPair* pair = adapterOf(projection);
    return pair ? loraLinear(x, matrix(projection), *pair) : frozenLinear(x, matrix(projection));
  };
  const auto heads = [&](Projection projection, const at::Tensor& x) {
    return project(projection, x).view({x.size(0), -1, config_.headSize});
  };
  // A weight is undefined where the generation has no such norm.
  const auto norm = [&](const at::Tensor& x, const at::Tensor& weight) {
    return weight.defined() ? rmsNorm(x, weight, config_.rmsEpsilon) : x;
  };
  const AttentionSettings settings{config_.attentionScale, config_.attentionCap, config_.kindOf(n).window};

  at::Tensor middle;
  {
    const profile::Scope scope(profile::kAttention);
    const at::Tensor attended = norm(hidden, weights.attentionNorm);
    at::Tensor attention =
        pass.attend(n, rotate(norm(heads(kQuery, attended), weights.queryNorm), rotary),
                    rotate(norm(heads(kKey, attended), weights.keyNorm), rotary), heads(kValue, attended), settings);
    at::Tensor residual = hidden;
    if (n + 1 == weights_->layers.size()) {
      attention = attention.index_select(0, pass.left);
      residual = residual.index_select(0, pass.left);
    }
    middle = residual + norm(project(kOutput, attention), weights.attentionOutputNorm);
    profile::backwardEnters(middle, profile::kAttention);
  }

  const profile::Scope scope(profile::kMlp);
  const at::Tensor fed = norm(middle, weights.mlpNorm);
  const at::Tensor gate = project(kGate, fed), up = project(kUp, fed);
  const LoraPair* down = adapterOf(kDown);
  const at::Tensor mlp =
      down ? loraLinearOfGeglu(gate, up, matrix(kDown), *down) : frozenLinear(geglu(gate, up), matrix(kDown));
  const at::Tensor output = middle + norm(mlp, weights.mlpOutputNorm);
  profile::backwardEnters(output, profile::kMlp);
  return output;
}

}  // namespace group_robust
