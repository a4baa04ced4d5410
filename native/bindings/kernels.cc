#include "bindings/kernels.h"

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "bench/measure.h"
#include "bindings/arguments.h"
#include "bindings/device.h"
#include "bindings/errors.h"
#include "bindings/job_queue.h"
#include "kernels/implementation.h"
#include "kernels/processor.h"
#include "kernels/product.h"

namespace group_robust {
namespace {

Kernels readKernels(const Napi::Value& value) {
  const std::string name = readString(value, "kernels");
  if (name == "fused") return Kernels::kFused;
  if (name == "libtorch") return Kernels::kLibTorch;
  if (name == "gpu-plan") return Kernels::kGpuPlan;
  throw InputError("kernels: expected fused, libtorch or gpu-plan");
}

void switchKernels(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] { setKernels(readKernels(info[0])); });
}

void readRegisterLimit(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] { limitRegisters(static_cast<int>(readInteger(info[0], "registers", 4, 16))); });
}

at::ScalarType readKernelDtype(const Napi::Value& value) {
  const std::string name = readString(value, "dtype");
  if (name == "float32") return at::kFloat;
  if (name == "bfloat16") return at::kBFloat16;
  throw InputError("dtype: expected float32 or bfloat16");
}

KernelSizes readSizes(const Napi::Value& value) {
  const auto object = readObject(value, "sizes");
  const auto names = object.GetPropertyNames();
  KernelSizes sizes;
  for (uint32_t i = 0; i < names.Length(); ++i) {
    const std::string name = readString(names.Get(i), "sizes");
    sizes[name] = readInteger(object.Get(name), "sizes." + name, 1, kLargestSize);
  }
  return sizes;
}

std::vector<std::vector<double>> readArrays(const Napi::Value& value) {
  if (!value.IsArray()) throw InputError("inputs: expected an array of Float64Arrays");
  const auto list = value.As<Napi::Array>();
  std::vector<std::vector<double>> arrays;
  for (uint32_t i = 0; i < list.Length(); ++i)
    arrays.push_back(readFloat64Array(list.Get(i), "inputs[" + std::to_string(i) + "]"));
  return arrays;
}

Napi::Value toJs(Napi::Env env, const std::vector<at::Tensor>& tensors) {
  auto list = Napi::Array::New(env, tensors.size());
  for (uint32_t i = 0; i < tensors.size(); ++i) {
    const at::Tensor flat = tensors[i].to(at::kCPU, at::kDouble).contiguous();
    list.Set(i, toFloat64Array(env, {flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel()}));
  }
  return list;
}

Napi::Value toJs(Napi::Env env, const Quartiles& times) {
  auto object = Napi::Object::New(env);
  object.Set("first", times.first);
  object.Set("median", times.median);
  object.Set("third", times.third);
  return object;
}

Napi::Value toJs(Napi::Env env, const PassMeasurement& pass) {
  auto object = Napi::Object::New(env);
  object.Set("error", pass.error);
  object.Set("torchError", pass.torchError);
  object.Set("repeatable", pass.repeatable);
  object.Set("seconds", toJs(env, pass.seconds));
  object.Set("torchSeconds", toJs(env, pass.torchSeconds));
  object.Set("bytes", pass.work.bytes);
  object.Set("flops", pass.work.flops);
  return object;
}

Napi::Value countProducts(const Napi::CallbackInfo& info) {
  const ProductCalls calls = productCalls();
  auto object = Napi::Object::New(info.Env());
  object.Set("onednn", static_cast<double>(calls.oneDnn));
  object.Set("libtorch", static_cast<double>(calls.libTorch));
  return object;
}

/** Owns the thread that measurements run on, one after another. */
class KernelBench : public Napi::ObjectWrap<KernelBench> {
 public:
  explicit KernelBench(const Napi::CallbackInfo& info)
      : ObjectWrap(info), queue_(guarded(info.Env(), [&] { return JobQueue(info.Env()); })) {}

  static void install(Napi::Env env, Napi::Object exports) {
    exports.Set("KernelBench", DefineClass(env, "KernelBench",
                                           {InstanceMethod<&KernelBench::measureKernel>("measureKernel"),
                                            InstanceMethod<&KernelBench::measureMachine>("measureMachine"),
                                            InstanceMethod<&KernelBench::runKernel>("runKernel"),
                                            InstanceMethod<&KernelBench::dispose>("dispose")}));
  }

 private:
  Napi::Value measureKernel(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const auto setting = readObject(info[0], "setting");
      return queue_.submit(
          info.This().As<Napi::Object>(),
          [kernel = readString(setting.Get("kernel"), "kernel"), sizes = readSizes(setting.Get("sizes")),
           dtype = readKernelDtype(setting.Get("dtype")), device = readDevice(setting.Get("device"), "device"),
           seconds = readNumber(setting.Get("seconds"), "seconds")] {
            return group_robust::measureKernel(kernel, sizes, dtype, device, seconds);
          },
          [](Napi::Env env, const KernelMeasurement& measured) -> Napi::Value {
            auto object = Napi::Object::New(env);
            object.Set("forward", toJs(env, measured.forward));
            object.Set("backward", toJs(env, measured.backward));
            return object;
          });
    });
  }

  Napi::Value runKernel(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const auto setting = readObject(info[0], "setting");
      return queue_.submit(
          info.This().As<Napi::Object>(),
          [kernel = readString(setting.Get("kernel"), "kernel"), sizes = readSizes(setting.Get("sizes")),
           dtype = readKernelDtype(setting.Get("dtype")), device = readDevice(setting.Get("device"), "device"),
           kernels = readKernels(info[1]), inputs = readArrays(info[2])] {
            return group_robust::runKernel(kernel, sizes, dtype, device, kernels, inputs);
          },
          [](Napi::Env env, const KernelResults& results) -> Napi::Value {
            auto object = Napi::Object::New(env);
            object.Set("forward", toJs(env, results.forward));
            object.Set("backward", toJs(env, results.backward));
            return object;
          });
    });
  }

  Napi::Value measureMachine(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const auto setting = readObject(info[0], "setting");
      return queue_.submit(
          info.This().As<Napi::Object>(),
          [dtype = readKernelDtype(setting.Get("dtype")), device = readDevice(setting.Get("device"), "device"),
           seconds = readNumber(setting.Get("seconds"), "seconds")] {
            return group_robust::measureMachine(dtype, device, seconds);
          },
          [](Napi::Env env, const MachineMeasurement& measured) -> Napi::Value {
            auto object = Napi::Object::New(env);
            object.Set("copyBytesPerSecond", measured.copyBytesPerSecond);
            object.Set("gemmFlopsPerSecond", measured.gemmFlopsPerSecond);
            return object;
          });
    });
  }

  void dispose(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] { queue_.close(info.This().As<Napi::Object>(), [] {}); });
  }

  JobQueue queue_;
};

}  // namespace

void registerKernels(Napi::Env env, Napi::Object exports) {
  exports.Set("setKernels", Napi::Function::New(env, switchKernels, "setKernels"));
  exports.Set("limitRegisters", Napi::Function::New(env, readRegisterLimit, "limitRegisters"));
  exports.Set("productCalls", Napi::Function::New(env, countProducts, "productCalls"));
  KernelBench::install(env, exports);
}

}  // namespace group_robust
