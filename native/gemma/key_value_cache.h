#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace group_robust {

/**
 * Keys and values of one sequence in every layer: what its next token sees of those before it. In float32 or better,
 * so that no step widens them again. Of a prompt, a layer with a window keeps only what a later token can see.
 */
class KeyValueCache {
 public:
  explicit KeyValueCache(size_t layers) : layers_(layers) {}

  /** What a token sees, [keyValueHeads, n, headSize] each, itself last. */
  struct Seen {
    at::Tensor keys;
    at::Tensor values;
  };

  /** Tokens so far, which is the position of the next. */
  int64_t length() const { return length_; }
  bool hasRoom() const;

  /** Takes a prompt's keys and values in one layer, [T, keyValueHeads, headSize] each. @param window 0: none */
  void fill(size_t layer, const at::Tensor& keys, const at::Tensor& values, int64_t window);
  /** A copy with room for so many more tokens. */
  KeyValueCache fork(int64_t room) const;
  /** Takes the next token's key and value in one layer, [keyValueHeads, headSize] each; advance() follows the last. */
  Seen append(size_t layer, const at::Tensor& key, const at::Tensor& value, int64_t window);
  void advance(int64_t tokens) { length_ += tokens; }

 private:
  struct Layer {
    at::Tensor keys, values;  // [keyValueHeads, capacity, headSize]
    int64_t used = 0;         // of the capacity
  };

  std::vector<Layer> layers_;
  int64_t length_ = 0;
};

}  // namespace group_robust
