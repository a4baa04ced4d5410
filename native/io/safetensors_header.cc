#include "io/safetensors_header.h"

#include <cstdio>
#include <limits>

#include "error_types.h"

namespace group_robust {
namespace {

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  std::map<std::string, HeaderEntry> header() {
    std::map<std::string, HeaderEntry> entries;
    bool metadata = false;
    object([&](std::string name) {
      if (name == "__metadata__") {
        if (metadata) fail("\"__metadata__\" is there twice");
        metadata = true;
        object([&](const std::string&) { string(); });
      } else {
        HeaderEntry parsed = entry(name);
        if (!entries.emplace(name, std::move(parsed)).second) fail("tensor " + jsonQuote(name) + " is there twice");
      }
    });
    skipSpace();
    if (at_ != text_.size()) fail("text after the header's object");
    return entries;
  }

 private:
  [[noreturn]] void fail(const std::string& problem) const {
    throw InputError("bad safetensors header at byte " + std::to_string(at_) + ": " + problem);
  }

  void skipSpace() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t'))
      ++at_;
  }

  bool take(char c) {
    skipSpace();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  void expect(char c) {
    if (!take(c)) fail(std::string("expected '") + c + "'");
  }

  /** Calls member(key) for each member; it must consume the value. */
  template <class Member>
  void object(Member member) {
    expect('{');
    if (take('}')) return;
    do {
      std::string key = string();
      expect(':');
      member(std::move(key));
    } while (take(','));
    expect('}');
  }

  HeaderEntry entry(const std::string& name) {
    HeaderEntry result{};
    unsigned seen = 0;
    const auto once = [&](unsigned bit, const char* field) {
      if (seen & bit) fail("tensor " + jsonQuote(name) + " has " + field + " twice");
      seen |= bit;
    };
    object([&](const std::string& key) {
      if (key == "dtype") {
        once(1, "dtype");
        result.dtype = string();
      } else if (key == "shape") {
        once(2, "shape");
        result.shape = integers();
      } else if (key == "data_offsets") {
        once(4, "data_offsets");
        const auto offsets = integers();
        if (offsets.size() != 2) fail("tensor " + jsonQuote(name) + ": data_offsets must be two numbers");
        result.begin = offsets[0];
        result.end = offsets[1];
      } else {
        fail("tensor " + jsonQuote(name) + " has an unknown key " + jsonQuote(key));
      }
    });
    if (seen != 7) fail("tensor " + jsonQuote(name) + " lacks dtype, shape or data_offsets");
    return result;
  }

  std::vector<uint64_t> integers() {
    std::vector<uint64_t> values;
    expect('[');
    if (take(']')) return values;
    do values.push_back(integer());
    while (take(','));
    expect(']');
    return values;
  }

  uint64_t integer() {
    skipSpace();
    const size_t start = at_;
    uint64_t value = 0;
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') {
      const auto digit = static_cast<uint64_t>(text_[at_] - '0');
      // Sizes and offsets live in int64 everywhere else.
      if (value > (static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) - digit) / 10) fail("number too large");
      value = 10 * value + digit;
      ++at_;
    }
    if (at_ == start) fail("expected a whole number of at least 0");
    if (text_[start] == '0' && at_ - start > 1) fail("number with a leading 0");
    return value;
  }

  std::string string() {
    expect('"');
    std::string value;
    for (;;) {
      if (at_ >= text_.size()) fail("string without end");
      const char c = text_[at_++];
      if (c == '"') return value;
      if (static_cast<unsigned char>(c) < 0x20) fail("control character in a string");
      if (c == '\\')
        escape(value);
      else
        value += c;
    }
  }

  void escape(std::string& value) {
    if (at_ >= text_.size()) fail("string without end");
    const char c = text_[at_++];
    static constexpr std::string_view kNames = "\"\\/bfnrt";
    static constexpr std::string_view kValues = "\"\\/\b\f\n\r\t";
    if (const size_t i = kNames.find(c); i != std::string_view::npos) {
      value += kValues[i];
      return;
    }
    if (c != 'u') fail("unknown escape in a string");
    uint32_t code = hex4();
    if (code >= 0xDC00 && code < 0xE000) fail("unpaired surrogate in a string");
    if (code >= 0xD800 && code < 0xDC00) {
      if (text_.substr(at_, 2) != "\\u") fail("unpaired surrogate in a string");
      at_ += 2;
      const uint32_t low = hex4();
      if (low < 0xDC00 || low >= 0xE000) fail("unpaired surrogate in a string");
      code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    if (code < 0x80) {
      value += static_cast<char>(code);
    } else if (code < 0x800) {
      value += static_cast<char>(0xC0 | (code >> 6));
      value += static_cast<char>(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
      value += static_cast<char>(0xE0 | (code >> 12));
      value += static_cast<char>(0x80 | ((code >> 6) & 0x3F));
      value += static_cast<char>(0x80 | (code & 0x3F));
    } else {
      value += static_cast<char>(0xF0 | (code >> 18));
      value += static_cast<char>(0x80 | ((code >> 12) & 0x3F));
      value += static_cast<char>(0x80 | ((code >> 6) & 0x3F));
      value += static_cast<char>(0x80 | (code & 0x3F));
    }
  }

  uint32_t hex4() {
    uint32_t code = 0;
    for (int i = 0; i < 4; ++i) {
      const char c = at_ < text_.size() ? text_[at_++] : ' ';
      if (c >= '0' && c <= '9')
        code = 16 * code + static_cast<uint32_t>(c - '0');
      else if (c >= 'a' && c <= 'f')
        code = 16 * code + static_cast<uint32_t>(c - 'a' + 10);
      else if (c >= 'A' && c <= 'F')
        code = 16 * code + static_cast<uint32_t>(c - 'A' + 10);
      else
        fail("bad \\u escape in a string");
    }
    return code;
  }

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace

std::map<std::string, HeaderEntry> parseSafetensorsHeader(std::string_view text) { return Parser(text).header(); }

std::string jsonQuote(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<unsigned>(c));
      quoted += escaped;
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

}  // namespace group_robust
