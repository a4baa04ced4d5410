import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { LossKernel } from '../objective/losses.js';
import { PACKAGE_ROOT } from '../package.js';

/**
 * Everything that the simulator's addon exports, written by hand: the two innermost loops of the synthetic experiments, in vectors. It
 * does without LibTorch, so that it loads in a millisecond, in worker threads too. `width` is the number of doubles in a vector.
 */
export interface NativeSimulator {
  /** Those that this processor has instructions for, the fastest first. */
  readonly widths: readonly number[];
  /** R, the number of runs that {@link stepRuns} takes at once. */
  readonly runs: number;
  /** Columns of {@link NativeGroup} are padded to a multiple of it. */
  readonly padding: number;

  /**
   * `count` steps of R runs of Algorithm 1, or 3 with `groupFirst`, in place.
   * @param random [2 × R] states of xoroshiro128+
   * @param state [variables × R]: θ and its sum (`columns` each); log α but for a constant, α, its sum, η_θ and η_α times the factor of the
   *   group (`groups` each); the squared radius, or ∞; 1 where θ moves with the old α, else 0
   */
  stepRuns(
    width: number,
    loss: LossKernel,
    pairs: NativePairs,
    groupFirst: boolean,
    random: BigUint64Array,
    state: Float64Array,
    count: number,
  ): void;

  /**
   * A function that puts Σ l(h_i) of each group into `losses` [K], and Σ l'(h_i) d_i into `gradients` [K × d], at the `theta` [d] of
   * that moment.
   */
  fullBatch(
    width: number,
    loss: LossKernel,
    groups: readonly NativeGroup[],
    dimension: number,
    theta: Float64Array,
    losses: Float64Array,
    gradients: Float64Array,
  ): () => void;
}

/** All groups' pairs one after the other; group g owns starts[g]..starts[g+1]−1. */
export interface NativePairs {
  count: number;
  /** Of a row, a multiple of four. */
  columns: number;
  groups: number;
  /** [count × columns] d_i, and zeros. */
  rows: Float64Array;
  /** [count] o_i; absent means all zero. */
  offsets?: Float64Array;
  /** [groups + 1] */
  starts: Float64Array;
}

export interface NativeGroup {
  count: number;
  /** [d × count, padded]: column j holds d_ij of all pairs i. */
  columns: Float64Array;
  /** [count, padded] o_i; absent means all zero. */
  offsets?: Float64Array;
}

let loaded: NativeSimulator | null | undefined;

/**
 * The simulator's addon, or null where it is not built or does not load: then the same loops run in TypeScript, since the synthetic
 * experiments are promised without a compiler.
 */
export function loadSimulator(): NativeSimulator | null {
  if (loaded === undefined) loaded = tryToLoad(join(PACKAGE_ROOT, 'build/Release/group_robust_simulator.node'));
  return loaded;
}

function tryToLoad(path: string): NativeSimulator | null {
  if (!existsSync(path)) return null;
  try {
    return createRequire(import.meta.url)(path) as NativeSimulator;
  } catch {
    return null;
  }
}
