#include "bindings/errors.h"

#include <c10/util/Exception.h>

namespace group_robust {

Failure currentFailure() noexcept {
  try {
    throw;
  } catch (const InputError& error) {
    return {"NATIVE_INPUT", error.what()};
  } catch (const PeerError& error) {
    return {"PEER", error.what()};
  } catch (const DisposedError& error) {
    return {"DISPOSED", error.what()};
  } catch (const c10::Error& error) {
    // what() carries a C++ stack trace of hundreds of lines; the first message is what a reader needs.
    return {"NATIVE", error.what_without_backtrace()};
  } catch (const std::bad_alloc&) {
    return {"NATIVE", "out of memory: use a smaller model, batch or length"};
  } catch (const std::exception& error) {
    return {"NATIVE", error.what()};
  } catch (...) {
    return {"NATIVE", "unknown C++ exception"};
  }
}

Napi::Error toJsError(Napi::Env env, const Failure& failure) {
  Napi::Error error = Napi::Error::New(env, failure.message);
  error.Set("code", Napi::String::New(env, failure.code));
  return error;
}

}  // namespace group_robust
