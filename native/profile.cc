#include "profile.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <array>
#include <chrono>
#include <utility>

namespace group_robust::profile {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Clock = std::chrono::steady_clock;

constexpr const char* kNames[kSections] = {"idle", "other", "embedding", "attention",
                                           "mlp",  "head",  "lora",      "optimizer"};

struct Time {
  std::array<double, kSections> seconds{};
  Section section = kIdle;
  Clock::time_point since = Clock::now();
};

thread_local Time time;

/** @returns the section before */
Section enter(Section section) {
  const Clock::time_point now = Clock::now();
  time.seconds[time.section] += std::chrono::duration<double>(now - time.since).count();
  time.since = now;
  return std::exchange(time.section, section);
}

class Marker : public torch::autograd::Function<Marker> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, int64_t section) {
    ctx->saved_data["section"] = section;
    return x.view_as(x);
  }
  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    enter(static_cast<Section>(ctx->saved_data["section"].toInt()));
    return {gradients[0], at::Tensor()};
  }
};

}  // namespace

Section current() { return time.section; }

Scope::Scope(Section section) : before_(enter(section)) {}
Scope::~Scope() { enter(before_); }

at::Tensor backwardEnters(const at::Tensor& x, Section section) {
  return x.requires_grad() ? Marker::apply(x, static_cast<int64_t>(section)) : x;
}

std::vector<std::pair<std::string, double>> take() {
  enter(time.section);
  std::vector<std::pair<std::string, double>> result;
  for (int section = kOther; section < kSections; ++section)
    result.emplace_back(kNames[section], time.seconds[section]);
  time.seconds = {};
  return result;
}

}  // namespace group_robust::profile
