import type { NativeInfo } from '../native/types.js';
import { BUILD_COMMAND } from '../package.js';
import { isAtLeast, type Tool } from './tools.js';

/** What a model on a GPU needs: the addon's build for CUDA, the driver, and a card. */

/** Older ones do not know the flags of today's nvcc. */
export const CUDA_CMAKE = '3.24';
/** The oldest driver that runs what CUDA 13 compiles (NVIDIA's CUDA 13.0 release notes, table of driver versions). */
const CUDA_13_DRIVER = 580;

/** What is looked at. */
export interface GpuFindings {
  /** Of the addon; undefined where it is not built or does not load. */
  info: Pick<NativeInfo, 'cudaBuilt' | 'cudaDevices'> | undefined;
  /** As findGpus() finds them: undefined where there is no driver. */
  gpus: readonly string[] | undefined;
  cmake: Tool | undefined;
}

/** Which of the three is missing, and what to do; undefined where none is. */
export function missingForGpu({ info, gpus, cmake }: GpuFindings): { problem: string; fix: string } | undefined {
  if (info && info.cudaDevices > 0) return undefined;
  // Before the build, which would be for nothing. What is built may be for an older CUDA.
  const old = info?.cudaBuilt ? undefined : gpus?.find((gpu) => Number.parseInt(gpu, 10) < CUDA_13_DRIVER);
  if (old !== undefined)
    return {
      problem: `the driver is too old (${old})`,
      fix: `install a driver ${CUDA_13_DRIVER} or later, or put a LibTorch and nvcc of an older CUDA in LIBTORCH and on PATH`,
    };
  if (!info?.cudaBuilt) {
    const first =
      cmake && !isAtLeast(cmake.version, CUDA_CMAKE)
        ? `get CMake ${CUDA_CMAKE} or later (pip install cmake), then run `
        : 'run ';
    return {
      problem: `the addon is not built for CUDA${gpus ? '' : ', and nvidia-smi finds no driver either'}`,
      fix: `${first}GROUP_ROBUST_CUDA=1 ${BUILD_COMMAND}, which fetches what is missing with pip`,
    };
  }
  if (!gpus)
    return {
      problem: 'there is no NVIDIA driver: nvidia-smi does not run',
      fix: `install the driver of the card, ${CUDA_13_DRIVER} or later`,
    };
  return {
    problem: `the addon sees no GPU, ${gpus.length > 0 ? `though the driver shows ${gpus.join('; ')}` : 'and the driver shows no card'}`,
    fix: 'check CUDA_VISIBLE_DEVICES and nvidia-smi',
  };
}
