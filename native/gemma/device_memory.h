#pragma once

#include <c10/util/Exception.h>

#include <functional>
#include <string>

#include "error_types.h"

namespace group_robust {

/** f(); where a GPU has too little memory for it, the error says for what, and what takes less. */
template <class F>
auto withinMemory(const std::function<std::string()>& what, const char* less, const F& f) {
  try {
    return f();
  } catch (const c10::OutOfMemoryError& error) {
    throw InputError("the device has too little memory for " + what() + "; " + less + " (" +
                     error.what_without_backtrace() + ")");
  }
}

}  // namespace group_robust
