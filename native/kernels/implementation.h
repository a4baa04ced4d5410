#pragma once

#include <ATen/core/Tensor.h>

namespace group_robust {

/**
 * kFused: the kernels of this folder. kLibTorch: the same in LibTorch's operations, the oracle and the fallback.
 * kGpuPlan: kFused, but for what is planned otherwise on a GPU, so that a CPU can check it: attention by sequences
 * (sequence_attention.h) and the head's products of bfloat16 (token_log_prob.h).
 */
enum class Kernels { kFused, kLibTorch, kGpuPlan };

/** The one switch, for the whole process; kFused at first. */
void setKernels(Kernels kernels);
Kernels chosenKernels();

/**
 * Whether the fused kernels are chosen and there for this tensor: float32 and bfloat16, on the CPU, and on CUDA where
 * the addon is built with it. Others take the composition.
 */
bool fusedKernelsFor(const at::Tensor& x);

}  // namespace group_robust
