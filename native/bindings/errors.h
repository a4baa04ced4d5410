#pragma once

#include <napi.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace group_robust {

/** What the caller can mend: a bad file, a wrong shape or type. Becomes a JS Error with code NATIVE_INPUT. */
struct InputError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/** Use after dispose(). Becomes a JS Error with code DISPOSED. */
struct DisposedError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

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
