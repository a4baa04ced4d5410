#include "gemma/adamw.h"

#include <ATen/ATen.h>

#include <cmath>

#include "error_types.h"

namespace group_robust {

void validate(const AdamWConfig& config) {
  const auto beta = [](const char* field, double value) {
    if (!(value >= 0 && value < 1)) throw InputError(std::string(field) + " must lie in [0, 1)");
  };
  beta("betas[0]", config.beta1);
  beta("betas[1]", config.beta2);
  if (!(config.epsilon > 0 && std::isfinite(config.epsilon))) throw InputError("epsilon must be a positive number");
  if (!(config.weightDecay >= 0 && std::isfinite(config.weightDecay)))
    throw InputError("weightDecay must be a finite number of at least 0");
}

AdamW::AdamW(const AdamWConfig& config, const at::Tensor& parameters)
    : config_(config), state_{at::zeros_like(parameters), at::zeros_like(parameters)} {}

void AdamW::step(const at::Tensor& parameters, const at::Tensor& gradient, double learningRate) {
  auto& [firstMoment, secondMoment, steps] = state_;
  ++steps;
  firstMoment.mul_(config_.beta1).add_(gradient, 1 - config_.beta1);
  secondMoment.mul_(config_.beta2).addcmul_(gradient, gradient, 1 - config_.beta2);
  const double correction1 = 1 - std::pow(config_.beta1, steps);
  const double correction2 = 1 - std::pow(config_.beta2, steps);
  at::Tensor denominator = secondMoment.sqrt().div_(std::sqrt(correction2)).add_(config_.epsilon);
  parameters.mul_(1 - learningRate * config_.weightDecay)
      .addcdiv_(firstMoment, denominator, -learningRate / correction1);
}

}  // namespace group_robust
