#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <string>

#include "bench/kernel_table.h"
#include "bench/stopwatch.h"

namespace group_robust {

/** What both passes of a kernel give, in the order of BenchKernel::run. */
struct KernelResults {
  std::vector<at::Tensor> forward;
  std::vector<at::Tensor> backward;
};

/**
 * One implementation of a kernel on given inputs: BenchKernel::inputs laid out flat, those of float32 in `dtype`.
 * Throws InputError where their number or sizes are not the kernel's.
 */
KernelResults runKernel(const std::string& name, const KernelSizes& sizes, at::ScalarType dtype,
                        const c10::Device& device, Kernels kernels, const std::vector<std::vector<double>>& inputs);

/** One pass of a kernel. Errors are largest absolute differences from the float64 oracle over its largest value. */
struct PassMeasurement {
  double error;
  double torchError;  // of LibTorch's composition in the same type
  bool repeatable;    // more runs gave the same bits; see repeats()
  Quartiles seconds;
  Quartiles torchSeconds;
  KernelWork work;
};

struct KernelMeasurement {
  PassMeasurement forward;
  PassMeasurement backward;
};

/**
 * Checks the fused kernel `name` against LibTorch's composition in float64 on the same (rounded) inputs, then times
 * both in turn, about `seconds` a pass. Throws InputError on an unknown kernel or size, or a device it is not for.
 */
KernelMeasurement measureKernel(const std::string& name, const KernelSizes& sizes, at::ScalarType dtype,
                                const c10::Device& device, double seconds);

struct MachineMeasurement {
  double copyBytesPerSecond;  // read and written, arrays far larger than any cache
  double gemmFlopsPerSecond;  // of square matrices, the best of the ways there are
};

/** What limits a kernel of `dtype` on this machine. */
MachineMeasurement measureMachine(at::ScalarType dtype, const c10::Device& device, double seconds);

/** Before anything is computed there. Throws InputError where this build or machine has no such device. */
void openDevice(const c10::Device& device);

}  // namespace group_robust
