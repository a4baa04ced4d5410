#include "profile.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/function_hook.h>

#include <array>
#include <chrono>
#include <memory>
#include <utility>

namespace group_robust::profile {
namespace {

using torch::autograd::variable_list;
using Clock = std::chrono::steady_clock;

constexpr const char* kNames[kSections] = {"idle", "other", "embedding", "attention",
                                           "mlp",  "head",  "lora",      "optimizer"};

struct Time {
  std::array<double, kSections> seconds{};
  Section section = kIdle;
  bool running = false;
  Clock::time_point since;
};

thread_local Time time;

/** @returns the section before */
Section enter(Section section) {
  if (time.running) {
    const Clock::time_point now = Clock::now();
    time.seconds[time.section] += std::chrono::duration<double>(now - time.since).count();
    time.since = now;
  }
  return std::exchange(time.section, section);
}

/** Runs before its node, and lets the gradients pass. */
class EnterSection : public torch::autograd::FunctionPreHook {
 public:
  explicit EnterSection(Section section) : section_(section) {}
  variable_list operator()(const variable_list& gradients) override {
    enter(section_);
    return gradients;
  }

 private:
  Section section_;
};

}  // namespace

Section current() { return time.section; }

Scope::Scope(Section section) : before_(enter(section)) {}
Scope::~Scope() { enter(before_); }

void backwardEnters(const at::Tensor& x, Section section) {
  if (time.running && x.grad_fn()) x.grad_fn()->add_pre_hook(std::make_unique<EnterSection>(section));
}

std::vector<std::pair<std::string, double>> take() {
  enter(time.section);
  if (!time.running) time.since = Clock::now();
  time.running = true;
  std::vector<std::pair<std::string, double>> result;
  for (int section = kOther; section < kSections; ++section)
    result.emplace_back(kNames[section], time.seconds[section]);
  time.seconds = {};
  return result;
}

}  // namespace group_robust::profile
