#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace group_robust {

/**
 * x · weightᵀ, without a graph; x [T, in], weight [out, in] with any strides, of one type, so that a transposed view
 * gives x · W, in that type. The fastest way there is for large float32 matrices on a CPU, which at::linear and at::mm
 * are not at the few hundred rows of a preference batch.
 */
at::Tensor product(const at::Tensor& x, const at::Tensor& weight);

/** y += scale · x · weightᵀ in place, rounded once; y [T, out] of x's type. */
void addProduct(const at::Tensor& y, const at::Tensor& x, const at::Tensor& weight, double scale);

/**
 * The type in which product() multiplies what has x's: float32 for bfloat16 on a CPU without instructions for it, where
 * LibTorch's own bfloat16 product took 3 times as long forward and 100 times backward (AVX2, 352 rows, 2048 x 2048).
 */
at::ScalarType productType(const at::Tensor& x);

/** x · weightᵀ in float32 or better, of operands that may be narrower; a GPU multiplies these as they are. */
at::Tensor wideProduct(const at::Tensor& x, const at::Tensor& weight);

/**
 * For a GPU, before the process's first product: LibTorch multiplies float32 as float32, whatever its variables say of
 * TF32, and cuBLAS takes sums in an order that is always the same, those of bfloat16 in float32 where it splits them
 * too.
 */
void useExactProducts();

/**
 * Whether this LibTorch has the entry to oneDNN that product() prefers. It is private to LibTorch, so another version
 * may lack it; then all products are at::mm's.
 */
bool hasOneDnnProducts();

/** How many products of this process went which way: by oneDNN's entry, and by at::mm. */
struct ProductCalls {
  int64_t oneDnn;
  int64_t libTorch;
};
ProductCalls productCalls();

}  // namespace group_robust
