#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

/**
 * Where a model's thread spends its time: a clock that is always in exactly one section. It runs from the first take()
 * on; then a scope costs two readings of it.
 */
namespace group_robust::profile {

enum Section { kIdle, kOther, kEmbedding, kAttention, kMlp, kHead, kLora, kOptimizer, kSections };

/** Moves this thread's clock to `section` for as long as the object lives; what is nested in it is not counted in it.
 */
class Scope {
 public:
  explicit Scope(Section section);
  ~Scope();
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  Section before_;
};

/** The section this thread's clock is in. */
Section current();

/**
 * When a backward pass comes to the node of the graph that made x, the clock moves to `section`, and stays there. The
 * graph has the same nodes as without.
 */
void backwardEnters(const at::Tensor& x, Section section);

/** Starts this thread's clock, if it does not run yet. Seconds by section, without kIdle, since the last call. */
std::vector<std::pair<std::string, double>> take();

}  // namespace group_robust::profile
