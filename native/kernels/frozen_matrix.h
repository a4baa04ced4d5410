#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>

#include <optional>

namespace group_robust {

/** A buffer as large as the largest matrix widened in it so far. Used by one thread. */
struct Scratch : torch::CustomClassHolder {
  at::Tensor buffer;
};

/**
 * scale · low · factorᵀ, what an adapter adds to a product: low [T, rank], factor [columns of the product, rank], of
 * x's type; of float32 where the matrix is rowwise.
 */
struct LowRankSum {
  at::Tensor low;
  at::Tensor factor;
  double scale;
};

/**
 * A frozen weight [out, in] in the type it is stored in. Where that is not the type of products it is widened a product
 * at a time, into scratch that the matrices of a model share: bfloat16 weights take half the memory, and a CPU without
 * bfloat16 arithmetic computes in float32.
 */
struct FrozenMatrix {
  at::Tensor stored;
  c10::intrusive_ptr<Scratch> scratch;
  /** Products, and those of an adapter beside it, are rowwiseProduct's; no graph. */
  bool rowwise = false;

  /** x Wᵀ, [T, out], and what is added to it, in bfloat16 rounded once; no graph. */
  at::Tensor times(const at::Tensor& x, const std::optional<LowRankSum>& plus = {}) const;
  /** dy W, [T, in], and what is added to it, likewise; no graph. */
  at::Tensor transposedTimes(const at::Tensor& dy, const std::optional<LowRankSum>& plus = {}) const;
};

/** `stored` in `dtype`: itself, or a copy in the scratch that the next call overwrites. */
at::Tensor widened(const at::Tensor& stored, at::ScalarType dtype, Scratch& scratch);

/** x Wᵀ, differentiable in x; keeps nothing of x. */
at::Tensor frozenLinear(const at::Tensor& x, const FrozenMatrix& weight);

}  // namespace group_robust
