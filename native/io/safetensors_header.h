#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace group_robust {

/** What a header says about one tensor, not yet checked against anything. */
struct HeaderEntry {
  std::string dtype;
  std::vector<uint64_t> shape;
  uint64_t begin;
  uint64_t end;
};

/**
 * Parses the JSON of a safetensors header: an object of {"dtype", "shape", "data_offsets"} objects and at most one
 * "__metadata__" of strings. It is a parser of that form only, so it neither recurses nor allocates beyond the text's
 * size. Throws InputError (without the file's name) on anything else.
 */
std::map<std::string, HeaderEntry> parseSafetensorsHeader(std::string_view text);

/** The JSON string literal of `text`. */
std::string jsonQuote(std::string_view text);

}  // namespace group_robust
