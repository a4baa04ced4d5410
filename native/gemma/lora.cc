#include "gemma/lora.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <string_view>
#include <utility>

#include "error_types.h"
#include "gemma/generator.h"
#include "kernels/upload.h"

namespace group_robust {
namespace {

constexpr const char* kPeftPrefix = "base_model.model.";
constexpr const char* kModelPrefix = "model.";
constexpr const char* kScoreHead = "score.weight";

// Tensors of a state file: the flat vectors, in the order of Adapter::tensors(), and the optimiser's count as [1] F64.
constexpr const char* kStateValues = "values";
constexpr const char* kStateFirstMoment = "first_moment";
constexpr const char* kStateSecondMoment = "second_moment";
constexpr const char* kStateSteps = "steps";
constexpr const char* kStateMean = "mean";
constexpr const char* kStateAveraged = "averaged";

/** "self_attn.q_proj" -> "q_proj" */
std::string leafName(Projection projection) {
  const std::string& path = modulePath(projection);
  return path.substr(path.find('.') + 1);
}

Projection projectionNamed(const std::string& target) {
  std::string known;
  for (int p = 0; p < kProjections; ++p) {
    const auto projection = static_cast<Projection>(p);
    if (leafName(projection) == target) return projection;
    known += (p > 0 ? ", " : "") + leafName(projection);
  }
  throw InputError("modules has an unknown projection " + jsonQuote(target) + "; known: " + known);
}

/** "model.layers.0.…" -> "base_model.model." + model + "layers.0.…"; the head belongs to no part of the model */
std::string peftName(const std::string& model, const AdapterTensor& tensor) {
  if (!tensor.place) return kPeftPrefix + tensor.name;
  return kPeftPrefix + model + tensor.name.substr(std::string_view(kModelPrefix).size());
}

}  // namespace

Adapter::Adapter(const GemmaConfig& config, const std::vector<LoraModule>& modules, bool scoreHead,
                 const at::TensorOptions& options, uint64_t seed, int64_t accumulators, const AdamWConfig& optimizer)
    : layerCount_(static_cast<size_t>(config.layers)),
      scales_(layerCount_),
      optimizer_((validate(optimizer), optimizer), at::empty({0}, options)) {
  if (modules.empty()) throw InputError("modules is empty: nothing would be trained");
  std::set<std::pair<int64_t, Projection>> seen;
  int64_t size = 0;
  for (const auto& [layer, target, rank, scale] : modules) {
    const Projection projection = projectionNamed(target);
    const std::string path = std::to_string(layer) + "." + modulePath(projection);
    if (layer >= config.layers)
      throw InputError("modules has layer " + std::to_string(layer) + " of " + std::to_string(config.layers));
    if (!seen.emplace(layer, projection).second) throw InputError("modules has " + path + " twice");
    if (!std::isfinite(scale)) throw InputError("scale must be a finite number");
    scales_[layer][projection] = scale;
    const auto [out, in] = projectionShape(config, projection);
    for (const bool isA : {true, false}) {
      const std::array<int64_t, 2> shape = isA ? std::array{rank, in} : std::array{out, rank};
      tensors_.push_back({kModelPrefix + ("layers." + path) + (isA ? ".lora_A.weight" : ".lora_B.weight"), shape, size,
                          shape[0] * shape[1], LoraPlace{static_cast<size_t>(layer), projection, isA}});
      size += shape[0] * shape[1];
    }
  }
  if (scoreHead) {
    tensors_.push_back({kScoreHead, {1, config.hidden}, size, config.hidden, std::nullopt});
    size += config.hidden;
  }
  values_ = at::zeros({size}, options);
  accumulators_ = at::zeros({accumulators, size}, options);
  optimizer_ = AdamW(optimizer, values_);

  const at::Generator generator = seededGenerator(seed);
  for (const AdapterTensor& tensor : tensors_) {
    if (!tensor.place || !tensor.place->isA) continue;
    const double bound = 1 / std::sqrt(static_cast<double>(tensor.shape[1]));
    // Drawn in float32 on the CPU whatever the type and the device, so one seed means one adapter.
    values_.narrow(0, tensor.offset, tensor.size)
        .copy_(at::empty({tensor.size}, at::TensorOptions(at::kFloat)).uniform_(-bound, bound, generator));
  }

  layers_ = viewsOf(values_);
  for (size_t n = 0; n < layers_.size(); ++n)
    for (size_t p = 0; p < kProjections; ++p) {
      auto& pair = layers_[n][p];
      if (!pair) continue;
      pair->a.set_requires_grad(true);
      pair->b.set_requires_grad(true);
      pair->gradient = c10::make_intrusive<LoraGradient>();
      pair->gradient->runs = n + 1 == layers_.size() && p >= kOutput ? headRuns_ : runs_;
    }
  for (const AdapterTensor& tensor : tensors_) {
    if (!tensor.place) continue;
    const auto& [layer, projection, isA] = *tensor.place;
    LoraGradient& gradient = *layers_[layer][projection]->gradient;
    (isA ? gradient.a : gradient.b) = accumulators_.narrow(1, tensor.offset, tensor.size).unflatten(1, tensor.shape);
  }
}

LoraLayers Adapter::viewsOf(const at::Tensor& flat) const {
  LoraLayers layers(layerCount_);
  for (const AdapterTensor& tensor : tensors_) {
    if (!tensor.place) continue;
    const auto& [layer, projection, isA] = *tensor.place;
    auto& pair = layers[layer][projection];
    if (!pair) pair.emplace().scale = scales_[layer][projection];
    (isA ? pair->a : pair->b) = flat.narrow(0, tensor.offset, tensor.size).view(tensor.shape).detach();
  }
  return layers;
}

LoraLayers Adapter::frozenCopy() const { return viewsOf(values_.clone()); }

size_t Adapter::bytes() const {
  return values_.nbytes() + accumulators_.nbytes() + optimizer_.bytes() + (mean_.defined() ? mean_.nbytes() : 0);
}

const AdapterTensor& Adapter::find(const std::string& name) const {
  const auto found =
      std::find_if(tensors_.begin(), tensors_.end(), [&](const AdapterTensor& tensor) { return tensor.name == name; });
  if (found == tensors_.end()) throw InputError("the adapter has no tensor " + jsonQuote(name));
  return *found;
}

at::Tensor Adapter::values(const std::string& name) const {
  const AdapterTensor& tensor = find(name);
  return values_.narrow(0, tensor.offset, tensor.size).view(tensor.shape);
}

at::Tensor Adapter::scoreHead() const { return values(kScoreHead).view(-1); }

void Adapter::addScoreGradient(const at::Tensor& hidden, const at::Tensor& cotangents) {
  const AdapterTensor& head = find(kScoreHead);
  for (const auto& [begin, end, accumulator] : *headRuns_)
    accumulators_.select(0, accumulator)
        .narrow(0, head.offset, head.size)
        .add_(at::mv(hidden.narrow(0, begin, end - begin).t(), cotangents.narrow(0, begin, end - begin)));
}

at::Tensor Adapter::combine(const at::Tensor& accumulators, const std::vector<double>& coefficients) const {
  if (static_cast<int64_t>(coefficients.size()) != accumulators_.size(0))
    throw InputError("coefficients has " + std::to_string(coefficients.size()) + " entries for " +
                     std::to_string(accumulators_.size(0)) + " accumulators");
  // Up in their own type: to change it on the way would wait for the backward pass.
  const at::Tensor sent = uploaded(at::tensor(coefficients, at::TensorOptions(at::kDouble)), values_.device());
  return at::mv(accumulators.t(), sent.to(values_.scalar_type()));
}

at::Tensor Adapter::gradient(const std::string& name, const std::vector<double>& coefficients) const {
  const AdapterTensor& tensor = find(name);
  return combine(accumulators_.narrow(1, tensor.offset, tensor.size), coefficients).view(tensor.shape);
}

double Adapter::step(const std::vector<double>& coefficients, double learningRate, double maxGradNorm,
                     const SumOverPeers& sumOverPeers) {
  if (!(learningRate >= 0 && std::isfinite(learningRate)))
    throw InputError("learningRate must be a finite number of at least 0");
  if (!(maxGradNorm > 0)) throw InputError("maxGradNorm must be positive; use Infinity for no clipping");
  requireValues();
  at::Tensor gradient = combine(accumulators_, coefficients);
  accumulators_.zero_();
  if (sumOverPeers) sumOverPeers(gradient);
  const auto norm = at::linalg_vector_norm(gradient, 2, std::nullopt, false, at::kDouble).item<double>();
  if (!std::isfinite(norm)) return norm;
  if (norm > maxGradNorm) gradient.mul_(maxGradNorm / norm);
  optimizer_.step(values_, gradient, learningRate);
  return norm;
}

void Adapter::average() {
  requireValues();
  ++averaged_;
  if (mean_.defined())
    mean_.lerp_(values_, 1.0 / static_cast<double>(averaged_));
  else
    mean_ = values_.clone();
}

bool Adapter::exchangeAverage() {
  if (!mean_.defined()) return false;
  const at::Tensor held = values_.clone();
  values_.copy_(mean_);
  mean_.copy_(held);
  exchanged_ = !exchanged_;
  return true;
}

void Adapter::requireValues() const {
  if (exchanged_) throw InputError("the average stands in the place of the adapter: exchange them first");
}

void Adapter::load(const HeaderedFile& input, const std::string& model) {
  const std::string& file = input.path;
  const SafetensorsFile source(input);
  const at::Tensor read = at::empty_like(values_);
  size_t found = 0;
  for (const AdapterTensor& tensor : tensors_) {
    const std::string name = peftName(model, tensor);
    const auto entry = source.entries().find(name);
    if (entry == source.entries().end()) {
      if (tensor.place) throw InputError(file + ": tensor " + jsonQuote(name) + ": missing");
      read.narrow(0, tensor.offset, tensor.size).copy_(values_.narrow(0, tensor.offset, tensor.size));
      continue;
    }
    const std::vector<int64_t> shape(tensor.shape.begin(), tensor.shape.end());
    if (entry->second.shape != shape) {
      const std::string problem = file + ": tensor " + jsonQuote(name) + ": has shape " +
                                  describeShape(entry->second.shape) + ", but this model ";
      if (!tensor.place) throw InputError(problem + "needs " + describeShape(shape) + ", one score of a response");
      throw InputError(problem + "with rank " + std::to_string(tensor.shape[tensor.place->isA ? 0 : 1]) + " needs " +
                       describeShape(shape) + " (A is [rank, in], B is [out, rank])");
    }
    ++found;
    read.narrow(0, tensor.offset, tensor.size).copy_(source.read(name, values_.scalar_type()).view(-1));
  }
  if (found < source.entries().size())
    for (const auto& [name, entry] : source.entries())
      if (std::none_of(tensors_.begin(), tensors_.end(), [&](const auto& t) { return peftName(model, t) == name; }))
        throw InputError(file + ": tensor " + jsonQuote(name) + ": not part of this adapter; check target_modules");
  values_.copy_(read);
}

void Adapter::save(const std::string& file, const std::string& model) const {
  std::map<std::string, at::Tensor> tensors;
  for (const AdapterTensor& tensor : tensors_)
    tensors[peftName(model, tensor)] = values(tensor.name).to(at::kCPU, at::kFloat);
  writeSafetensors(file, tensors);
}

void Adapter::saveState(const std::string& file) const {
  requireValues();
  const auto& [firstMoment, secondMoment, steps] = optimizer_.state();
  const auto count = [](int64_t number) {
    return at::full({1}, static_cast<double>(number), at::TensorOptions(at::kDouble));
  };
  std::map<std::string, at::Tensor> tensors{{kStateValues, values_.cpu()},
                                            {kStateFirstMoment, firstMoment.cpu()},
                                            {kStateSecondMoment, secondMoment.cpu()},
                                            {kStateSteps, count(steps)}};
  if (mean_.defined()) {
    tensors.emplace(kStateMean, mean_.cpu());
    tensors.emplace(kStateAveraged, count(averaged_));
  }
  writeSafetensors(file, tensors);
}

void Adapter::loadState(const HeaderedFile& input) {
  const std::string& file = input.path;
  const SafetensorsFile source(input);
  const auto read = [&](const char* name, at::IntArrayRef shape, at::ScalarType dtype) {
    const auto entry = source.entries().find(name);
    if (entry == source.entries().end()) throw InputError(file + ": tensor " + jsonQuote(name) + ": missing");
    // Another type would be rounded, and the run would no longer continue bit for bit.
    if (entry->second.shape != shape || entry->second.dtype != dtype)
      throw InputError(file + ": tensor " + jsonQuote(name) + ": is not of this adapter's shape and type");
    return source.read(name, dtype);
  };
  const auto fail = [&](const char* name, const std::string& problem) {
    throw InputError(file + ": tensor " + jsonQuote(name) + ": " + problem + "; the file is damaged");
  };
  const at::Tensor values = read(kStateValues, values_.sizes(), values_.scalar_type());
  AdamW::State state{read(kStateFirstMoment, values_.sizes(), values_.scalar_type()),
                     read(kStateSecondMoment, values_.sizes(), values_.scalar_type())};
  // A step divides by the root of the second moment.
  if (state.secondMoment.lt(0).any().item<bool>()) fail(kStateSecondMoment, "holds numbers below 0");
  const auto readCount = [&](const char* name, int64_t least) {
    const auto count = read(name, {1}, at::kDouble).item<double>();
    if (!(count >= least && count < 9007199254740992.0 && std::floor(count) == count))
      fail(name, "must be a whole number from " + std::to_string(least) + " to 2^53");
    return static_cast<int64_t>(count);
  };
  state.steps = readCount(kStateSteps, 0);
  // Of a run that keeps an average and has come to its first step.
  const bool averages = source.entries().count(kStateMean) > 0 || source.entries().count(kStateAveraged) > 0;
  const at::Tensor mean = averages ? read(kStateMean, values_.sizes(), values_.scalar_type()) : at::Tensor();
  averaged_ = averages ? readCount(kStateAveraged, 1) : 0;
  mean_ = averages ? mean.to(values_.device()) : mean;
  exchanged_ = false;
  values_.copy_(values);
  state.firstMoment = state.firstMoment.to(values_.device());
  state.secondMoment = state.secondMoment.to(values_.device());
  optimizer_.restore(std::move(state));
  discardGradients();
}

}  // namespace group_robust
