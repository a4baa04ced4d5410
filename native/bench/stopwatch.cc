#include "bench/stopwatch.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>

#ifdef GROUP_ROBUST_CUDA
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#endif

namespace group_robust {
namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double secondsOnCpu(const std::function<void()>& work) {
  const auto start = Clock::now();
  work();
  return since(start);
}

#ifdef GROUP_ROBUST_CUDA
class CudaStopwatch {
 public:
  explicit CudaStopwatch(const c10::Device& device)
      : guard_(device),
        other_(at::empty({1 << 30}, at::TensorOptions(at::kByte).device(device))),
        stream_(c10::cuda::getCurrentCUDAStream(device.index()).stream()) {
    C10_CUDA_CHECK(cudaEventCreate(&begin_));
    C10_CUDA_CHECK(cudaEventCreate(&end_));
  }
  ~CudaStopwatch() {
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
  }
  CudaStopwatch(const CudaStopwatch&) = delete;
  CudaStopwatch& operator=(const CudaStopwatch&) = delete;

  double seconds(const std::function<void()>& work) {
    other_.zero_();  // also keeps the device busy until `work` is queued, so that its launches cost no time
    C10_CUDA_CHECK(cudaEventRecord(begin_, stream_));
    work();
    C10_CUDA_CHECK(cudaEventRecord(end_, stream_));
    C10_CUDA_CHECK(cudaEventSynchronize(end_));
    float milliseconds = 0;
    C10_CUDA_CHECK(cudaEventElapsedTime(&milliseconds, begin_, end_));
    return milliseconds / 1e3;
  }

 private:
  c10::cuda::CUDAGuard guard_;
  at::Tensor other_;  // larger than any cache
  cudaStream_t stream_;
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
};
#endif

/** As R's type 7 and NumPy: between the two nearest, in proportion. */
double quantile(const std::vector<double>& sorted, double part) {
  const double place = part * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (place - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

template <class Timer>
std::vector<Quartiles> timeInTurn(const std::vector<std::function<void()>>& works, double seconds, const Timer& timer) {
  for (const auto& work : works) work();
  std::vector<std::vector<double>> times(works.size());
  const auto start = Clock::now();
  while (times[0].size() < 3 || since(start) < seconds)
    for (size_t i = 0; i < works.size(); ++i) times[i].push_back(timer(works[i]));
  std::vector<Quartiles> result;
  for (auto& list : times) {
    std::sort(list.begin(), list.end());
    result.push_back({quantile(list, 0.25), quantile(list, 0.5), quantile(list, 0.75)});
  }
  return result;
}

}  // namespace

std::vector<Quartiles> timeCalls(const std::vector<std::function<void()>>& works, const c10::Device& device,
                                 double seconds) {
#ifdef GROUP_ROBUST_CUDA
  if (device.is_cuda()) {
    CudaStopwatch stopwatch(device);
    return timeInTurn(works, seconds, [&](const auto& work) { return stopwatch.seconds(work); });
  }
#endif
  return timeInTurn(works, seconds, secondsOnCpu);
}

}  // namespace group_robust
