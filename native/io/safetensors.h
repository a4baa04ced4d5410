#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "io/mapped_file.h"

namespace group_robust {

/** One entry of a safetensors header. */
struct TensorEntry {
  at::ScalarType dtype;
  std::vector<int64_t> shape;
  size_t begin;  // bytes from the start of the data section
  size_t bytes;
};

/**
 * A safetensors file, mapped read-only. Opening checks everything the header claims (lengths, JSON, dtypes, shapes,
 * that the tensors fill the data section without hole or overlap) before any tensor is read, and allocates no more than
 * a small multiple of the header. Float tensors only: F32, BF16, F16, F64.
 */
class SafetensorsFile {
 public:
  /** Throws InputError naming the file, and the tensor where one is at fault. */
  explicit SafetensorsFile(const InputFile& input);

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
  size_t dataBegin_ = 0;
  std::map<std::string, TensorEntry> entries_;
};

/** Writes CPU tensors of a float type, as they are, to exactly `path`. Throws InputError where it cannot. */
void writeSafetensors(const std::string& path, const std::map<std::string, at::Tensor>& tensors);

/** [2, 3] */
std::string describeShape(at::IntArrayRef shape);

}  // namespace group_robust
