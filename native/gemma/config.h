#pragma once

#include <cstdint>

namespace group_robust {

/** Shape of a Gemma (1) model. */
struct GemmaConfig {
  int64_t layers;
  int64_t hidden;
  int64_t heads;
  int64_t keyValueHeads;  // divides heads: each serves heads / keyValueHeads query heads
  int64_t headSize;       // even; not necessarily hidden / heads
  int64_t mlp;
  int64_t vocabulary;
  double rmsEpsilon;
  double ropeTheta;
};

/** Throws InputError naming the field that makes no model; sizes, each from 1 to 2^30, are held against each other. */
void validate(const GemmaConfig& config);

}  // namespace group_robust
