#pragma once

#include <ATen/core/Tensor.h>

namespace group_robust {

/**
 * kFused: the kernels of this folder. kLibTorch: the same in LibTorch's operations, the oracle and the fallback.
 * kSequences: kFused, but for attention by sequences as on a GPU (sequence_attention.h), so that a CPU can check it.
 */
enum class Kernels { kFused, kLibTorch, kSequences };

/** The one switch, for the whole process; kFused at first. */
void setKernels(Kernels kernels);
Kernels chosenKernels();

/**
 * Whether the fused kernels are chosen and there for this tensor: float32 and bfloat16, on the CPU, and on CUDA where
 * the addon is built with it. Others take the composition.
 */
bool fusedKernelsFor(const at::Tensor& x);

}  // namespace group_robust
