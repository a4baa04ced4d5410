#include "gemma/key_value_cache.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "kernels/precision.h"

namespace group_robust {

bool KeyValueCache::hasRoom() const {
  return std::all_of(layers_.begin(), layers_.end(),
                     [](const Layer& layer) { return layer.used < layer.keys.size(1); });
}

void KeyValueCache::fill(size_t layer, const at::Tensor& keys, const at::Tensor& values, int64_t window) {
  const int64_t tokens = keys.size(0);
  // The next token sees itself too.
  const int64_t kept = window == 0 ? tokens : std::min(tokens, window - 1);
  const auto last = [&](const at::Tensor& rows) {
    return rows.narrow(0, tokens - kept, kept)
        .transpose(0, 1)
        .to(accurate(rows.scalar_type()), false, true)
        .contiguous();
  };
  layers_[layer] = {last(keys), last(values), kept};
}

KeyValueCache KeyValueCache::fork(int64_t room) const {
  KeyValueCache copy(layers_.size());
  copy.length_ = length_;
  for (size_t n = 0; n < layers_.size(); ++n) {
    const auto roomy = [&, used = layers_[n].used](const at::Tensor& from) {
      const at::Tensor to = at::empty({from.size(0), used + room, from.size(2)}, from.options());
      to.narrow(1, 0, used).copy_(from.narrow(1, 0, used));
      return to;
    };
    copy.layers_[n] = {roomy(layers_[n].keys), roomy(layers_[n].values), layers_[n].used};
  }
  return copy;
}

KeyValueCache::Seen KeyValueCache::append(size_t layer, const at::Tensor& key, const at::Tensor& value,
                                          int64_t window) {
  Layer& own = layers_[layer];
  own.keys.select(1, own.used).copy_(key);
  own.values.select(1, own.used).copy_(value);
  ++own.used;
  const int64_t seen = window == 0 ? own.used : std::min(own.used, window);
  return {own.keys.narrow(1, own.used - seen, seen), own.values.narrow(1, own.used - seen, seen)};
}

}  // namespace group_robust
