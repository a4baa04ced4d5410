#pragma once

#include <ATen/core/Tensor.h>

#include <utility>

namespace group_robust {

struct AdamWConfig {
  double beta1;
  double beta2;
  double epsilon;
  double weightDecay;
};

/** Throws InputError naming the field that is out of range. */
void validate(const AdamWConfig& config);

/** Adam with decoupled weight decay on one flat vector of parameters. */
class AdamW {
 public:
  /** All that steps leave behind: two vectors of the parameters' length and type, and a count. */
  struct State {
    at::Tensor firstMoment;
    at::Tensor secondMoment;
    int64_t steps = 0;
  };

  AdamW(const AdamWConfig& config, const at::Tensor& parameters);

  /** parameters -= learningRate · (bias-corrected Adam direction + weightDecay · parameters), in place. */
  void step(const at::Tensor& parameters, const at::Tensor& gradient, double learningRate);

  size_t bytes() const { return state_.firstMoment.nbytes() + state_.secondMoment.nbytes(); }
  const State& state() const { return state_; }
  /** Continues from `state`, whose vectors it takes over. */
  void restore(State state) { state_ = std::move(state); }

 private:
  AdamWConfig config_;
  State state_;
};

}  // namespace group_robust
