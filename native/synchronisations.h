#pragma once

#include <cstdint>

namespace group_robust {

/**
 * How often LibTorch, called from this thread or from the backward pass that this thread waits for, has waited for a
 * card since the last call. Counting begins with the first call.
 *
 * @throws InputError in a build without CUDA
 */
int64_t takeSynchronisations();

}  // namespace group_robust
