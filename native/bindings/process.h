#pragma once

#include <napi.h>

namespace group_robust {

/** Adds nativeInfo(), setThreads() and liveTensors(): what concerns the whole process. */
void registerProcess(Napi::Env env, Napi::Object exports);

/**
 * Makes the last setThreads() hold on the calling thread. Every job starts with this, because OpenMP keeps the number
 * of threads per calling thread.
 */
void applyRequestedThreads();

}  // namespace group_robust
