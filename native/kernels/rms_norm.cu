#include "kernels/cuda/launch.h"
#include "kernels/cuda/pack.h"
#include "kernels/rows/rms_norm.h"

namespace group_robust {
namespace {

/**
 * Packs of a row that each thread keeps in registers between the sum and the result, so that the row is read once. Rows
 * of more than kHeld packs for each of 1024 threads read the rest again, from the cache.
 */
constexpr int kHeld = 2;

/** One block a row: threads for kHeld packs each, in whole warps. */
inline unsigned threadsFor(int64_t packs) {
  const int64_t warps = (packs + 32 * kHeld - 1) / (32 * kHeld);
  return 32 * static_cast<unsigned>(warps < 32 ? warps : 32);
}

/** Calls f(slot, n) for the packs of this thread that it holds, then g(n) for the rest. */
template <class Held, class Rest>
__device__ void eachPack(int64_t packs, const Held& held, const Rest& rest) {
#pragma unroll
  for (int slot = 0; slot < kHeld; ++slot) {
    const int64_t n = threadIdx.x + slot * blockDim.x;
    if (n < packs) held(slot, n);
  }
  for (int64_t n = threadIdx.x + kHeld * blockDim.x; n < packs; n += blockDim.x) rest(n);
}

template <class T, int kWidth>
__global__ void rmsNormForward(RmsNormForward<T> run) {
  const int64_t row = blockIdx.x, packs = run.columns / kWidth;
  const T* x = run.x + row * run.columns;
  T* y = run.y + row * run.columns;
  Pack<T, kWidth> kept[kHeld];

  float sum = 0;
  const auto add = [&](const Pack<T, kWidth>& pack) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sum += pack[i] * pack[i];
  };
  eachPack(
      packs, [&](int slot, int64_t n) { add(kept[slot] = loadPack<kWidth>(x, n)); },
      [&](int64_t n) { add(loadPack<kWidth>(x, n)); });
  const float inverse = inverseRms(blockSum(sum), run.columns, run.epsilon);
  if (run.inverse != nullptr && threadIdx.x == 0) run.inverse[row] = inverse;

  const auto scale = [&](int64_t n, const Pack<T, kWidth>& pack) {
    const auto weight = loadPack<kWidth>(run.weight, n);
    Pack<T, kWidth> scaled;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) scaled.set(i, rmsNormValue(pack[i], weight[i], inverse));
    storePack(y, n, scaled);
  };
  eachPack(
      packs, [&](int slot, int64_t n) { scale(n, kept[slot]); }, [&](int64_t n) { scale(n, loadPack<kWidth>(x, n)); });
}

template <class T, int kWidth>
__global__ void rmsNormBackward(RmsNormBackward<T> run) {
  const int64_t row = blockIdx.x, packs = run.columns / kWidth;
  const T* x = run.x + row * run.columns;
  const T* dy = run.dy + row * run.columns;
  T* dx = run.dx + row * run.columns;
  const float inverse = run.inverse[row];
  Pack<T, kWidth> keptX[kHeld], keptDy[kHeld];

  float product = 0;
  const auto add = [&](int64_t n, const Pack<T, kWidth>& xs, const Pack<T, kWidth>& dys) {
    const auto weight = loadPack<kWidth>(run.weight, n);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) product += rmsNormProduct(xs[i], weight[i], dys[i]);
  };
  eachPack(
      packs,
      [&](int slot, int64_t n) {
        keptX[slot] = loadPack<kWidth>(x, n);
        keptDy[slot] = loadPack<kWidth>(dy, n);
        add(n, keptX[slot], keptDy[slot]);
      },
      [&](int64_t n) { add(n, loadPack<kWidth>(x, n), loadPack<kWidth>(dy, n)); });
  const float share = rmsNormShare(blockSum(product), run.columns, inverse);

  const auto finish = [&](int64_t n, const Pack<T, kWidth>& xs, const Pack<T, kWidth>& dys) {
    const auto weight = loadPack<kWidth>(run.weight, n);
    Pack<T, kWidth> gradient;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) gradient.set(i, rmsNormGradient(xs[i], weight[i], dys[i], inverse, share));
    storePack(dx, n, gradient);
  };
  eachPack(
      packs, [&](int slot, int64_t n) { finish(n, keptX[slot], keptDy[slot]); },
      [&](int64_t n) { finish(n, loadPack<kWidth>(x, n), loadPack<kWidth>(dy, n)); });
}

}  // namespace

template <class T>
cudaError_t launchCuda(const RmsNormForward<T>& run, cudaStream_t stream) {
  if (run.rows == 0) return cudaSuccess;
  const auto rows = static_cast<unsigned>(run.rows);
  if (packable<T>(run.columns, run.x, run.weight, run.y))
    rmsNormForward<T, kWidest<T>><<<rows, threadsFor(run.columns / kWidest<T>), 0, stream>>>(run);
  else
    rmsNormForward<T, 1><<<rows, threadsFor(run.columns), 0, stream>>>(run);
  return cudaGetLastError();
}

template <class T>
cudaError_t launchCuda(const RmsNormBackward<T>& run, cudaStream_t stream) {
  if (run.rows == 0) return cudaSuccess;
  const auto rows = static_cast<unsigned>(run.rows);
  if (packable<T>(run.columns, run.x, run.weight, run.dy, run.dx))
    rmsNormBackward<T, kWidest<T>><<<rows, threadsFor(run.columns / kWidest<T>), 0, stream>>>(run);
  else
    rmsNormBackward<T, 1><<<rows, threadsFor(run.columns), 0, stream>>>(run);
  return cudaGetLastError();
}

template cudaError_t launchCuda(const RmsNormForward<float>&, cudaStream_t);
template cudaError_t launchCuda(const RmsNormForward<Bfloat16>&, cudaStream_t);
template cudaError_t launchCuda(const RmsNormBackward<float>&, cudaStream_t);
template cudaError_t launchCuda(const RmsNormBackward<Bfloat16>&, cudaStream_t);

}  // namespace group_robust
