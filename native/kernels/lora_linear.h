#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>

#include <memory>
#include <vector>

#include "kernels/frozen_matrix.h"

namespace group_robust {

/** Rows [begin, end) of the batch give their gradient to one accumulator. */
struct AccumulatorRun {
  int64_t begin;
  int64_t end;
  int64_t accumulator;
};

/**
 * Where the backward pass of one adapted projection adds its gradients. They go to numbered accumulators by row, not to
 * .grad, so that one backward pass serves any number of groups exactly.
 */
struct LoraGradient : torch::CustomClassHolder {
  at::Tensor a;  // [accumulators, rank, in]
  at::Tensor b;  // [accumulators, out, rank]
  /** Shared by all projections of an adapter; set before each backward pass. Together the runs cover every row once. */
  std::shared_ptr<const std::vector<AccumulatorRun>> runs;
};

/** A low-rank update y += scale · x Aᵀ Bᵀ of a frozen projection. */
struct LoraPair {
  at::Tensor a;  // [rank, in]
  at::Tensor b;  // [out, rank]
  double scale;
  /** Null for a frozen adapter. */
  c10::intrusive_ptr<LoraGradient> gradient;
};

/**
 * x Wᵀ + scale · (x Aᵀ) Bᵀ with x [T, in], W [out, in] frozen, in x's type. In bfloat16 the sum is rounded once, so
 * that small updates are not lost. Where gradients are on and the pair has a gradient, backward gives dx and adds to
 * the accumulators.
 */
at::Tensor loraLinear(const at::Tensor& x, const FrozenMatrix& weight, const LoraPair& pair);

/**
 * loraLinear(geglu(gate, up)): the same numbers, but what is kept for backward is gate and up, not their product as
 * well, which is a third of all that a layer keeps.
 */
at::Tensor loraLinearOfGeglu(const at::Tensor& gate, const at::Tensor& up, const FrozenMatrix& weight,
                             const LoraPair& pair);

}  // namespace group_robust
