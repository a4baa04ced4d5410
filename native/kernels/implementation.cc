#include "kernels/implementation.h"

#include <atomic>

namespace group_robust {
namespace {

std::atomic<Kernels> chosen{Kernels::kFused};

bool built(const at::Device& device) {
#ifdef GROUP_ROBUST_CUDA
  return device.is_cpu() || device.is_cuda();
#else
  return device.is_cpu();
#endif
}

}  // namespace

void setKernels(Kernels kernels) { chosen = kernels; }

Kernels chosenKernels() { return chosen; }

bool fusedKernelsFor(const at::Tensor& x) {
  return chosen != Kernels::kLibTorch && built(x.device()) &&
         (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
}

}  // namespace group_robust
