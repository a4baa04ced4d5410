#pragma once

#include <c10/core/Device.h>
#include <napi.h>

#include <cstdint>
#include <string>

namespace group_robust {

/** NVIDIA cards that this build can use; 0 without CUDA or a driver. */
int cudaDevices();

/** cpu, cuda (its first card) or cuda:N. Throws InputError naming `name` where it is none of these or is not there. */
c10::Device readDevice(const Napi::Value& value, const std::string& name);

/** What a card is called, such as NVIDIA H100 80GB HBM3. Throws InputError for the CPU. */
std::string cardName(const c10::Device& device);

/** Most bytes of tensors that were alive at once on a card since the last call. Throws InputError for the CPU. */
int64_t peakDeviceMemory(const c10::Device& device);

}  // namespace group_robust
