#include "bindings/gemma.h"

#include <ATen/core/Tensor.h>
#include <c10/core/DeviceGuard.h>

#include <climits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "bindings/arguments.h"
#include "bindings/device.h"
#include "bindings/errors.h"
#include "bindings/job_queue.h"
#include "bindings/peers.h"
#include "gemma/model.h"
#include "profile.h"
#include "synchronisations.h"

namespace group_robust {
namespace {

Norms readNorms(const Napi::Value& value) {
  const std::string name = readString(value, "config.norms");
  if (name == "before") return Norms::kBefore;
  if (name == "around") return Norms::kAround;
  throw InputError("config.norms: expected before or around");
}

std::vector<AttentionKind> readKinds(const Napi::Value& value) {
  if (!value.IsArray()) throw InputError("config.attentionKinds: expected an array");
  const auto list = value.As<Napi::Array>();
  std::vector<AttentionKind> kinds;
  for (uint32_t i = 0; i < list.Length(); ++i) {
    const std::string field = "config.attentionKinds[" + std::to_string(i) + "]";
    const auto object = readObject(list.Get(i), field);
    kinds.push_back({readInteger(object.Get("window"), field + ".window", 0, kLargestSize),
                     readNumber(object.Get("ropeTheta"), field + ".ropeTheta"),
                     readNumber(object.Get("ropeFactor"), field + ".ropeFactor")});
  }
  return kinds;
}

GemmaConfig readConfig(const Napi::Value& value) {
  const auto object = readObject(value, "config");
  const auto size = [&](const char* field) {
    return readInteger(object.Get(field), std::string("config.") + field, 1, kLargestSize);
  };
  const auto number = [&](const char* field) { return readNumber(object.Get(field), std::string("config.") + field); };
  return {size("layers"),
          size("hidden"),
          size("heads"),
          size("keyValueHeads"),
          size("headSize"),
          size("mlp"),
          size("vocabulary"),
          number("rmsEpsilon"),
          readNorms(object.Get("norms")),
          readBoolean(object.Get("queryKeyNorms"), "config.queryKeyNorms"),
          number("attentionScale"),
          number("attentionCap"),
          number("logitCap"),
          readKinds(object.Get("attentionKinds")),
          readIntegers(object.Get("layerPattern"), "config.layerPattern", 0, kLargestSize)};
}

at::ScalarType readDtype(const Napi::Value& value, const std::string& field) {
  const std::string name = readString(value, field);
  if (name == "float32") return at::kFloat;
  if (name == "bfloat16") return at::kBFloat16;
  if (name == "float64") return at::kDouble;
  throw InputError(field + ": expected float32, bfloat16 or float64");
}

std::unique_ptr<Model> makeModel(const Napi::CallbackInfo& info) {
  const auto options = readObject(info[1], "options");
  return std::make_unique<Model>(readConfig(info[0]),
                                 ModelOptions{readDtype(options.Get("dtype"), "options.dtype"),
                                              readDtype(options.Get("baseDtype"), "options.baseDtype"),
                                              readDevice(options.Get("device"), "options.device"),
                                              readBoolean(options.Get("recompute"), "options.recompute")});
}

Source readSource(const Napi::Value& value) {
  const std::string name = readString(value, "source");
  if (name == "policy") return Source::kPolicy;
  if (name == "reference") return Source::kReference;
  if (name == "base") return Source::kBase;
  throw InputError("source: expected policy, reference or base");
}

std::vector<LoraModule> readLora(const Napi::Value& value) {
  std::vector<LoraModule> modules;
  for (const Napi::Value& entry : readList(value, "lora")) {
    const std::string name = "lora[" + std::to_string(modules.size()) + "]";
    const auto object = readObject(entry, name);
    modules.push_back({readInteger(object.Get("layer"), name + ".layer", 0, kLargestSize),
                       readString(object.Get("target"), name + ".target"),
                       readInteger(object.Get("rank"), name + ".rank", 1, 65536),
                       readNumber(object.Get("scale"), name + ".scale")});
  }
  return modules;
}

WeightNames readNames(const Napi::Value& value) {
  const auto object = readObject(value, "names");
  return {readString(object.Get("model"), "names.model"), readString(object.Get("head"), "names.head")};
}

AdamWConfig readOptimizer(const Napi::Value& value) {
  const auto object = readObject(value, "optimizer");
  const auto betas = readObject(object.Get("betas"), "optimizer.betas");
  return {readNumber(betas.Get(uint32_t{0}), "optimizer.betas[0]"),
          readNumber(betas.Get(uint32_t{1}), "optimizer.betas[1]"),
          readNumber(object.Get("epsilon"), "optimizer.epsilon"),
          readNumber(object.Get("weightDecay"), "optimizer.weightDecay")};
}

HeaderEntry readEntry(const Napi::Value& value, const std::string& name) {
  const auto object = readObject(value, name);
  const auto size = [&](const Napi::Value& number, const std::string& field) {
    return readInteger(number, field, 0, kLargestInteger);
  };
  HeaderEntry entry{readString(object.Get("name"), name + ".name"),
                    readString(object.Get("dtype"), name + ".dtype"),
                    {},
                    size(object.Get("begin"), name + ".begin"),
                    size(object.Get("end"), name + ".end")};
  for (const Napi::Value& length : readList(object.Get("shape"), name + ".shape"))
    entry.shape.push_back(size(length, name + ".shape"));
  return entry;
}

HeaderedFile readFile(const Napi::Value& value, const std::string& name) {
  const auto object = readObject(value, name);
  HeaderedFile file{readString(object.Get("path"), name + ".path"),
                    static_cast<int>(readInteger(object.Get("descriptor"), name + ".descriptor", 0, INT_MAX)),
                    {}};
  const std::string entries = name + ".entries";
  for (const Napi::Value& entry : readList(object.Get("entries"), entries))
    file.entries.push_back(readEntry(entry, entries + "[" + std::to_string(file.entries.size()) + "]"));
  return file;
}

std::vector<HeaderedFile> readFiles(const Napi::Value& value) {
  std::vector<HeaderedFile> files;
  for (const Napi::Value& file : readList(value, "files"))
    files.push_back(readFile(file, "files[" + std::to_string(files.size()) + "]"));
  return files;
}

/** Keeps the processes' connections for as long as the job that sums. */
SumOverPeers readSumOverPeers(const Napi::Value& value) {
  if (value.IsUndefined()) return nullptr;
  return [peers = readPeers(value, "peers")](at::Tensor& tensor) { peers->sum(tensor); };
}

int64_t readSequence(const Napi::Value& value) { return readInteger(value, "sequence", 0, kLargestInteger); }

PackedTokens readBatch(const Napi::Value& value) {
  const auto object = readObject(value, "batch");
  const auto field = [&](const char* name) { return readInt32Array(object.Get(name), std::string("batch.") + name); };
  return {field("tokens"), field("promptLengths"), field("responseCounts"), field("responseLengths")};
}

/** Arguments are copied out on the JavaScript thread; the work runs on the queue's, the only thread to touch the model.
 */
class Gemma : public Napi::ObjectWrap<Gemma> {
 public:
  explicit Gemma(const Napi::CallbackInfo& info)
      : ObjectWrap(info),
        model_(guarded(info.Env(), [&] { return makeModel(info); })),
        memory_(info.Env()),
        queue_(guarded(info.Env(), [&] { return JobQueue(info.Env()); })) {}

  static void install(Napi::Env env, Napi::Object exports) {
    exports.Set("Gemma", DefineClass(env, "Gemma",
                                     {InstanceMethod<&Gemma::load>("load"),
                                      InstanceMethod<&Gemma::randomize>("randomize"),
                                      InstanceMethod<&Gemma::addAdapter>("addAdapter"),
                                      InstanceMethod<&Gemma::loadAdapter>("loadAdapter"),
                                      InstanceMethod<&Gemma::saveAdapter>("saveAdapter"),
                                      InstanceMethod<&Gemma::saveState>("saveState"),
                                      InstanceMethod<&Gemma::loadState>("loadState"),
                                      InstanceMethod<&Gemma::freezeReference>("freezeReference"),
                                      InstanceMethod<&Gemma::forward>("forward"),
                                      InstanceMethod<&Gemma::backward>("backward"),
                                      InstanceMethod<&Gemma::discardGradients>("discardGradients"),
                                      InstanceMethod<&Gemma::step>("step"),
                                      InstanceMethod<&Gemma::average>("average"),
                                      InstanceMethod<&Gemma::exchangeAverage>("exchangeAverage"),
                                      InstanceMethod<&Gemma::prefill>("prefill"),
                                      InstanceMethod<&Gemma::fork>("fork"),
                                      InstanceMethod<&Gemma::decode>("decode"),
                                      InstanceMethod<&Gemma::release>("release"),
                                      InstanceMethod<&Gemma::trainable>("trainable"),
                                      InstanceMethod<&Gemma::readTrainable>("readTrainable"),
                                      InstanceMethod<&Gemma::writeTrainable>("writeTrainable"),
                                      InstanceMethod<&Gemma::readGradient>("readGradient"),
                                      InstanceMethod<&Gemma::recordedNodes>("recordedNodes"),
                                      InstanceMethod<&Gemma::profile>("profile"),
                                      InstanceMethod<&Gemma::synchronisations>("synchronisations"),
                                      InstanceMethod<&Gemma::dispose>("dispose")}));
  }

 private:
  /**
   * Queues the job that `prepare` (called now, on the JavaScript thread, to read the arguments) returns. A bad argument
   * rejects the promise: whoever awaits an asynchronous method looks for its errors there.
   */
  template <class Prepare, class... ToJs>
  Napi::Value queued(const Napi::CallbackInfo& info, Prepare prepare, ToJs... toJs) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const auto owner = info.This().As<Napi::Object>();
      try {
        // Of several GPUs the model's is the current one of its thread.
        auto onDevice = [this, work = prepare()] {
          const c10::DeviceGuard guard(model_->device());
          return work();
        };
        return queue_.submit(owner, std::move(onDevice), toJs...);
      } catch (const InputError&) {
        auto deferred = Napi::Promise::Deferred::New(info.Env());
        deferred.Reject(toJsError(info.Env(), currentFailure()).Value());
        return deferred.Promise();
      }
    });
  }

  /** V8 collects models sooner for it; a card's memory is none that it could make room in. */
  void tellSize(int64_t bytes) {
    if (!queue_.closed() && model_->device().is_cpu()) memory_.set(bytes);
  }

  /** For jobs that change how much memory the model holds. */
  template <class Prepare>
  Napi::Value queuedResize(const Napi::CallbackInfo& info, Prepare prepare) {
    return queued(
        info,
        [&] {
          return [this, work = prepare()] {
            work();
            return static_cast<int64_t>(model_->bytes());
          };
        },
        [this](Napi::Env env, int64_t bytes) -> Napi::Value {
          tellSize(bytes);
          return env.Undefined();
        });
  }

  Napi::Value load(const Napi::CallbackInfo& info) {
    return queuedResize(info, [&] {
      return [this, files = readFiles(info[0]), names = readNames(info[1])] { model_->load(files, names); };
    });
  }

  Napi::Value randomize(const Napi::CallbackInfo& info) {
    return queuedResize(info, [&] {
      return [this, seed = readInteger(info[0], "seed", 0, kLargestInteger),
              deviation = readNumber(info[1], "standardDeviation")] {
        model_->randomize(static_cast<uint64_t>(seed), deviation);
      };
    });
  }

  Napi::Value addAdapter(const Napi::CallbackInfo& info) {
    struct Outcome {
      std::vector<AdapterTensor> tensors;
      int64_t bytes;
    };
    return queued(
        info,
        [&] {
          return [this, lora = readLora(info[0]), scoreHead = readBoolean(info[1], "scoreHead"),
                  seed = readInteger(info[2], "seed", 0, kLargestInteger),
                  accumulators = readInteger(info[3], "accumulators", 1, kLargestSize),
                  optimizer = readOptimizer(info[4])] {
            model_->addAdapter(lora, scoreHead, static_cast<uint64_t>(seed), accumulators, optimizer);
            return Outcome{model_->adapter().tensors(), static_cast<int64_t>(model_->bytes())};
          };
        },
        [this](Napi::Env env, Outcome outcome) -> Napi::Value {
          trainable_ = std::move(outcome.tensors);
          tellSize(outcome.bytes);
          return env.Undefined();
        });
  }

  Napi::Value loadAdapter(const Napi::CallbackInfo& info) {
    return queued(info, [&] {
      return [this, file = readFile(info[0], "file"), model = readString(info[1], "model")] {
        model_->loadAdapter(file, model);
      };
    });
  }

  Napi::Value saveAdapter(const Napi::CallbackInfo& info) {
    return queued(info, [&] {
      return [this, file = readString(info[0], "file"), model = readString(info[1], "model")] {
        model_->saveAdapter(file, model);
      };
    });
  }

  Napi::Value saveState(const Napi::CallbackInfo& info) {
    return queued(info, [&] { return [this, file = readString(info[0], "file")] { model_->saveState(file); }; });
  }

  Napi::Value loadState(const Napi::CallbackInfo& info) {
    return queued(info, [&] { return [this, file = readFile(info[0], "file")] { model_->loadState(file); }; });
  }

  Napi::Value freezeReference(const Napi::CallbackInfo& info) {
    return queuedResize(info, [&] { return [this] { model_->freezeReference(); }; });
  }

  Napi::Value forward(const Napi::CallbackInfo& info) {
    return queued(
        info,
        [&] {
          return [this, batch = readBatch(info[0]), source = readSource(info[1]),
                  record = readBoolean(info[2], "record")] { return model_->forward(batch, source, record); };
        },
        toFloat64Array);
  }

  Napi::Value backward(const Napi::CallbackInfo& info) {
    return queued(info, [&] {
      return [this, cotangents = readFloat64Array(info[0], "cotangents"),
              accumulators = readInt32Array(info[1], "accumulators")] { model_->backward(cotangents, accumulators); };
    });
  }

  Napi::Value discardGradients(const Napi::CallbackInfo& info) {
    return queued(info, [&] { return [this] { model_->discardGradients(); }; });
  }

  Napi::Value step(const Napi::CallbackInfo& info) {
    return queued(
        info,
        [&] {
          return [this, coefficients = readFloat64Array(info[0], "coefficients"),
                  learningRate = readNumber(info[1], "learningRate"), maxGradNorm = readNumber(info[2], "maxGradNorm"),
                  sumOverPeers = readSumOverPeers(info[3])] {
            return model_->step(coefficients, learningRate, maxGradNorm, sumOverPeers);
          };
        },
        [](Napi::Env env, double norm) -> Napi::Value { return Napi::Number::New(env, norm); });
  }

  Napi::Value average(const Napi::CallbackInfo& info) {
    return queuedResize(info, [&] { return [this] { model_->average(); }; });
  }

  Napi::Value exchangeAverage(const Napi::CallbackInfo& info) {
    return queued(info, [&] { return [this] { model_->exchangeAverage(); }; });
  }

  Napi::Value prefill(const Napi::CallbackInfo& info) {
    return queued(
        info, [&] { return [this, prompt = readInt32Array(info[0], "prompt")] { return model_->prefill(prompt); }; },
        [](Napi::Env env, const Sequences::Prefilled& prefilled) -> Napi::Value {
          auto object = Napi::Object::New(env);
          object.Set("sequence", static_cast<double>(prefilled.sequence));
          object.Set("logits", toFloat32Array(env, prefilled.logits));
          return object;
        });
  }

  Napi::Value fork(const Napi::CallbackInfo& info) {
    return queued(
        info,
        [&] {
          return [this, sequence = readSequence(info[0]), room = readInteger(info[1], "room", 1, kLargestSize)] {
            return model_->fork(sequence, room);
          };
        },
        [](Napi::Env env, int64_t sequence) -> Napi::Value {
          return Napi::Number::New(env, static_cast<double>(sequence));
        });
  }

  Napi::Value decode(const Napi::CallbackInfo& info) {
    return queued(
        info,
        [&] {
          return [this, sequences = readIntegers(info[0], "sequences", 0, kLargestInteger),
                  tokens = readInt32Array(info[1], "tokens")] { return model_->decode(sequences, tokens); };
        },
        toFloat32Array);
  }

  Napi::Value release(const Napi::CallbackInfo& info) {
    return queued(info, [&] { return [this, sequence = readSequence(info[0])] { model_->release(sequence); }; });
  }

  Napi::Value readTrainable(const Napi::CallbackInfo& info) {
    return queued(
        info, [&] { return [this, name = readString(info[0], "name")] { return model_->readTrainable(name); }; },
        toFloat64Array);
  }

  Napi::Value writeTrainable(const Napi::CallbackInfo& info) {
    return queued(info, [&] {
      return [this, name = readString(info[0], "name"), values = readFloat64Array(info[1], "values")] {
        model_->writeTrainable(name, values);
      };
    });
  }

  Napi::Value readGradient(const Napi::CallbackInfo& info) {
    return queued(
        info,
        [&] {
          return [this, name = readString(info[0], "name"), coefficients = readFloat64Array(info[1], "coefficients")] {
            return model_->readGradient(name, coefficients);
          };
        },
        toFloat64Array);
  }

  Napi::Value recordedNodes(const Napi::CallbackInfo& info) {
    return queued(
        info, [&] { return [this] { return model_->recordedNodes(); }; },
        [](Napi::Env env, const std::map<std::string, int64_t>& nodes) -> Napi::Value {
          auto object = Napi::Object::New(env);
          for (const auto& [name, count] : nodes) object.Set(name, static_cast<double>(count));
          return object;
        });
  }

  Napi::Value profile(const Napi::CallbackInfo& info) {
    return queued(
        info, [&] { return [] { return group_robust::profile::take(); }; },
        [](Napi::Env env, const std::vector<std::pair<std::string, double>>& seconds) -> Napi::Value {
          auto object = Napi::Object::New(env);
          for (const auto& [section, value] : seconds) object.Set(section, value);
          return object;
        });
  }

  Napi::Value synchronisations(const Napi::CallbackInfo& info) {
    return queued(
        info, [&] { return [] { return takeSynchronisations(); }; },
        [](Napi::Env env, int64_t count) -> Napi::Value { return Napi::Number::New(env, static_cast<double>(count)); });
  }

  /** Answered at once: the tensors of the adapter as the last settled addAdapter() made it. */
  Napi::Value trainable(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      if (queue_.closed()) throw DisposedError("used after dispose()");
      auto list = Napi::Array::New(info.Env(), trainable_.size());
      for (size_t i = 0; i < trainable_.size(); ++i) {
        auto shape = Napi::Array::New(info.Env(), 2);
        for (uint32_t axis = 0; axis < 2; ++axis) shape.Set(axis, static_cast<double>(trainable_[i].shape[axis]));
        auto entry = Napi::Object::New(info.Env());
        entry.Set("name", trainable_[i].name);
        entry.Set("shape", shape);
        list.Set(static_cast<uint32_t>(i), entry);
      }
      return list;
    });
  }

  void dispose(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] {
      queue_.close(
          info.This().As<Napi::Object>(), [this] { model_.reset(); }, [this](Napi::Env) { memory_.set(0); });
    });
  }

  std::unique_ptr<Model> model_;
  std::vector<AdapterTensor> trainable_;  // JavaScript thread only
  ExternalMemory memory_;
  JobQueue queue_;  // last: its thread must end before what its jobs use
};

}  // namespace

void registerGemma(Napi::Env env, Napi::Object exports) { Gemma::install(env, exports); }

}  // namespace group_robust
