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
  if (!(config.rmsEpsilon >= 0 && std::isfinite(config.rmsEpsilon)))
    throw InputError("rmsEpsilon must be a finite number of at least 0");
  if (!(config.ropeTheta > 0 && std::isfinite(config.ropeTheta)))
    throw InputError("ropeTheta must be a positive number");
}

}  // namespace group_robust
