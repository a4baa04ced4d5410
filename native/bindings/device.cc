#include "bindings/device.h"

#include <cctype>

#ifdef GROUP_ROBUST_CUDA
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#endif

#include "bindings/arguments.h"
#include "error_types.h"

namespace group_robust {
namespace {

constexpr int kMostCards = 64;  // of LibTorch

/** "cuda" is 0, "cuda:3" is 3; -1 for anything else. */
int cardOf(const std::string& name) {
  if (name == "cuda") return 0;
  const std::string prefix = "cuda:";
  if (name.rfind(prefix, 0) != 0 || name.size() == prefix.size() || name.size() > prefix.size() + 2) return -1;
  for (size_t i = prefix.size(); i < name.size(); ++i)
    if (std::isdigit(static_cast<unsigned char>(name[i])) == 0) return -1;
  return std::stoi(name.substr(prefix.size()));
}

}  // namespace

int cudaDevices() {
#ifdef GROUP_ROBUST_CUDA
  return c10::cuda::device_count();
#else
  return 0;
#endif
}

c10::Device readDevice(const Napi::Value& value, const std::string& name) {
  const std::string device = readString(value, name);
  if (device == "cpu") return {c10::kCPU};
  const int card = cardOf(device);
  if (card < 0 || card >= kMostCards) throw InputError(name + ": expected cpu, cuda or cuda:N");
  if (card >= cudaDevices())
    throw InputError(name + ": there is no " + device + "; this build sees " + std::to_string(cudaDevices()) +
                     " CUDA devices");
  return {c10::kCUDA, static_cast<c10::DeviceIndex>(card)};
}

std::string cardName(const c10::Device& device) {
#ifdef GROUP_ROBUST_CUDA
  if (device.is_cuda()) {
    cudaDeviceProp properties;
    C10_CUDA_CHECK(cudaGetDeviceProperties(&properties, device.index()));
    return properties.name;
  }
#endif
  throw InputError("device: only a card has a name of its own, not " + device.str());
}

int64_t peakDeviceMemory(const c10::Device& device) {
#ifdef GROUP_ROBUST_CUDA
  if (device.is_cuda()) {
    const auto statistics = c10::cuda::CUDACachingAllocator::getDeviceStats(device.index());
    c10::cuda::CUDACachingAllocator::resetPeakStats(device.index());
    return statistics.allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)].peak;
  }
#endif
  throw InputError("device: only a card counts its tensors, not " + device.str());
}

}  // namespace group_robust
