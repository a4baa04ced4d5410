import { largest } from '../numbers/extremes.js';

/** Weights on the probability simplex, kept as logarithms so that no step can overflow or lose a group for ever. */

/** log Σ exp(z_i), without overflow. */
export function logSumExp(z: ArrayLike<number>): number {
  let top = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < z.length; i++) top = Math.max(top, z[i]);
  if (top === Number.NEGATIVE_INFINITY) return top;
  let sum = 0;
  for (let i = 0; i < z.length; i++) sum += Math.exp(z[i] - top);
  return top + Math.log(sum);
}

/** Subtracts logsumexp in place, so that the exponentials sum to one. */
export function normaliseLog(logWeights: Float64Array): Float64Array {
  const total = logSumExp(logWeights);
  for (let i = 0; i < logWeights.length; i++) logWeights[i] -= total;
  return logWeights;
}

/**
 * The nearest weights in proportion whose every entry is at least `floor`: entries below it are raised to it, the others
 * are scaled down together, until none is below. In place, on normalised log weights. Needs 0 ≤ floor ≤ 1/K.
 */
export function raiseToFloor(logWeights: Float64Array, floor: number): Float64Array {
  if (floor <= 0) return logWeights;
  const raised = new Uint8Array(logWeights.length);
  for (;;) {
    let free = 1;
    const kept: number[] = [];
    for (let g = 0; g < logWeights.length; g++) {
      if (raised[g]) free -= floor;
      else kept.push(logWeights[g]);
    }
    const shift = kept.length > 0 ? Math.log(free) - logSumExp(kept) : 0;
    let changed = false;
    for (let g = 0; g < logWeights.length; g++) {
      if (raised[g]) continue;
      // The tolerance keeps a group that sits exactly on 1/K from being raised for ever by rounding.
      if (logWeights[g] + shift < Math.log(floor) - 1e-12) {
        raised[g] = 1;
        logWeights[g] = Math.log(floor);
        changed = true;
      }
    }
    if (changed) continue;
    for (let g = 0; g < logWeights.length; g++) if (!raised[g]) logWeights[g] += shift;
    return logWeights;
  }
}

/**
 * The nearest weights in proportion whose every entry is at most its cap: entries above it are lowered to it, the others are scaled up
 * together, until none is above. In place, on normalised log weights. Needs caps that sum to one or more.
 */
export function lowerToCaps(logWeights: Float64Array, logCaps: Float64Array): Float64Array {
  const lowered = new Uint8Array(logWeights.length);
  for (;;) {
    let free = 1;
    const kept: number[] = [];
    for (let g = 0; g < logWeights.length; g++) {
      if (lowered[g]) free -= Math.exp(logCaps[g]);
      else kept.push(logWeights[g]);
    }
    // Each against the largest that is left: where all that are left have as good as no weight, a sum with logarithms of their size would
    // lose the share that they are to have.
    const top = largest(kept);
    // Rounding may leave less than nothing where the caps that are reached sum to all but one.
    const shift = Math.log(Math.max(free, Number.MIN_VALUE)) - logSumExp(kept.map((log) => log - top));
    const raised = logWeights.map((log) => log - top + shift);
    let changed = false;
    for (let g = 0; g < logWeights.length; g++) {
      // Without the tolerance rounding would lower a group that sits on its cap, and where the caps reached then sum to one leave only a
      // rounding residue, or nothing, to share among the groups far below.
      if (lowered[g] || !(raised[g] > logCaps[g] + 1e-12)) continue;
      lowered[g] = 1;
      logWeights[g] = logCaps[g];
      changed = true;
    }
    if (changed) continue;
    for (let g = 0; g < logWeights.length; g++) if (!lowered[g]) logWeights[g] = Math.min(logCaps[g], raised[g]);
    return logWeights;
  }
}

/** Shannon entropy in nats; exp of it is the effective number of groups. */
export function entropy(weights: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < weights.length; i++) if (weights[i] > 0) sum -= weights[i] * Math.log(weights[i]);
  return sum;
}
