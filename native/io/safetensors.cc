#include "io/safetensors.h"

#include <ATen/ATen.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <optional>

#include "error_types.h"

namespace group_robust {
namespace {

constexpr size_t kLengthBytes = 8;         // little-endian length of the header
constexpr int64_t kFinitePiece = 1 << 22;  // elements
constexpr std::pair<const char*, at::ScalarType> kDtypes[] = {
    {"F32", at::kFloat}, {"BF16", at::kBFloat16}, {"F16", at::kHalf}, {"F64", at::kDouble}};

std::optional<at::ScalarType> dtypeOf(const std::string& name) {
  for (const auto& [known, dtype] : kDtypes)
    if (name == known) return dtype;
  return std::nullopt;
}

std::string nameOf(at::ScalarType dtype) {
  for (const auto& [name, known] : kDtypes)
    if (dtype == known) return name;
  throw InputError("only float tensors can be written to safetensors");
}

}  // namespace

std::string describeShape(at::IntArrayRef shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

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

SafetensorsFile::SafetensorsFile(const HeaderedFile& file)
    : path_(file.path), mapping_(std::make_shared<MappedFile>(file.path, file.descriptor)) {
  const auto size = static_cast<int64_t>(mapping_->size());
  for (const auto& [name, dtypeName, shape, begin, end] : file.entries) {
    const auto fail = [&, &name = name](const std::string& problem) {
      throw InputError(path_ + ": tensor " + jsonQuote(name) + ": " + problem);
    };
    const auto dtype = dtypeOf(dtypeName);
    if (!dtype) fail("dtype " + jsonQuote(dtypeName) + " is not supported; supported: F32, BF16, F16, F64");
    if (begin < 0 || begin > end || end > size)
      fail("its bytes " + std::to_string(begin) + " to " + std::to_string(end) + " do not lie in the " +
           std::to_string(size) + " bytes of the file, which may have been cut short since it was opened");
    // With a zero among them the other dimensions may be anything; otherwise the product may not pass the file's size.
    int64_t elements = std::find(shape.begin(), shape.end(), 0) == shape.end() ? 1 : 0;
    for (const int64_t length : shape) {
      if (length < 0 || (elements > 0 && length > size / elements))
        fail("its shape needs more bytes than the file has");
      elements *= length;
    }
    const auto width = static_cast<int64_t>(c10::elementSize(*dtype));
    if ((end - begin) % width != 0 || (end - begin) / width != elements)
      fail("shape " + describeShape(shape) + " of " + dtypeName + " does not take " + std::to_string(end - begin) +
           " bytes");
    if (!entries_
             .emplace(name, TensorEntry{*dtype, shape, static_cast<size_t>(begin), static_cast<size_t>(end - begin)})
             .second)
      fail("is there twice");
  }
}

at::Tensor SafetensorsFile::read(const std::string& name, at::ScalarType dtype) const {
  const at::Tensor tensor = view(name, dtype);
  return tensor.scalar_type() == entries_.at(name).dtype ? tensor.clone() : tensor;
}

at::Tensor SafetensorsFile::view(const std::string& name, at::ScalarType dtype) const {
  const TensorEntry& entry = entries_.at(name);
  const at::TensorOptions options(entry.dtype);
  const char* data = mapping_->data() + entry.begin;
  at::Tensor stored;
  if (entry.bytes == 0) {
    stored = at::empty(entry.shape, options);
  } else if (reinterpret_cast<uintptr_t>(data) % c10::elementSize(entry.dtype) == 0) {
    stored = at::from_blob(
        const_cast<char*>(data), entry.shape, [mapping = mapping_](void*) {}, options);
  } else {
    // Nothing promises that the data is aligned for its type.
    stored = at::empty(entry.shape, options);
    std::memcpy(stored.data_ptr(), data, entry.bytes);
  }
  const at::Tensor tensor = stored.to(dtype);
  // In pieces, because isfinite makes temporaries of its argument's size.
  for (const at::Tensor& piece : tensor.view(-1).split(kFinitePiece))
    if (!at::isfinite(piece).all().item<bool>())
      throw InputError(path_ + ": tensor " + jsonQuote(name) + ": holds NaN or infinity");
  mapping_->check();
  if (tensor.data_ptr() != data) mapping_->release(entry.begin, entry.bytes);
  return tensor;
}

void writeSafetensors(const std::string& path, const std::map<std::string, at::Tensor>& tensors) {
  std::string header = R"({"__metadata__":{"format":"pt"})";
  size_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    const size_t end = offset + tensor.nbytes();
    header += "," + jsonQuote(name) + R"(:{"dtype":")" + nameOf(tensor.scalar_type()) + R"(","shape":)" +
              describeShape(tensor.sizes()) + R"(,"data_offsets":[)" + std::to_string(offset) + "," +
              std::to_string(end) + "]}";
    offset = end;
  }
  header += '}';
  header.append((kLengthBytes - header.size() % kLengthBytes) % kLengthBytes, ' ');

  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) throw InputError(path + ": cannot be written: " + std::strerror(errno));
  bool ok = true;
  const auto put = [&](const void* data, size_t bytes) {
    ok = ok && (bytes == 0 || std::fwrite(data, 1, bytes, file) == bytes);
  };
  unsigned char length[kLengthBytes];
  for (size_t i = 0; i < kLengthBytes; ++i)
    length[i] = static_cast<unsigned char>(static_cast<uint64_t>(header.size()) >> (8 * i));
  put(length, sizeof length);
  put(header.data(), header.size());
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor contiguous = tensor.contiguous();
    put(contiguous.data_ptr(), contiguous.nbytes());
  }
  ok = std::fflush(file) == 0 && ok && ::fsync(::fileno(file)) == 0;
  const int error = errno;
  ok = std::fclose(file) == 0 && ok;
  if (!ok) throw InputError(path + ": cannot be written: " + std::strerror(error));
}

}  // namespace group_robust
