#pragma once

#include <napi.h>

namespace group_robust {

/** Adds setKernels() and the class KernelBench; see NativeAddon and NativeKernelBench in src/native/types.ts. */
void registerKernels(Napi::Env env, Napi::Object exports);

}  // namespace group_robust
