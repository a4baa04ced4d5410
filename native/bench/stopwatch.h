#pragma once

#include <c10/core/Device.h>

#include <functional>
#include <memory>
#include <vector>

namespace group_robust {

/** Of many times: a quarter of them lie below the first, half below the median, three quarters below the third. */
struct Quartiles {
  double first;
  double median;
  double third;
};

/**
 * Seconds of one call of each of `works` on `device`. They are called in turn, one uncounted call first, so that
 * whatever else the machine does falls on all alike; until `seconds` have passed and each was called three times.
 *
 * On the CPU caches stay as the call before left them. On CUDA the time is the device's own, by events, and each call
 * finds the cache filled with other data, so that memory is measured and not the cache.
 */
std::vector<Quartiles> timeCalls(const std::vector<std::function<void()>>& works, const c10::Device& device,
                                 double seconds);

}  // namespace group_robust
