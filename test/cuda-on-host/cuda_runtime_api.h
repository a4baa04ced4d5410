#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <utility>
#include <vector>

/**
 * As much of CUDA's execution model as this project's .cu files use, on a CPU, so that tests run them where there is no
 * card.
 *
 * Blocks run one after another. Each thread of a block is a fiber, which runs until it ends or has to wait for others:
 * for its block at __syncthreads(), for its warp at a shuffle. When all have stopped, those that wait together go on,
 * in a random order, so that a result which depends on the order, as where a barrier is missing, comes out wrong sooner
 * or later. What is undefined on a card ends the process with a message: a barrier that only a part of a block reaches,
 * a shuffle in a part of a warp.
 */
#define __global__ static
#define __device__
#define __host__
#define __shared__ static

using cudaStream_t = void*;
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidConfiguration = 9 };

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
  uint64_t volume() const { return uint64_t{x} * y * z; }
};
inline dim3 gridDim, blockDim, blockIdx, threadIdx;

namespace cuda_on_host {

constexpr unsigned kWarp = 32;
constexpr size_t kStackBytes = 32 << 10;

enum class State { ready, atBarrier, atShuffle, ended };

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[kStackBytes]};
  State state = State::ended;
  unsigned shuffles = 0;
  /** What this thread gives to its warp. Two in turn: nobody is a whole shuffle ahead of the slowest. */
  alignas(16) unsigned char given[2][16];
};

inline std::vector<Fiber> fibers;  // of the block that runs; kept for the next
inline unsigned threads = 0;       // of them, those of this block
inline unsigned current = 0;
inline ucontext_t scheduler;
inline std::function<void()> kernel;  // with its arguments
inline cudaError_t lastError = cudaSuccess;
inline std::mt19937 order(1);

[[noreturn]] inline void fail(const char* what) {
  std::fprintf(stderr, "%s (block %u)\n", what, blockIdx.x);
  std::_Exit(3);
}

/** Stops the running fiber until the scheduler makes it ready again. */
inline void stopAs(State state) {
  fibers[current].state = state;
  swapcontext(&fibers[current].context, &scheduler);
}

inline void enterFiber() {
  kernel();
  stopAs(State::ended);
}

inline void start(unsigned thread) {
  Fiber& fiber = fibers[thread];
  fiber.state = State::ready;
  fiber.shuffles = 0;
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack.get();
  fiber.context.uc_stack.ss_size = kStackBytes;
  makecontext(&fiber.context, enterFiber, 0);
}

inline void runReady() {
  std::vector<unsigned> ready;
  for (unsigned thread = 0; thread < threads; ++thread)
    if (fibers[thread].state == State::ready) ready.push_back(thread);
  std::shuffle(ready.begin(), ready.end(), order);
  for (unsigned thread : ready) {
    current = thread;
    threadIdx = {thread % blockDim.x, thread / blockDim.x % blockDim.y, thread / (blockDim.x * blockDim.y)};
    swapcontext(&scheduler, &fibers[thread].context);
  }
}

inline unsigned countIn(unsigned first, unsigned end, State state) {
  return static_cast<unsigned>(
      std::count_if(&fibers[first], &fibers[0] + end, [&](const Fiber& fiber) { return fiber.state == state; }));
}

inline void makeReady(unsigned first, unsigned end) {
  for (unsigned thread = first; thread < end; ++thread)
    if (fibers[thread].state != State::ended) fibers[thread].state = State::ready;
}

/** Lets go on who has waited for all it waits for. @return false when the block has ended */
inline bool releaseWaiting() {
  const unsigned alive = threads - countIn(0, threads, State::ended);
  if (alive == 0) return false;
  if (countIn(0, threads, State::atBarrier) == alive) {
    // Ended threads count as arrived on a card, but a kernel that relies on it is most likely wrong.
    if (alive != threads) fail("__syncthreads() in a part of a block: some threads have ended");
    makeReady(0, threads);
    return true;
  }
  bool released = false;
  for (unsigned first = 0; first < threads; first += kWarp) {
    const unsigned end = std::min(first + kWarp, threads);
    if (countIn(first, end, State::atShuffle) < kWarp) continue;
    makeReady(first, end);
    released = true;
  }
  if (!released) fail("a barrier or a shuffle that a part of its block or warp never reaches");
  return true;
}

inline void runBlock() {
  for (unsigned thread = 0; thread < threads; ++thread) start(thread);
  do {
    runReady();
  } while (releaseWaiting());
}

/** `kernel<<<grid, block, shared, stream>>>(arguments...)` of a .cu file is compiled as `launch(kernel, grid,
 * ...)(arguments...)`. */
template <class... Parameters>
auto launch(void (*function)(Parameters...), dim3 grid, dim3 block, size_t = 0, cudaStream_t = nullptr) {
  return [=](Parameters... arguments) {
    if (block.volume() < 1 || block.volume() > 1024 || grid.volume() < 1 || grid.x > 0x7fffffff || grid.y > 0xffff ||
        grid.z > 0xffff) {
      lastError = cudaErrorInvalidConfiguration;
      return;
    }
    gridDim = grid;
    blockDim = block;
    threads = static_cast<unsigned>(block.volume());
    if (fibers.size() < threads) fibers = std::vector<Fiber>(threads);
    kernel = [=] { function(arguments...); };
    for (uint64_t n = 0; n < grid.volume(); ++n) {
      blockIdx = {static_cast<unsigned>(n % grid.x), static_cast<unsigned>(n / grid.x % grid.y),
                  static_cast<unsigned>(n / grid.x / grid.y)};
      runBlock();
    }
  };
}

}  // namespace cuda_on_host

inline cudaError_t cudaGetLastError() { return std::exchange(cuda_on_host::lastError, cudaSuccess); }

inline void __syncthreads() { cuda_on_host::stopAs(cuda_on_host::State::atBarrier); }

/** The value of the thread whose place in the warp differs by the bits of `distance`. */
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int distance) {
  using namespace cuda_on_host;
  static_assert(sizeof(T) <= sizeof(Fiber::given[0]));
  if (mask != 0xffffffff || distance < 0 || distance >= static_cast<int>(kWarp)) fail("a shuffle that is not emulated");
  const unsigned thread = current, turn = fibers[thread].shuffles++ % 2;
  std::memcpy(fibers[thread].given[turn], &value, sizeof(T));
  stopAs(State::atShuffle);
  std::memcpy(&value, fibers[thread ^ static_cast<unsigned>(distance)].given[turn], sizeof(T));
  return value;
}
