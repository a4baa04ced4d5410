#pragma once

#include <ATen/core/Tensor.h>

namespace group_robust {

struct AdamWConfig {
  double beta1;
  double beta2;
  double epsilon;
  double weightDecay;
};

/** Throws InputError naming the field that is out of range. */
void validate(const AdamWConfig& config);

/** Adam with decoupled weight decay on one flat vector of parameters. Its state is two vectors and a count. */
class AdamW {
 public:
  AdamW(const AdamWConfig& config, const at::Tensor& parameters);

  /** parameters -= learningRate · (bias-corrected Adam direction + weightDecay · parameters), in place. */
  void step(const at::Tensor& parameters, const at::Tensor& gradient, double learningRate);

  size_t bytes() const { return firstMoment_.nbytes() + secondMoment_.nbytes(); }

 private:
  AdamWConfig config_;
  at::Tensor firstMoment_;
  at::Tensor secondMoment_;
  int64_t steps_ = 0;
};

}  // namespace group_robust
