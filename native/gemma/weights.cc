#include "gemma/weights.h"

#include <ATen/ATen.h>

#include <functional>
#include <map>

#include "error_types.h"
#include "gemma/generator.h"

namespace group_robust {
namespace {

/** Calls visit(name, slot, shape) for every tensor of the model, in a fixed order; names are what follows "model.". */
template <class W, class Visit>
void visitWeights(const GemmaConfig& config, W& weights, Visit visit) {
  visit(std::string("embed_tokens.weight"), weights.embedding, {config.vocabulary, config.hidden});
  for (size_t n = 0; n < weights.layers.size(); ++n) {
    auto& layer = weights.layers[n];
    const std::string prefix = "layers." + std::to_string(n) + ".";
    const auto norm = [&](const char* name, auto& tensor, int64_t size) {
      visit(prefix + name + ".weight", tensor, {size});
    };
    norm("input_layernorm", layer.attentionNorm, config.hidden);
    for (int p = 0; p < kProjections; ++p) {
      const auto projection = static_cast<Projection>(p);
      const auto [out, in] = projectionShape(config, projection);
      visit(prefix + modulePath(projection) + ".weight", layer.projections[p], {out, in});
    }
    if (config.queryKeyNorms) {
      norm("self_attn.q_norm", layer.queryNorm, config.headSize);
      norm("self_attn.k_norm", layer.keyNorm, config.headSize);
    }
    // "post_attention_layernorm" is two things: Gemma 1 has it of the sum, before the MLP, the others of attention
    // alone.
    if (config.norms == Norms::kAround) {
      norm("post_attention_layernorm", layer.attentionOutputNorm, config.hidden);
      norm("pre_feedforward_layernorm", layer.mlpNorm, config.hidden);
      norm("post_feedforward_layernorm", layer.mlpOutputNorm, config.hidden);
    } else {
      norm("post_attention_layernorm", layer.mlpNorm, config.hidden);
    }
  }
  visit(std::string("norm.weight"), weights.norm, {config.hidden});
}

/** At most five of `names`, for a message. */
std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < names.size() && i < 5; ++i) text += (i > 0 ? ", " : "") + jsonQuote(names[i]);
  return names.size() > 5 ? text + " and " + std::to_string(names.size() - 5) + " more" : text;
}

}  // namespace

const std::string& modulePath(Projection projection) {
  static const std::array<std::string, kProjections> kPaths = {
      "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
      "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};
  return kPaths[projection];
}

std::array<int64_t, 2> projectionShape(const GemmaConfig& config, Projection projection) {
  const int64_t queries = config.heads * config.headSize;
  const int64_t keys = config.keyValueHeads * config.headSize;
  switch (projection) {
    case kQuery:
      return {queries, config.hidden};
    case kKey:
    case kValue:
      return {keys, config.hidden};
    case kOutput:
      return {config.hidden, queries};
    case kDown:
      return {config.hidden, config.mlp};
    default:
      return {config.mlp, config.hidden};
  }
}

size_t Weights::bytes() const {
  GemmaConfig any{};
  any.norms = Norms::kAround;
  any.queryKeyNorms = true;
  size_t sum = 0;
  visitWeights(any, *this, [&](const std::string&, const at::Tensor& tensor, at::IntArrayRef) {
    if (tensor.defined()) sum += tensor.nbytes();
  });
  return sum;
}

void Weights::checkFiles() const {
  for (const auto& file : files)
    if (const auto mapped = file.lock()) mapped->check();
}

Weights loadWeights(const GemmaConfig& config, at::ScalarType dtype, const at::Device& device,
                    const std::vector<HeaderedFile>& files, const WeightNames& names) {
  if (files.empty()) throw InputError("no safetensors file given");
  std::vector<SafetensorsFile> shards;
  shards.reserve(files.size());
  size_t entries = 0;
  for (const HeaderedFile& file : files) entries += shards.emplace_back(file).entries().size();
  // Before anything is made of that many layers, which a slip of the pen would make huge.
  if (static_cast<size_t>(config.layers) > entries)
    throw InputError(files.front().path + (files.size() > 1 ? " and the other shards" : "") + ": " +
                     (entries == 1 ? "holds 1 tensor" : "holds " + std::to_string(entries) + " tensors") +
                     ", too few for a model of " + std::to_string(config.layers) + " layers");
  Weights weights;
  weights.layers.resize(config.layers);
  struct Slot {
    at::Tensor* tensor;
    std::vector<int64_t> shape;
  };
  std::map<std::string, Slot> slots;
  visitWeights(config, weights, [&](const std::string& name, at::Tensor& tensor, at::IntArrayRef shape) {
    slots[names.model + name] = {&tensor, shape.vec()};
  });
  at::Tensor head;
  slots[names.head] = {&head, {config.vocabulary, config.hidden}};

  // Names and shapes of all shards first: a wrong checkpoint is refused before gigabytes of it are read.
  std::map<std::string, const SafetensorsFile*> sources;
  for (const SafetensorsFile& shard : shards) {
    const std::string& path = shard.path();
    std::vector<std::string> extra;
    for (const auto& [name, entry] : shard.entries()) {
      const auto slot = slots.find(name);
      if (slot == slots.end()) {
        extra.push_back(name);
        continue;
      }
      if (entry.shape != slot->second.shape)
        throw InputError(path + ": tensor " + jsonQuote(name) + ": has shape " + describeShape(entry.shape) +
                         ", but the configuration needs " + describeShape(slot->second.shape));
      if (const auto [place, fresh] = sources.emplace(name, &shard); !fresh)
        throw InputError(path + ": tensor " + jsonQuote(name) + ": is in " + place->second->path() + " already");
    }
    if (!extra.empty())
      throw InputError(path + ": tensor " + listed(extra) + ": not part of this Gemma model of " +
                       std::to_string(config.layers) + " layers");
  }
  std::vector<std::string> missing;
  for (const auto& [name, slot] : slots)
    if (name != names.head && !sources.contains(name)) missing.push_back(name);
  if (!missing.empty())
    throw InputError(files.front().path + (files.size() > 1 ? " and the other shards" : "") + ": tensor " +
                     listed(missing) + ": missing");

  // The embedding first: the head is compared with it, and not needed again.
  const std::string embedding = names.model + "embed_tokens.weight";
  weights.embedding = sources[embedding]->view(embedding, dtype);
  if (sources.contains(names.head)) head = sources[names.head]->view(names.head, dtype);
  if (head.defined() && !at::equal(head, weights.embedding))
    throw InputError(sources[names.head]->path() + ": tensor " + jsonQuote(names.head) + ": differs from " +
                     names.model + "embed_tokens.weight; Gemma ties the two, so this is another kind of model");
  for (const SafetensorsFile& shard : shards) weights.files.push_back(shard.mapping());
  weights.embedding = weights.embedding.to(device);
  for (const auto& [name, shard] : sources)
    if (name != names.head && name != embedding) *slots[name].tensor = shard->view(name, dtype).to(device);
  if (!device.is_cpu()) weights.checkFiles();  // while the mappings are there
  return weights;
}

Weights randomWeights(const GemmaConfig& config, at::ScalarType dtype, const at::Device& device, uint64_t seed,
                      double standardDeviation) {
  Weights weights;
  weights.layers.resize(config.layers);
  const at::Generator generator = seededGenerator(seed);
  visitWeights(config, weights, [&](const std::string&, at::Tensor& tensor, at::IntArrayRef shape) {
    if (shape.size() == 1)
      tensor = at::zeros(shape, at::TensorOptions(dtype).device(device));
    else
      tensor =
          at::empty(shape, at::TensorOptions(at::kFloat)).normal_(0, standardDeviation, generator).to(device, dtype);
  });
  return weights;
}

}  // namespace group_robust
