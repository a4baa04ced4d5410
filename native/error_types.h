#pragma once

#include <stdexcept>

namespace group_robust {

/** What the caller can mend: a bad file, a wrong shape or type. Becomes a JS Error with code NATIVE_INPUT. */
struct InputError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/** Another process of the job is gone or does not answer. Becomes a JS Error with code PEER. */
struct PeerError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/** Use after dispose(). Becomes a JS Error with code DISPOSED. */
struct DisposedError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace group_robust
