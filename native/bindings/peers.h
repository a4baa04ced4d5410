#pragma once

#include <napi.h>

#include <memory>
#include <string>

#include "distributed/peers.h"

namespace group_robust {

/** Adds the class Peers; its surface is NativePeers in src/native/types.ts. */
void registerPeers(Napi::Env env, Napi::Object exports);

/** What an object of that class stands for. Throws InputError naming `name` where the value is none, or not joined. */
std::shared_ptr<Peers> readPeers(const Napi::Value& value, const std::string& name);

}  // namespace group_robust
