#pragma once

#include <cstdint>

#include "kernels/rows/element.h"

namespace group_robust {

/** kWidth neighbouring elements, read and written in one access: 16 bytes where the layout allows, else one element. */
template <class T, int kWidth>
struct alignas(sizeof(T) * kWidth) Pack {
  T values[kWidth];

  __device__ float operator[](int i) const { return widen(values[i]); }
  __device__ void set(int i, float value) { narrow(value, values[i]); }
};

template <class T>
constexpr int kWidest = 16 / sizeof(T);

/** The n-th pack of an array. */
template <int kWidth, class T>
__device__ Pack<T, kWidth> loadPack(const T* from, int64_t n) {
  return reinterpret_cast<const Pack<T, kWidth>*>(from)[n];
}

template <int kWidth, class T>
__device__ void storePack(T* to, int64_t n, const Pack<T, kWidth>& pack) {
  reinterpret_cast<Pack<T, kWidth>*>(to)[n] = pack;
}

/** Whether arrays whose rows have `columns` elements can be read in widest packs. */
template <class T, class... Pointers>
bool packable(int64_t columns, Pointers... pointers) {
  return columns % kWidest<T> == 0 && ((reinterpret_cast<uintptr_t>(pointers) % 16 == 0) && ...);
}

constexpr int kThreads = 256;

/** Blocks of kThreads for a loop over `count` steps by the whole grid. */
inline unsigned gridFor(int64_t count) {
  const int64_t blocks = (count + kThreads - 1) / kThreads;
  return static_cast<unsigned>(blocks < 1 << 20 ? blocks : 1 << 20);
}

/** This thread's first step and the stride of the whole grid. */
__device__ inline int64_t gridStart() { return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ inline int64_t gridStride() { return static_cast<int64_t>(gridDim.x) * blockDim.x; }

/** The sum of every thread's value, in all threads of the block: whole warps, 32 at most. Once a kernel. */
__device__ inline float blockSum(float value) {
  __shared__ float warps[32];
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(0xffffffff, value, distance);
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  if (lane == 0) warps[warp] = value;
  __syncthreads();
  value = lane < blockDim.x / 32 ? warps[lane] : 0;
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(0xffffffff, value, distance);
  return value;
}

}  // namespace group_robust
