#include "io/safetensors.h"

#include <ATen/ATen.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <optional>

#include "error_types.h"
#include "io/safetensors_header.h"

namespace group_robust {
namespace {

constexpr size_t kLengthBytes = 8;              // little-endian length of the header
constexpr size_t kLargestHeader = 100'000'000;  // as the reference implementation
constexpr int64_t kFinitePiece = 1 << 22;       // elements
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

SafetensorsFile::SafetensorsFile(const InputFile& input)
    : path_(input.path), mapping_(std::make_shared<MappedFile>(input)) {
  const auto fail = [&](const std::string& problem) { throw InputError(path_ + ": " + problem); };
  if (mapping_->size() < kLengthBytes)
    fail("is only " + std::to_string(mapping_->size()) + " bytes long; not a safetensors file, or truncated");

  uint64_t headerBytes = 0;
  for (size_t i = 0; i < kLengthBytes; ++i)
    headerBytes |= static_cast<uint64_t>(static_cast<unsigned char>(mapping_->data()[i])) << (8 * i);
  const uint64_t rest = mapping_->size() - kLengthBytes;
  if (headerBytes > kLargestHeader || headerBytes > rest)
    fail("says its header has " + std::to_string(headerBytes) + " bytes where the file has " + std::to_string(rest) +
         " left (limit " + std::to_string(kLargestHeader) + "); not a safetensors file, or truncated");
  dataBegin_ = kLengthBytes + headerBytes;
  const size_t dataBytes = mapping_->size() - dataBegin_;

  std::map<std::string, HeaderEntry> header;
  try {
    header = parseSafetensorsHeader({mapping_->data() + kLengthBytes, headerBytes});
  } catch (const InputError& error) {
    fail(error.what());
  }
  mapping_->check();

  std::vector<std::pair<std::pair<size_t, size_t>, const std::string*>> spans;
  for (const auto& [name, entry] : header) {
    const auto failTensor = [&](const std::string& problem) { fail("tensor " + jsonQuote(name) + ": " + problem); };
    const auto dtype = dtypeOf(entry.dtype);
    if (!dtype) failTensor("dtype " + jsonQuote(entry.dtype) + " is not supported; supported: F32, BF16, F16, F64");
    if (entry.begin > entry.end || entry.end > dataBytes)
      failTensor("its bytes " + std::to_string(entry.begin) + " to " + std::to_string(entry.end) +
                 " do not lie in the " + std::to_string(dataBytes) +
                 " bytes of data; the file is truncated or damaged");
    // With a zero among them the other dimensions may be anything; otherwise the product may not pass the file's size.
    uint64_t elements = 1;
    if (std::find(entry.shape.begin(), entry.shape.end(), 0u) != entry.shape.end()) {
      elements = 0;
    } else {
      for (const uint64_t size : entry.shape) {
        if (size > dataBytes / elements) failTensor("its shape needs more bytes than the file has");
        elements *= size;
      }
    }
    const size_t bytes = entry.end - entry.begin;
    const size_t width = c10::elementSize(*dtype);
    if (bytes % width != 0 || bytes / width != elements)
      failTensor("shape " + describeShape(std::vector<int64_t>(entry.shape.begin(), entry.shape.end())) + " of " +
                 entry.dtype + " does not take " + std::to_string(bytes) + " bytes");
    entries_.emplace(
        name, TensorEntry{*dtype, {entry.shape.begin(), entry.shape.end()}, static_cast<size_t>(entry.begin), bytes});
    spans.push_back({{entry.begin, entry.end}, &name});
  }

  std::sort(spans.begin(), spans.end());
  size_t expected = 0;
  for (const auto& [span, name] : spans) {
    if (span.first != expected)
      fail("tensor " + jsonQuote(*name) + ": starts at byte " + std::to_string(span.first) + " of the data, not at " +
           std::to_string(expected) + (span.first < expected ? "; it overlaps another tensor" : "; there is a hole"));
    expected = span.second;
  }
  if (expected != dataBytes)
    fail("has " + std::to_string(dataBytes - expected) + " bytes after its last tensor; the file is damaged");
}

at::Tensor SafetensorsFile::read(const std::string& name, at::ScalarType dtype) const {
  const at::Tensor tensor = view(name, dtype);
  return tensor.scalar_type() == entries_.at(name).dtype ? tensor.clone() : tensor;
}

at::Tensor SafetensorsFile::view(const std::string& name, at::ScalarType dtype) const {
  const TensorEntry& entry = entries_.at(name);
  const at::TensorOptions options(entry.dtype);
  const size_t begin = dataBegin_ + entry.begin;
  const char* data = mapping_->data() + begin;
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
  if (tensor.data_ptr() != data) mapping_->release(begin, entry.bytes);
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
