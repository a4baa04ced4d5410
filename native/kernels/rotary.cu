#include "kernels/cuda/launch.h"
#include "kernels/cuda/pack.h"
#include "kernels/rows/rotary.h"

namespace group_robust {
namespace {

/** One block a position; one step rotates kWidth pairs of one head. */
template <class T, int kWidth>
__global__ void rotateHeads(Rotation<T> run) {
  const int64_t row = blockIdx.x;
  const unsigned packs = static_cast<unsigned>(run.half) / kWidth;  // of half a head
  for (unsigned n = threadIdx.x; n < run.heads * packs; n += blockDim.x) {
    const unsigned head = n / packs, at = n % packs;
    const int64_t first = 2 * (row * run.heads + head) * packs + at, second = first + packs;
    const auto x = loadPack<kWidth>(run.x, first), z = loadPack<kWidth>(run.x, second);
    const auto cos = loadPack<kWidth>(run.cos, row * packs + at), sin = loadPack<kWidth>(run.sin, row * packs + at);
    Pack<T, kWidth> y, w;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const Rotated pair = rotated(x[i], z[i], cos[i], run.direction * sin[i]);
      y.set(i, pair.first);
      w.set(i, pair.second);
    }
    storePack(run.y, first, y);
    storePack(run.y, second, w);
  }
}

/** Whole warps for the packs of a row. */
inline unsigned threadsFor(int64_t packs) {
  return static_cast<unsigned>(packs < kThreads ? (packs + 31) / 32 * 32 : kThreads);
}

}  // namespace

template <class T>
cudaError_t launchCuda(const Rotation<T>& run, cudaStream_t stream) {
  const int64_t pairs = run.heads * run.half;  // of a row
  if (run.rows * pairs == 0) return cudaSuccess;
  const auto rows = static_cast<unsigned>(run.rows);
  if (packable<T>(run.half, run.x, run.cos, run.sin, run.y))
    rotateHeads<T, kWidest<T>><<<rows, threadsFor(pairs / kWidest<T>), 0, stream>>>(run);
  else
    rotateHeads<T, 1><<<rows, threadsFor(pairs), 0, stream>>>(run);
  return cudaGetLastError();
}

template cudaError_t launchCuda(const Rotation<float>&, cudaStream_t);
template cudaError_t launchCuda(const Rotation<Bfloat16>&, cudaStream_t);

}  // namespace group_robust
