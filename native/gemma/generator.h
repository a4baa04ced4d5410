#pragma once

#include <ATen/CPUGeneratorImpl.h>

namespace group_robust {

/** A CPU generator of its own; LibTorch's global one is never used. */
inline at::Generator seededGenerator(uint64_t seed) { return at::detail::createCPUGenerator(seed); }

}  // namespace group_robust
