#pragma once

#include <cuda_runtime_api.h>

#include "kernels/rows/geglu.h"
#include "kernels/rows/rms_norm.h"
#include "kernels/rows/rotary.h"
#include "kernels/rows/token_log_prob.h"

/**
 * Queues a run, whose pointers are of the current device, on `stream`; defined in the .cu file of the kernel for float
 * and Bfloat16. Returns the launch's error; nothing waits.
 */
namespace group_robust {

template <class T>
cudaError_t launchCuda(const RmsNormForward<T>& run, cudaStream_t stream);
template <class T>
cudaError_t launchCuda(const RmsNormBackward<T>& run, cudaStream_t stream);
template <class T>
cudaError_t launchCuda(const Rotation<T>& run, cudaStream_t stream);
template <class T>
cudaError_t launchCuda(const GegluForward<T>& run, cudaStream_t stream);
template <class T>
cudaError_t launchCuda(const GegluBackward<T>& run, cudaStream_t stream);

cudaError_t launchCuda(const LogSumForward& run, cudaStream_t stream);
cudaError_t launchCuda(const LogSumBackward& run, cudaStream_t stream);

}  // namespace group_robust
