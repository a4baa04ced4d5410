#include "gemma/config.h"

#include <cmath>
#include <string>

#include "error_types.h"

namespace group_robust {

void validate(const GemmaConfig& config) {
  if (config.heads % config.keyValueHeads != 0)
    throw InputError("keyValueHeads (" + std::to_string(config.keyValueHeads) + ") must divide heads (" +
                     std::to_string(config.heads) + ")");
  if (config.headSize % 2 != 0)
    throw InputError("headSize must be even for rotary embedding, not " + std::to_string(config.headSize));
  const auto positive = [](double value, const char* field) {
    if (!(value > 0 && std::isfinite(value))) throw InputError(std::string(field) + " must be a positive number");
  };
  const auto atLeastZero = [](double value, const char* field) {
    if (!(value >= 0 && std::isfinite(value)))
      throw InputError(std::string(field) + " must be a finite number of at least 0");
  };
  atLeastZero(config.rmsEpsilon, "rmsEpsilon");
  positive(config.attentionScale, "attentionScale");
  atLeastZero(config.attentionCap, "attentionCap");
  atLeastZero(config.logitCap, "logitCap");
  for (const AttentionKind& kind : config.attentionKinds) {
    positive(kind.ropeTheta, "ropeTheta");
    positive(kind.ropeFactor, "ropeFactor");
  }
  if (config.layerPattern.empty()) throw InputError("layerPattern is empty");
  for (const int64_t kind : config.layerPattern)
    if (kind < 0 || kind >= static_cast<int64_t>(config.attentionKinds.size()))
      throw InputError("layerPattern names kind " + std::to_string(kind) + ", which does not exist");
}

}  // namespace group_robust
