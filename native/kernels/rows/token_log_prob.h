#pragma once

#include "kernels/rows/element.h"

namespace group_robust {

/** log Σ e^x of the numbers seen so far, as largest + log(sum): sum = Σ e^(x − largest). */
struct LogSum {
  float largest;
  float sum;
};

GROUP_ROBUST_ROW float larger(float a, float b) { return a > b ? a : b; }

/** e^(x − largest) for x ≤ largest; 0 for x = -∞, also where all are and ∞ − ∞ would be NaN. */
GROUP_ROBUST_ROW float softmaxTerm(float x, float largest) {
  return expOfNegative(x - (largest < -3.4e38f ? 0 : largest));
}

/** The sum, when the largest rises to `largest`. */
GROUP_ROBUST_ROW float raised(const LogSum& part, float largest) {
  return part.sum * softmaxTerm(part.largest, largest);
}

GROUP_ROBUST_ROW LogSum merged(const LogSum& a, const LogSum& b) {
  const float largest = larger(a.largest, b.largest);
  return {largest, raised(a, largest) + raised(b, largest)};
}

/**
 * d log p(target) / d x of a logit x that is not the target's, times the cotangent: −softmax(x) · cotangent, with
 * share = cotangent / Σ e^(x − largest). The target's has the cotangent added.
 */
GROUP_ROBUST_ROW float logitGradient(float x, float largest, float share) { return -share * softmaxTerm(x, largest); }

/** One chunk of logits, rows whole in memory, as CUDA takes it. */
struct LogitChunk {
  float* logits;           // [rows, columns]
  const int64_t* targets;  // [rows], in the whole vocabulary
  int64_t rows;
  int64_t columns;
  int64_t begin;  // the first column's place in the vocabulary
};

/** Adds a chunk to the sums of its rows, and takes each target's logit where it is in the chunk. */
struct LogSumForward {
  LogitChunk chunk;
  float* largest;  // [rows], -∞ before the first chunk
  double* sum;     // [rows], 0 before
  float* chosen;   // [rows]
};

/** Each logit becomes its gradient. */
struct LogSumBackward {
  LogitChunk chunk;
  const float* largest;    // [rows]
  const float* share;      // [rows]
  const float* cotangent;  // [rows]
};

}  // namespace group_robust
