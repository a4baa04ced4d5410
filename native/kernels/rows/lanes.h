#pragma once

#include <cstdint>

#include "kernels/rows/element.h"

namespace group_robust {

/** Numbers side by side, in a register of 512 bits or in several smaller ones. */
constexpr int64_t kLanes = 16;

/**
 * A register of kFloats numbers. It must not be wider than the processor's: what GCC makes of a sum in wider ones goes
 * through memory, a tenth as fast.
 */
template <int kFloats>
struct RegisterOf {
  typedef float Type __attribute__((vector_size(kFloats * sizeof(float)), aligned(sizeof(float)), may_alias));
};
template <int kFloats>
using Register = typename RegisterOf<kFloats>::Type;

template <int kFloats>
GROUP_ROBUST_ROW void load(const float* from, Register<kFloats>& to) {
  to = *reinterpret_cast<const Register<kFloats>*>(from);
}
template <int kFloats>
GROUP_ROBUST_ROW void load(const Bfloat16* from, Register<kFloats>& to) {
  for (int lane = 0; lane < kFloats; ++lane) to[lane] = widen(from[lane]);
}
template <int kFloats>
GROUP_ROBUST_ROW void store(float* to, const Register<kFloats>& from) {
  *reinterpret_cast<Register<kFloats>*>(to) = from;
}

}  // namespace group_robust
