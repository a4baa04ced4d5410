#include "synchronisations.h"

#ifdef GROUP_ROBUST_CUDA
#include <c10/cuda/CUDAFunctions.h>
#include <c10/util/Exception.h>

#include <optional>
#include <utility>
#endif

#include "error_types.h"

namespace group_robust {
#ifdef GROUP_ROBUST_CUDA
namespace {

/** LibTorch tells of a wait in a warning only; those of a backward pass's threads are told again to the thread that
 * called it. */
class Counter : public c10::WarningHandler {
 public:
  void process(const c10::Warning& warning) override {
    if (warning.msg().find("synchronizing CUDA operation") == std::string::npos)
      c10::WarningHandler::process(warning);
    else
      ++count_;
  }
  int64_t take() { return std::exchange(count_, 0); }

 private:
  int64_t count_ = 0;
};

/** LibTorch's handler is this thread's own; so is the counter, which lives as long. */
struct Listening {
  Counter counter;
  c10::WarningUtils::WarningHandlerGuard guard{&counter};
};
thread_local std::optional<Listening> listening;

}  // namespace

int64_t takeSynchronisations() {
  c10::cuda::warning_state().set_sync_debug_mode(c10::cuda::SyncDebugMode::L_WARN);
  if (!listening) listening.emplace();
  return listening->counter.take();
}
#else
int64_t takeSynchronisations() {
  throw InputError("synchronisations: there is no card to wait for in a build without CUDA");
}
#endif

}  // namespace group_robust
