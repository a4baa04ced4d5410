#pragma once

namespace gloo::transport {

class Device;

/** Destroyed through c10d's unique_ptr, by LibTorch's own destructor. */
class UnboundBuffer {
 public:
  virtual ~UnboundBuffer();
};

}  // namespace gloo::transport
