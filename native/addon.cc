#include <napi.h>

#include "bindings/environment.h"
#include "bindings/gemma.h"
#include "bindings/kernels.h"
#include "bindings/peers.h"
#include "bindings/process.h"

/** Registers everything src/native/types.ts lists, and does nothing else. */
static Napi::Object init(Napi::Env env, Napi::Object exports) {
  group_robust::Environment::install(env);
  group_robust::registerProcess(env, exports);
  group_robust::registerGemma(env, exports);
  group_robust::registerKernels(env, exports);
  group_robust::registerPeers(env, exports);
  return exports;
}

NODE_API_MODULE(group_robust, init)
