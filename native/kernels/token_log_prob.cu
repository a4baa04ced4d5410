#include "kernels/cuda/launch.h"
#include "kernels/cuda/pack.h"
#include "kernels/rows/token_log_prob.h"

namespace group_robust {
namespace {

constexpr unsigned kRowThreads = 512;

/** f(n, the n-th pack) over the packs of a row that this thread takes. */
template <int kWidth, class F>
__device__ void eachPack(float* row, int64_t columns, const F& f) {
  for (int64_t n = threadIdx.x; n < columns / kWidth; n += blockDim.x) f(n, loadPack<kWidth>(row, n));
}

/** The merged sums of all threads of a block, in thread 0. Once a kernel. */
__device__ inline LogSum blockLogSum(LogSum part) {
  __shared__ LogSum warps[32];
  const auto mergeLanes = [&] {
    for (int distance = 16; distance > 0; distance /= 2)
      part = merged(
          part, {__shfl_xor_sync(0xffffffff, part.largest, distance), __shfl_xor_sync(0xffffffff, part.sum, distance)});
  };
  mergeLanes();
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  if (lane == 0) warps[warp] = part;
  __syncthreads();
  part = lane < blockDim.x / 32 ? warps[lane] : LogSum{-INFINITY, 0};
  mergeLanes();
  return part;
}

/** One block a row; the row is read once. */
template <int kWidth>
__global__ void logSumForward(LogSumForward run) {
  const int64_t row = blockIdx.x, columns = run.chunk.columns;
  float* logits = run.chunk.logits + row * columns;
  LogSum sum{-INFINITY, 0};
  eachPack<kWidth>(logits, columns, [&](int64_t, const Pack<float, kWidth>& pack) {
    float top = sum.largest;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) top = larger(pack[i], top);
    sum = {top, raised(sum, top)};
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sum.sum += softmaxTerm(pack[i], top);
  });
  sum = blockLogSum(sum);
  if (threadIdx.x != 0) return;
  const float before = run.largest[row], largest = larger(sum.largest, before);
  // What came before as terms of the new largest; chunks meet in float64.
  run.sum[row] =
      run.sum[row] * static_cast<double>(softmaxTerm(before, largest)) + static_cast<double>(raised(sum, largest));
  run.largest[row] = largest;
  const int64_t place = run.chunk.targets[row] - run.chunk.begin;
  if (place >= 0 && place < columns) run.chosen[row] = logits[place];
}

template <int kWidth>
__global__ void logSumBackward(LogSumBackward run) {
  const int64_t row = blockIdx.x, columns = run.chunk.columns;
  float* logits = run.chunk.logits + row * columns;
  const int64_t place = run.chunk.targets[row] - run.chunk.begin;
  const float largest = run.largest[row], share = run.share[row], cotangent = run.cotangent[row];
  eachPack<kWidth>(logits, columns, [&](int64_t n, Pack<float, kWidth> pack) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float gradient = logitGradient(pack[i], largest, share);
      pack.set(i, n * kWidth + i == place ? gradient + cotangent : gradient);
    }
    storePack(logits, n, pack);
  });
}

}  // namespace

cudaError_t launchCuda(const LogSumForward& run, cudaStream_t stream) {
  if (run.chunk.rows == 0) return cudaSuccess;
  const auto rows = static_cast<unsigned>(run.chunk.rows);
  if (packable<float>(run.chunk.columns, run.chunk.logits))
    logSumForward<kWidest<float>><<<rows, kRowThreads, 0, stream>>>(run);
  else
    logSumForward<1><<<rows, kRowThreads, 0, stream>>>(run);
  return cudaGetLastError();
}

cudaError_t launchCuda(const LogSumBackward& run, cudaStream_t stream) {
  if (run.chunk.rows == 0) return cudaSuccess;
  const auto rows = static_cast<unsigned>(run.chunk.rows);
  if (packable<float>(run.chunk.columns, run.chunk.logits))
    logSumBackward<kWidest<float>><<<rows, kRowThreads, 0, stream>>>(run);
  else
    logSumBackward<1><<<rows, kRowThreads, 0, stream>>>(run);
  return cudaGetLastError();
}

}  // namespace group_robust
