#pragma once

#include <napi.h>

#include <string>
#include <utility>

#include "error_types.h"

namespace group_robust {

/** An exception as it travels from a job's thread to JavaScript. */
struct Failure {
  std::string code;
  std::string message;
};

/** Describes the exception being handled; call only inside a catch block. Never throws. */
Failure currentFailure() noexcept;

/** The JS Error (not thrown) with `code` and `message` of `failure`. */
Napi::Error toJsError(Napi::Env env, const Failure& failure);

/**
 * Runs the body of an entry point called from JavaScript and turns every C++ exception into a typed JS Error.
 * Napi::Error passes as it is: a JS exception is pending already.
 */
template <class Body>
auto guarded(Napi::Env env, Body&& body) -> decltype(body()) {
  try {
    return std::forward<Body>(body)();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw toJsError(env, currentFailure());
  }
}

}  // namespace group_robust
