#include "gemma/model.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/function.h>

#include <algorithm>
#include <set>
#include <utility>

#include "error_types.h"
#include "gemma/device_memory.h"
#include "kernels/gather.h"
#include "kernels/precision.h"
#include "kernels/token_log_prob.h"
#include "profile.h"

namespace group_robust {
namespace {

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

std::vector<int64_t> lengthsOf(const std::vector<AttentionTree>& trees) {
  std::vector<int64_t> lengths;
  for (const AttentionTree& tree : trees) lengths.push_back(tree.length);
  return lengths;
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

}  // namespace

void Model::load(const std::vector<HeaderedFile>& files, const WeightNames& names) {
  const c10::NoGradGuard noGrad;
  transformer_.load(files, names);
  forget();
}

void Model::randomize(uint64_t seed, double standardDeviation) {
  const c10::NoGradGuard noGrad;
  transformer_.randomize(seed, standardDeviation);
  forget();
}

void Model::addAdapter(const std::vector<LoraModule>& modules, bool scoreHead, uint64_t seed, int64_t accumulators,
                       const AdamWConfig& optimizer) {
  const c10::NoGradGuard noGrad;
  const at::TensorOptions wide = at::TensorOptions(accurate(transformer_.options().dtype)).device(device());
  Adapter adapter(transformer_.config(), modules, scoreHead, wide, seed, accumulators, optimizer);
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
  const Weights& weights = transformer_.weights();
  if (record && source != Source::kPolicy) throw InputError("only the policy can be recorded for backward");
  if (record) adapter();
  const Batch batch =
      makeBatch(packed, transformer_.config().vocabulary, device(), scores(source) ? Readout::kLast : Readout::kTokens);
  const c10::AutoGradMode gradients(record);
  if (record) recorded_.reset();  // before the pass, so that two graphs are never alive at once
  return withinMemory(batch.trees, [&] {
    at::Tensor input = headInput(batch, active(source)), outputs;
    if (scores(source)) {
      input = input.to(accurate(transformer_.options().dtype));
      outputs = responseScores(input);
    } else {
      outputs = responseLogProbabilities(batch, input);
      input.reset();
    }
    std::vector<double> values = toVector(outputs);
    weights.checkFiles();
    if (record) recorded_ = Recorded{outputs, input.defined() ? input.detach() : input, batch.trees, batch.headCounts};
    return values;
  });
}

at::Tensor Model::headInput(const Batch& batch, const LoraLayers* lora) const {
  const profile::Scope scope(profile::kEmbedding);
  return transformer_.headInput({batch.tokens, transformer_.rotariesOf(batch.positions),
                                 transformer_.attentionWithin(batch.trees), batch.headRows},
                                lora);
}

at::Tensor Model::responseLogProbabilities(const Batch& batch, const at::Tensor& headInput) const {
  const profile::Scope head(profile::kHead);
  const at::Tensor tokens =
      tokenLogProbabilities(gathered(headInput, batch.predictors), transformer_.weights().embedding, batch.targets,
                            transformer_.config().logitCap);
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

Sequences::Prefilled Model::prefill(const std::vector<int32_t>& prompt) {
  if (scores(Source::kPolicy)) throw InputError("a reward model scores responses; it cannot continue a prompt");
  return sequences_.prefill(prompt, active(Source::kPolicy));
}

std::vector<float> Model::decode(const std::vector<int64_t>& sequences, const std::vector<int32_t>& tokens) {
  return sequences_.decode(sequences, tokens, active(Source::kPolicy));
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
  const at::Tensor cotangent = transformer_.onDevice(toTensor(cotangents)).to(recorded.outputs.scalar_type());
  withinMemory(recorded.trees, [&] { recorded.outputs.backward(cotangent); });
  if (recorded.headInput.defined()) {
    const c10::NoGradGuard noGrad;
    adapter().addScoreGradient(recorded.headInput, cotangent);
  }
  transformer_.weights().checkFiles();
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
  size_t sum = transformer_.bytes();
  if (adapter_) sum += adapter_->bytes();
  for (const auto& layer : reference_)
    for (const auto& pair : layer)
      if (pair) sum += pair->a.nbytes() + pair->b.nbytes();
  return sum;
}

}  // namespace group_robust
