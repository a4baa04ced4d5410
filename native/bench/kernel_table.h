#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "kernels/implementation.h"

namespace group_robust {

/** Sizes by name, such as rows and columns. */
using KernelSizes = std::map<std::string, int64_t>;

/** What one pass must do at least: bytes read and written in memory, or floating-point operations. The other is 0. */
struct KernelWork {
  double bytes;
  double flops;
};

/** One implementation on one set of inputs. Each call does the whole pass anew and returns what it gives. */
struct KernelRun {
  std::function<std::vector<at::Tensor>()> forward;   // without recording
  std::function<std::vector<at::Tensor>()> backward;  // gradients, from a graph recorded at the first call
};

/** A kernel of native/kernels as the benchmark knows it. */
struct BenchKernel {
  std::string name;
  std::vector<std::string> sizes;
  /**
   * Random inputs, in float32 on the CPU; the caller casts those of float32 to the type measured, or to float64 for the
   * oracle. Type-independent tensors (indices) come in their own type.
   */
  std::function<std::vector<at::Tensor>(const KernelSizes&, at::Generator)> inputs;
  std::function<KernelRun(const KernelSizes&, const std::vector<at::Tensor>& inputs, Kernels)> run;
  std::function<KernelWork(const KernelSizes&, double elementBytes)> forwardWork;
  std::function<KernelWork(const KernelSizes&, double elementBytes)> backwardWork;
  /** The bits do not depend on the number of threads; where LibTorch's products do the sums, they may. */
  bool anyThreads = true;
  bool cpuOnly = false;
};

/** Every kernel measured; to add one, add an entry. */
const std::vector<BenchKernel>& kernelTable();

}  // namespace group_robust
