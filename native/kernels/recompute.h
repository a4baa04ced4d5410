#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

namespace group_robust {

/**
 * run(x), keeping only x for the backward pass, which runs it a second time with a graph: less memory for a second
 * forward pass. The numbers are the same to the bit.
 *
 * @param parameter any tensor on the way that requires a gradient, so that autograd comes by even where x needs none
 */
at::Tensor recomputed(const std::function<at::Tensor(const at::Tensor&)>& run, const at::Tensor& x,
                      const at::Tensor& parameter);

}  // namespace group_robust
