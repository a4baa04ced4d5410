#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/mapped_file.h"

namespace group_robust {

/** A tensor as TypeScript has read it from the header. */
struct HeaderEntry {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  int64_t begin;  // bytes from the start of the file
  int64_t end;
};

/** A safetensors file as TypeScript hands it over: open, and its header read and checked (src/policy/safetensors.ts).
 */
struct HeaderedFile {
  std::string path;
  int descriptor;
  std::vector<HeaderEntry> entries;
};

/** Where a tensor lies in its file. */
struct TensorEntry {
  at::ScalarType dtype;
  std::vector<int64_t> shape;
  size_t begin;  // bytes from the start of the file
  size_t bytes;
};

/**
 * A safetensors file, mapped read-only. That its header is right is the caller's affair. Here each entry is held
 * against the mapping, so that nothing is read outside of it whatever the caller says. Float tensors only: F32, BF16,
 * F16, F64.
 */
class SafetensorsFile {
 public:
  /** Throws InputError naming the file, and the tensor where one is at fault. */
  explicit SafetensorsFile(const HeaderedFile& file);

  const std::string& path() const { return path_; }
  /** By name, in alphabetical order. */
  const std::map<std::string, TensorEntry>& entries() const { return entries_; }
  /** A copy of the tensor, converted to `dtype`. Throws InputError if it holds NaN or infinity. */
  at::Tensor read(const std::string& name, at::ScalarType dtype) const;
  /**
   * As read(), but a tensor that is stored in `dtype` is a view of the mapping, which it keeps alive: it takes no
   * memory that the system could not take back, and must never be written to. After each use mapping() has to be
   * checked: a file that is written to in place changes the tensor.
   */
  at::Tensor view(const std::string& name, at::ScalarType dtype) const;
  std::weak_ptr<const MappedFile> mapping() const { return mapping_; }

 private:
  std::string path_;
  std::shared_ptr<const MappedFile> mapping_;
  std::map<std::string, TensorEntry> entries_;
};

/** Writes CPU tensors of a float type, as they are, to exactly `path`. Throws InputError where it cannot. */
void writeSafetensors(const std::string& path, const std::map<std::string, at::Tensor>& tensors);

/** [2, 3] */
std::string describeShape(at::IntArrayRef shape);

/** The JSON string literal of `text`. */
std::string jsonQuote(std::string_view text);

}  // namespace group_robust
