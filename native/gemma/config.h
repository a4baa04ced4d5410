#pragma once

#include <cstdint>
#include <vector>

namespace group_robust {

/** What a layer's attention sees, and how it turns positions into angles. */
struct AttentionKind {
  int64_t window;  // keys a row sees, itself included; 0: all before it
  double ropeTheta;
  double ropeFactor;  // positions are divided by it
};

/** Where a layer normalises: before attention and before the MLP, or also what these two give, before it is added. */
enum class Norms { kBefore, kAround };

/**
 * Shape of a Gemma. What differs between the generations is data here:
 *
 *                  norms     query/key norms   attention cap   logit cap   kinds of attention
 *   Gemma 1        before    no                no              no          all
 *   Gemma 2        around    no                50              30          a window, all, in turn; one rotary base
 *   Gemma 3        around    yes               no              no          five windows, then all; a rotary base each
 */
struct GemmaConfig {
  int64_t layers;
  int64_t hidden;
  int64_t heads;
  int64_t keyValueHeads;  // divides heads: each serves heads / keyValueHeads query heads
  int64_t headSize;       // even; not necessarily hidden / heads
  int64_t mlp;
  int64_t vocabulary;
  double rmsEpsilon;
  Norms norms;
  bool queryKeyNorms;     // RMSNorm of every head's query and key, before they are rotated
  double attentionScale;  // of scores; Hugging Face's query_pre_attn_scalar^-0.5
  double attentionCap;    // scores become cap · tanh(score / cap); 0: as they are
  double logitCap;        // and so the logits
  std::vector<AttentionKind> attentionKinds;
  std::vector<int64_t> layerPattern;  // into attentionKinds, from the first layer on, again and again

  const AttentionKind& kindOf(size_t layer) const { return attentionKinds[layerPattern[layer % layerPattern.size()]]; }
};

/** Throws InputError naming the field that makes no model; sizes, each from 1 to 2^30, are held against each other. */
void validate(const GemmaConfig& config);

}  // namespace group_robust
