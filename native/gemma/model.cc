#include "gemma/model.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/function.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <set>

#include "error_types.h"
#include "kernels/cached_attention.h"
#include "kernels/gather.h"
#include "kernels/geglu.h"
#include "kernels/implementation.h"
#include "kernels/precision.h"
#include "kernels/product.h"
#include "kernels/recompute.h"
#include "kernels/rms_norm.h"
#include "kernels/rowwise_product.h"
#include "kernels/sequence_attention.h"
#include "kernels/token_log_prob.h"
#include "kernels/upload.h"
#include "profile.h"

namespace group_robust {
namespace {

constexpr const char* kNoWeights = "the model has no weights yet: call load or randomize first";

std::vector<float> toFloats(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.cpu().contiguous();
  return {flat.const_data_ptr<float>(), flat.const_data_ptr<float>() + flat.numel()};
}

std::vector<double> toVector(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.detach().to(at::kCPU, at::kDouble).contiguous();
  return {flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel()};
}

at::Tensor toTensor(const std::vector<double>& values) { return at::tensor(values, at::TensorOptions(at::kDouble)); }

/** Rows of neighbouring trees with one accumulator become one run, so its gradient is one matrix product. */
std::vector<AccumulatorRun> runsOf(const std::vector<int64_t>& rowsOfTrees, const std::vector<int32_t>& accumulators) {
  std::vector<AccumulatorRun> runs;
  int64_t begin = 0;
  for (size_t t = 0; t < rowsOfTrees.size(); ++t) {
    const int64_t end = begin + rowsOfTrees[t];
    if (!runs.empty() && runs.back().accumulator == accumulators[t])
      runs.back().end = end;
    else
      runs.push_back({begin, end, accumulators[t]});
    begin = end;
  }
  return runs;
}

/** A trainable tensor of layer n; null where it has none. */
const at::Tensor* firstTrainable(const LoraLayers* layers, size_t n) {
  if (layers != nullptr)
    for (const auto& pair : (*layers)[n])
      if (pair && pair->gradient) return &pair->a;
  return nullptr;
}

std::vector<int64_t> lengthsOf(const std::vector<AttentionTree>& trees) {
  std::vector<int64_t> lengths;
  for (const AttentionTree& tree : trees) lengths.push_back(tree.length);
  return lengths;
}

/**
 * Two runs on one card give the same bits: LibTorch, in all of this process, takes no sum in the order in which threads
 * happen to come, and refuses operations that would.
 */
void useFixedOrders() {
  at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
  at::globalContext().setDeterministicFillUninitializedMemory(false);
}

/** f(); where a GPU has too little memory for it, the error says for what, and what takes less. */
template <class F>
auto withinMemory(const std::function<std::string()>& what, const char* less, const F& f) {
  try {
    return f();
  } catch (const c10::OutOfMemoryError& error) {
    throw InputError("the device has too little memory for " + what() + "; " + less + " (" +
                     error.what_without_backtrace() + ")");
  }
}

/** f() on a batch of `trees`. */
template <class F>
auto withinMemory(const std::vector<AttentionTree>& trees, const F& f) {
  const auto what = [&] {
    int64_t rows = 0, longest = 0;
    for (const AttentionTree& tree : trees) {
      rows += tree.length;
      const auto response = std::max_element(tree.responses.begin(), tree.responses.end());
      longest = std::max(longest, tree.prompt + (response == tree.responses.end() ? 0 : *response));
    }
    return "a batch of " + std::to_string(trees.size()) + " prompts and " + std::to_string(rows) +
           " tokens, the longest sequence " + std::to_string(longest);
  };
  return withinMemory(what, "smaller batches, and in training recompute, take less", f);
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

Model::Model(const GemmaConfig& config, const ModelOptions& options) : config_(config), options_(options) {
  validate(config);
  if (options.stored != options.dtype && options.stored != at::kBFloat16)
    throw InputError("the base weights can be kept in bfloat16 or in the type of the activations");
  if (!options.device.is_cpu()) {
    useExactProducts();
    useFixedOrders();
  }
}

at::Tensor Model::onDevice(const at::Tensor& tensor) const { return uploaded(tensor, options_.device); }

void Model::load(const std::vector<HeaderedFile>& files, const WeightNames& names) {
  const c10::NoGradGuard noGrad;
  Weights weights = loadWeights(config_, options_.stored, options_.device, files, names);
  forget();
  weights_ = std::move(weights);
}

void Model::randomize(uint64_t seed, double standardDeviation) {
  const c10::NoGradGuard noGrad;
  if (!(standardDeviation >= 0 && std::isfinite(standardDeviation)))
    throw InputError("standardDeviation must be a finite number of at least 0");
  forget();
  weights_ = randomWeights(config_, options_.stored, options_.device, seed, standardDeviation);
}

void Model::addAdapter(const std::vector<LoraModule>& modules, bool scoreHead, uint64_t seed, int64_t accumulators,
                       const AdamWConfig& optimizer) {
  const c10::NoGradGuard noGrad;
  Adapter adapter(config_, modules, scoreHead, at::TensorOptions(accurate(options_.dtype)).device(options_.device),
                  seed, accumulators, optimizer);
  forget();
  adapter_.emplace(std::move(adapter));
}

void Model::loadAdapter(const HeaderedFile& file, const std::string& model) {
  const c10::NoGradGuard noGrad;
  adapter().load(file, model);
  forget();
}

void Model::saveAdapter(const std::string& file, const std::string& model) {
  const c10::NoGradGuard noGrad;
  adapter().save(file, model);
}

void Model::saveState(const std::string& file) {
  const c10::NoGradGuard noGrad;
  adapter().saveState(file);
}

void Model::loadState(const HeaderedFile& file) {
  const c10::NoGradGuard noGrad;
  adapter().loadState(file);
  forget();
}

void Model::freezeReference() {
  const c10::NoGradGuard noGrad;
  reference_ = adapter().frozenCopy();
}

void Model::forget() {
  recorded_.reset();
  sequences_.clear();
}

const LoraLayers* Model::active(Source source) const {
  if (source == Source::kPolicy && adapter_) return &adapter_->layers();
  if (source == Source::kReference && !reference_.empty()) return &reference_;
  return nullptr;
}

std::vector<double> Model::forward(const PackedTokens& packed, Source source, bool record) {
  if (!weights_) throw InputError(kNoWeights);
  if (record && source != Source::kPolicy) throw InputError("only the policy can be recorded for backward");
  if (record) adapter();
  const Batch batch =
      makeBatch(packed, config_.vocabulary, options_.device, scores(source) ? Readout::kLast : Readout::kTokens);
  const c10::AutoGradMode gradients(record);
  if (record) recorded_.reset();  // before the pass, so that two graphs are never alive at once
  return withinMemory(batch.trees, [&] {
    at::Tensor input = headInput(batch, active(source)), outputs;
    if (scores(source)) {
      input = input.to(accurate(options_.dtype));
      outputs = responseScores(input);
    } else {
      outputs = responseLogProbabilities(batch, input);
      input.reset();
    }
    std::vector<double> values = toVector(outputs);
    weights_->checkFiles();
    if (record) recorded_ = Recorded{outputs, input.defined() ? input.detach() : input, batch.trees, batch.headCounts};
    return values;
  });
}

std::vector<RotaryTable> Model::rotariesOf(const at::Tensor& positions) const {
  std::vector<RotaryTable> rotaries;
  for (const AttentionKind& kind : config_.attentionKinds)
    rotaries.push_back(rotaryTable(positions, config_.headSize, kind.ropeTheta, kind.ropeFactor, options_.dtype));
  return rotaries;
}

Model::Attend Model::attentionWithin(const std::vector<AttentionTree>& trees) const {
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

at::Tensor Model::headInput(const Batch& batch, const LoraLayers* lora) const {
  const profile::Scope scope(profile::kEmbedding);
  const at::Tensor hidden =
      hiddenStates({batch.tokens, rotariesOf(batch.positions), attentionWithin(batch.trees), batch.headRows}, lora);
  const profile::Scope head(profile::kHead);
  return rmsNorm(hidden, weights_->norm, config_.rmsEpsilon);
}

at::Tensor Model::responseLogProbabilities(const Batch& batch, const at::Tensor& headInput) const {
  const profile::Scope head(profile::kHead);
  const at::Tensor tokens = tokenLogProbabilities(gathered(headInput, batch.predictors), weights_->embedding,
                                                  batch.targets, config_.logitCap);
  const at::Tensor sums = at::zeros({batch.responses}, tokens.options()).index_add(0, batch.responseOf, tokens);
  profile::backwardEnters(sums, profile::kHead);
  return sums;
}

at::Tensor Model::responseScores(const at::Tensor& headInput) const {
  const profile::Scope head(profile::kHead);
  const at::Tensor scores = at::mv(headInput, adapter_->scoreHead());
  profile::backwardEnters(scores, profile::kHead);
  return scores;
}

at::Tensor Model::hiddenStates(const Pass& pass, const LoraLayers* lora) const {
  // Rounded to the compute type before the product: 45.25, not 45.2548, for hidden 2048 in bfloat16.
  const at::Tensor scale =
      at::scalar_tensor(std::sqrt(static_cast<double>(config_.hidden)), at::TensorOptions(options_.dtype));
  at::Tensor hidden = weights_->embedding.index_select(0, pass.tokens).to(options_.dtype) * scale;
  for (size_t n = 0; n < weights_->layers.size(); ++n) {
    // By value: when layers are recomputed, the backward pass calls it after this function has returned.
    const auto run = [this, n, pass, lora](const at::Tensor& x) { return layer(n, x, pass, lora); };
    // Gradients pass through layers without an adapter too, behind one that has it.
    const at::Tensor* differentiable = hidden.requires_grad() ? &hidden : firstTrainable(lora, n);
    const bool saves = options_.recompute && at::GradMode::is_enabled() && differentiable != nullptr;
    hidden = saves ? recomputed(run, hidden, *differentiable) : run(hidden);
  }
  return hidden;
}

at::Tensor Model::layer(size_t n, const at::Tensor& hidden, const Pass& pass, const LoraLayers* lora) const {
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

Model::Prefilled Model::prefill(const std::vector<int32_t>& prompt) {
  if (!weights_) throw InputError(kNoWeights);
  if (scores(Source::kPolicy)) throw InputError("a reward model scores responses; it cannot continue a prompt");
  if (prompt.empty()) throw InputError("the prompt has no tokens");
  for (size_t i = 0; i < prompt.size(); ++i) checkToken(prompt[i], "prompt[" + std::to_string(i) + "]");
  const c10::NoGradGuard noGrad;
  const profile::Scope scope(profile::kEmbedding);
  const auto length = static_cast<int64_t>(prompt.size());
  return withinGenerationMemory(sequences_.size() + 1, std::max(length, longestSequence()), [&] {
    KeyValueCache cache(weights_->layers.size());
    const auto attend = [&, within = attentionWithin({{0, length, length, {}}})](
                            size_t n, const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                            const AttentionSettings& settings) {
      cache.fill(n, key, value, settings.window);
      return within(n, query, key, value, settings);
    };
    const at::Tensor positions = onDevice(at::arange(length));
    const at::Tensor hidden = hiddenStates(
        {onDevice(at::tensor(prompt).to(at::kLong)), rotariesOf(positions), attend, positions.narrow(0, length - 1, 1)},
        active(Source::kPolicy));
    cache.advance(length);
    const at::Tensor row = logits(hidden, rowsTogether() > 1);
    weights_->checkFiles();
    std::vector<float> values = toFloats(row);
    sequences_.emplace(++lastSequence_, std::move(cache));
    return Prefilled{lastSequence_, std::move(values)};
  });
}

int64_t Model::fork(int64_t sequence, int64_t room) {
  const c10::NoGradGuard noGrad;
  const KeyValueCache& cache = cacheOf(sequence);
  const int64_t longest = std::max(cache.length() + room, longestSequence());
  KeyValueCache copy = withinGenerationMemory(sequences_.size() + 1, longest, [&] { return cache.fork(room); });
  sequences_.emplace(++lastSequence_, std::move(copy));
  return lastSequence_;
}

int64_t Model::longestSequence() const {
  int64_t longest = 0;
  for (const auto& [number, cache] : sequences_) longest = std::max(longest, cache.length());
  return longest;
}

std::vector<float> Model::decode(const std::vector<int64_t>& sequences, const std::vector<int32_t>& tokens) {
  if (!weights_) throw InputError(kNoWeights);
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
  all.reserve(sequences.size() * config_.vocabulary);
  for (size_t begin = 0; begin < sequences.size(); begin += rowsTogether()) {
    const size_t end = std::min(sequences.size(), begin + rowsTogether());
    std::vector<KeyValueCache*> caches;
    for (size_t i = begin; i < end; ++i) caches.push_back(&cacheOf(sequences[i]));
    try {
      const std::vector<float> some = withinGenerationMemory(sequences_.size(), longestSequence() + 1, [&] {
        return toFloats(decodeTogether(caches, {tokens.begin() + begin, tokens.begin() + end}));
      });
      all.insert(all.end(), some.begin(), some.end());
    } catch (...) {
      // Some layers may have the token and others not: nothing can go on from these.
      for (size_t i = begin; i < end; ++i) sequences_.erase(sequences[i]);
      throw;
    }
  }
  weights_->checkFiles();
  return all;
}

at::Tensor Model::decodeTogether(const std::vector<KeyValueCache*>& caches, const std::vector<int64_t>& tokens) {
  const profile::Scope scope(profile::kEmbedding);
  // Each row by itself, here too: cosines of whole vectors and of what is left over are not the same to the bit.
  std::vector<RotaryTable> rotaries(config_.attentionKinds.size());
  for (size_t kind = 0; kind < rotaries.size(); ++kind) {
    std::vector<at::Tensor> cos, sin;
    for (const KeyValueCache* cache : caches) {
      const AttentionKind& of = config_.attentionKinds[kind];
      const RotaryTable own = rotaryTable(onDevice(at::full({1}, cache->length(), at::TensorOptions(at::kLong))),
                                          config_.headSize, of.ropeTheta, of.ropeFactor, options_.dtype);
      cos.push_back(own.cos);
      sin.push_back(own.sin);
    }
    rotaries[kind] = {at::cat(cos), at::cat(sin)};
  }
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
  const at::Tensor hidden = hiddenStates({onDevice(at::tensor(tokens)), rotaries, attend,
                                          onDevice(at::arange(static_cast<int64_t>(caches.size()))), rowwise},
                                         active(Source::kPolicy));
  for (KeyValueCache* cache : caches) cache->advance(1);
  return logits(hidden, rowwise);
}

at::Tensor Model::logits(const at::Tensor& hidden, bool rowwise) const {
  const profile::Scope head(profile::kHead);
  // Of wide hidden states, as token log-probabilities are: a product of bfloat16 would round each logit to 8 bits.
  const at::Tensor normed = rmsNorm(hidden, weights_->norm, config_.rmsEpsilon);
  const at::Tensor all =
      options_.device.is_cpu()
          ? FrozenMatrix{weights_->embedding, weights_->scratch, rowwise}.times(normed.to(accurate(options_.dtype)))
          : wideProduct(normed, weights_->embedding);
  if (config_.logitCap != 0)
    for (int64_t row = 0; row < all.size(0); ++row)
      all.select(0, row).div_(config_.logitCap).tanh_().mul_(config_.logitCap);
  return all.to(at::kFloat);
}

size_t Model::rowsTogether() const {
  // The rows of a product by LibTorch may depend on how many there are.
  return options_.device.is_cpu() && chosenKernels() != Kernels::kLibTorch && options_.dtype != at::kDouble
             ? kRowsAtOnce
             : 1;
}

void Model::release(int64_t sequence) {
  cacheOf(sequence);
  sequences_.erase(sequence);
}

void Model::checkToken(int32_t token, const std::string& name) const {
  if (token < 0 || token >= config_.vocabulary)
    throw InputError(name + " is " + std::to_string(token) + ", outside the vocabulary of " +
                     std::to_string(config_.vocabulary));
}

KeyValueCache& Model::cacheOf(int64_t sequence) {
  const auto found = sequences_.find(sequence);
  if (found == sequences_.end())
    throw InputError("there is no sequence " + std::to_string(sequence) +
                     ": it was released, or weights or adapter have changed since");
  return found->second;
}

void Model::backward(const std::vector<double>& cotangents, const std::vector<int32_t>& accumulators) {
  if (!recorded_) throw InputError("backward needs a forward pass with record before it");
  const auto responses = static_cast<size_t>(recorded_->outputs.numel());
  if (cotangents.size() != responses)
    throw InputError("cotangents has " + std::to_string(cotangents.size()) + " entries for " +
                     std::to_string(responses) + " responses");
  if (accumulators.size() != recorded_->trees.size())
    throw InputError("accumulators has " + std::to_string(accumulators.size()) + " entries for " +
                     std::to_string(recorded_->trees.size()) + " trees");
  for (const int32_t k : accumulators)
    if (k < 0 || k >= adapter().accumulators())
      throw InputError("accumulator " + std::to_string(k) + " does not exist; there are " +
                       std::to_string(adapter().accumulators()));
  adapter().setRuns(runsOf(lengthsOf(recorded_->trees), accumulators), runsOf(recorded_->headCounts, accumulators));
  const Recorded recorded = std::move(*recorded_);
  recorded_.reset();
  const profile::Scope scope(profile::kOther);
  const at::Tensor cotangent = onDevice(toTensor(cotangents)).to(recorded.outputs.scalar_type());
  withinMemory(recorded.trees, [&] { recorded.outputs.backward(cotangent); });
  if (recorded.headInput.defined()) {
    const c10::NoGradGuard noGrad;
    adapter().addScoreGradient(recorded.headInput, cotangent);
  }
  weights_->checkFiles();
}

void Model::discardGradients() {
  const c10::NoGradGuard noGrad;
  adapter().discardGradients();
  recorded_.reset();
}

double Model::step(const std::vector<double>& coefficients, double learningRate, double maxGradNorm,
                   const SumOverPeers& sumOverPeers) {
  const c10::NoGradGuard noGrad;
  const profile::Scope scope(profile::kOptimizer);
  const double norm = adapter().step(coefficients, learningRate, maxGradNorm, sumOverPeers);
  forget();
  return norm;
}

void Model::average() {
  const c10::NoGradGuard noGrad;
  const profile::Scope scope(profile::kOptimizer);
  adapter().average();
}

void Model::exchangeAverage() {
  const c10::NoGradGuard noGrad;
  if (adapter().exchangeAverage()) forget();
}

Adapter& Model::adapter() {
  if (!adapter_) throw InputError("the model has no adapter yet: call addAdapter first");
  return *adapter_;
}

std::vector<double> Model::readTrainable(const std::string& name) { return toVector(adapter().values(name)); }

void Model::writeTrainable(const std::string& name, const std::vector<double>& values) {
  const c10::NoGradGuard noGrad;
  const at::Tensor target = adapter().values(name);
  if (static_cast<int64_t>(values.size()) != target.numel())
    throw InputError(name + " has " + std::to_string(target.numel()) + " values, not " + std::to_string(values.size()));
  target.view(-1).copy_(toTensor(values));
  forget();
}

std::vector<double> Model::readGradient(const std::string& name, const std::vector<double>& coefficients) {
  return toVector(adapter().gradient(name, coefficients));
}

std::map<std::string, int64_t> Model::recordedNodes() const {
  if (!recorded_) throw InputError("there is no graph: call forward with record first");
  std::map<std::string, int64_t> counts;
  const auto root = recorded_->outputs.grad_fn();
  std::set<const torch::autograd::Node*> seen{root.get()};
  std::vector<const torch::autograd::Node*> left{root.get()};
  while (!left.empty()) {
    const torch::autograd::Node* node = left.back();
    left.pop_back();
    ++counts[node->name()];
    for (const torch::autograd::Edge& edge : node->next_edges())
      if (edge.is_valid() && seen.insert(edge.function.get()).second) left.push_back(edge.function.get());
  }
  return counts;
}

size_t Model::bytes() const {
  size_t sum = weights_ ? weights_->bytes() : 0;
  if (adapter_) sum += adapter_->bytes();
  for (const auto& layer : reference_)
    for (const auto& pair : layer)
      if (pair) sum += pair->a.nbytes() + pair->b.nbytes();
  return sum;
}

}  // namespace group_robust
