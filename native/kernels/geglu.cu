#include "kernels/cuda/launch.h"
#include "kernels/cuda/pack.h"
#include "kernels/rows/geglu.h"

namespace group_robust {
namespace {

template <class T, int kWidth>
__global__ void gegluForward(GegluForward<T> run) {
  for (int64_t n = gridStart(); n < run.size / kWidth; n += gridStride()) {
    const auto gate = loadPack<kWidth>(run.gate, n), up = loadPack<kWidth>(run.up, n);
    Pack<T, kWidth> y;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) y.set(i, gegluValue(gate[i], up[i]));
    storePack(run.y, n, y);
  }
}

template <class T, int kWidth>
__global__ void gegluBackward(GegluBackward<T> run) {
  for (int64_t n = gridStart(); n < run.size / kWidth; n += gridStride()) {
    const auto gate = loadPack<kWidth>(run.gate, n), up = loadPack<kWidth>(run.up, n), dy = loadPack<kWidth>(run.dy, n);
    Pack<T, kWidth> dgate, dup;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const GegluGradient gradient = gegluGradient(gate[i], up[i], dy[i]);
      dgate.set(i, gradient.gate);
      dup.set(i, gradient.up);
    }
    storePack(run.dgate, n, dgate);
    storePack(run.dup, n, dup);
  }
}

}  // namespace

template <class T>
cudaError_t launchCuda(const GegluForward<T>& run, cudaStream_t stream) {
  if (run.size == 0) return cudaSuccess;
  if (packable<T>(run.size, run.gate, run.up, run.y))
    gegluForward<T, kWidest<T>><<<gridFor(run.size / kWidest<T>), kThreads, 0, stream>>>(run);
  else
    gegluForward<T, 1><<<gridFor(run.size), kThreads, 0, stream>>>(run);
  return cudaGetLastError();
}

template <class T>
cudaError_t launchCuda(const GegluBackward<T>& run, cudaStream_t stream) {
  if (run.size == 0) return cudaSuccess;
  if (packable<T>(run.size, run.gate, run.up, run.dy, run.dgate, run.dup))
    gegluBackward<T, kWidest<T>><<<gridFor(run.size / kWidest<T>), kThreads, 0, stream>>>(run);
  else
    gegluBackward<T, 1><<<gridFor(run.size), kThreads, 0, stream>>>(run);
  return cudaGetLastError();
}

template cudaError_t launchCuda(const GegluForward<float>&, cudaStream_t);
template cudaError_t launchCuda(const GegluForward<Bfloat16>&, cudaStream_t);
template cudaError_t launchCuda(const GegluBackward<float>&, cudaStream_t);
template cudaError_t launchCuda(const GegluBackward<Bfloat16>&, cudaStream_t);

}  // namespace group_robust
