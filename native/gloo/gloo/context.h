#pragma once

#include <chrono>

namespace gloo {

class Context {
 public:
  /** An inline function of c10d's header names it. */
  void setTimeout(std::chrono::milliseconds timeout);
};

}  // namespace gloo
