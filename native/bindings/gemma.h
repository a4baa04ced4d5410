#pragma once

#include <napi.h>

namespace group_robust {

/** Adds the class Gemma; its surface is NativeGemma in src/native/types.ts. */
void registerGemma(Napi::Env env, Napi::Object exports);

}  // namespace group_robust
