#pragma once

#include <ATen/core/Tensor.h>

#ifdef GROUP_ROBUST_CUDA
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "kernels/cuda/launch.h"
#endif

#include "kernels/rows/element.h"

namespace group_robust {

/** Runs on the device of `x`: `onCpu(run)`, or launchCuda(run, its current stream). */
template <class Run>
void launch(const at::Tensor& x, const Run& run, void (*onCpu)(const Run&)) {
#ifdef GROUP_ROBUST_CUDA
  if (x.is_cuda()) {
    const c10::cuda::CUDAGuard guard(x.device());
    C10_CUDA_CHECK(launchCuda(run, c10::cuda::getCurrentCUDAStream(x.device().index()).stream()));
    return;
  }
#endif
  onCpu(run);
}

/** f(T{}) with T as the kernels call the elements of `dtype`: float32 or bfloat16. */
template <class F>
void withElement(at::ScalarType dtype, const F& f) {
  if (dtype == at::kFloat)
    f(float{});
  else
    f(Bfloat16{});
}

template <class T>
const T* elements(const at::Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

template <class T>
T* mutableElements(const at::Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

/** Whether autograd will ask for the gradient of an operation on `inputs`. */
template <class... Inputs>
bool recorded(const Inputs&... inputs) {
  return at::GradMode::is_enabled() && (inputs.requires_grad() || ...);
}

}  // namespace group_robust
