import { InputError } from '../errors.js';
import type { Random } from '../numbers/random.js';
import { exp } from '../objective/fast-math.js';
import { type LossSettings, marginLoss } from '../objective/losses.js';
import type { LogLinearProblem } from '../policy/log-linear-problem.js';
import { type Algorithm, groupProbabilities, type StepSizes } from './constants.js';

export interface SaddleSettings {
  loss: LossSettings;
  algorithm: Algorithm;
  /** η_θ and η_α; they multiply the unbiased estimates, factor 1/p_g included. */
  steps: StepSizes;
  /** Radius of the ball onto which θ is projected; absent: no projection. */
  radius?: number;
  /** `alternating`, the paper's listing: θ uses the new α. `simultaneous`, what the proof analyses: θ uses the old one. */
  order?: 'alternating' | 'simultaneous';
  /** Factor on the drawn pair's loss and gradient, per group. Default 1/p_g, which makes both unbiased. */
  factors?: Float64Array;
}

export interface SaddleRun {
  /** [d] θ̄ = (1/T) Σ_{t=1..T} θ_t. */
  averageTheta: Float64Array;
  /** [K] ᾱ = (1/T) Σ_{t=1..T} α_t. */
  averageAlpha: Float64Array;
  /** [d] θ_T. */
  lastTheta: Float64Array;
  /** [K] α_T. */
  lastAlpha: Float64Array;
}

/**
 * `count` per-sample steps of Algorithm 1 (draws from N_g/N) or Algorithm 3 (uniform groups) of the paper, from θ = 0, the
 * centre of the ball, and uniform α:
 *
 *   draw pair i of group g;  log α_g ← log α_g + η_α l_i(θ)/p_g;  normalise;  θ ← P(θ − η_θ α_g ∇l_i(θ)/p_g).
 *
 * Algorithm 3's listing has no factor 1/p_g = K: it is part of its step sizes there, and is written out here.
 * One step is `MirrorAscent` and `marginLoss` of src/objective on one pair, whatever the loss; α is kept without its normalising
 * constant, which saves a logarithm a step. Memory does not depend on `count`.
 *
 * A step is a chain of some 70 ns (margin → loss → α → θ → next margin), so it is spent on shortening that chain and on
 * keeping loops of two or four iterations out of it: V8 does not unroll them. Several runs are faster side by side (side-by-side.ts).
 *
 * @param onSteps called about twenty times a second with the number of steps done since the last call
 * @throws InputError when `count` is not a positive whole number.
 */
export function runSaddle(
  problem: LogLinearProblem,
  settings: SaddleSettings,
  count: number,
  random: Random,
  onSteps: (steps: number) => void = () => {},
): SaddleRun {
  checkSteps(count);
  const { loss: lossSettings, algorithm, steps, radius, order = 'alternating' } = settings;
  const d = problem.dimension;
  const K = problem.groups.length;
  const loss = marginLoss(lossSettings);
  const slope = new Float64Array(1);
  const { width, differences, offsets, owners, starts } = flatten(problem);
  const pairs = owners.length;
  const factors = groupFactors(problem, settings);
  const limit = radius === undefined ? Number.POSITIVE_INFINITY : radius * radius;
  const simultaneous = order === 'simultaneous';

  const theta = new Float64Array(width);
  const thetaSum = new Float64Array(width);
  // log α up to a constant, its largest entry 0; α itself; their sum.
  const logits = new Float64Array(K);
  const alpha = new Float64Array(K).fill(1 / K);
  const alphaSum = new Float64Array(K);

  for (let step = 0; step < count; step++) {
    if (step % reportEvery === reportEvery - 1) onSteps(reportEvery);
    let i: number;
    let g: number;
    if (algorithm === 1) {
      i = random.integer(pairs);
      g = owners[i];
    } else {
      g = random.integer(K);
      i = starts[g] + random.integer(starts[g + 1] - starts[g]);
    }
    // The margin; θ_step, which is loaded anyway, is added to the average here too.
    const row = i * width;
    let h = -offsets[i];
    for (let j = 0; j < width; j += 4) {
      h +=
        differences[row + j] * theta[j] +
        differences[row + j + 1] * theta[j + 1] +
        differences[row + j + 2] * theta[j + 2] +
        differences[row + j + 3] * theta[j + 3];
      thetaSum[j] += theta[j];
      thetaSum[j + 1] += theta[j + 1];
      thetaSum[j + 2] += theta[j + 2];
      thetaSum[j + 3] += theta[j + 3];
    }

    const value = loss.evaluate(h, slope);
    const before = alpha[g];
    logits[g] += steps.alpha * factors[g] * value;
    softmax(logits, alpha, alphaSum);

    const pull = steps.theta * factors[g] * (simultaneous ? before : alpha[g]) * slope[0];
    let square = 0;
    for (let j = 0; j < width; j += 4) {
      const a = theta[j] - pull * differences[row + j];
      const b = theta[j + 1] - pull * differences[row + j + 1];
      const c = theta[j + 2] - pull * differences[row + j + 2];
      const e = theta[j + 3] - pull * differences[row + j + 3];
      theta[j] = a;
      theta[j + 1] = b;
      theta[j + 2] = c;
      theta[j + 3] = e;
      square += a * a + b * b + (c * c + e * e);
    }
    if (square > limit) {
      const shrink = Math.sqrt(limit / square);
      for (let j = 0; j < width; j++) theta[j] *= shrink;
    }
  }
  // The loop summed θ_0 = 0 to θ_{T−1}.
  for (let j = 0; j < width; j++) thetaSum[j] += theta[j];
  onSteps(count % reportEvery);
  return {
    averageTheta: thetaSum.slice(0, d).map((sum) => sum / count),
    averageAlpha: alphaSum.map((sum) => sum / count),
    lastTheta: theta.slice(0, d),
    lastAlpha: alpha,
  };
}

/** @throws InputError unless `count` is a positive whole number */
export function checkSteps(count: number): void {
  if (!(Number.isSafeInteger(count) && count >= 1))
    throw new InputError(`the number of steps must be a positive whole number, not ${count}`, {
      at: { field: 'horizons' },
    });
}

/** Factor on the loss and gradient of a drawn pair, by its group. */
export function groupFactors(problem: LogLinearProblem, { factors, algorithm }: SaddleSettings): Float64Array {
  return factors ?? groupProbabilities(problem, algorithm).map((probability) => 1 / probability);
}

/** Steps between two reports of progress; a power of two, so that the check costs nothing. */
const reportEvery = 2 ** 19;

/** α = softmax(logits), added to `sum` too; shifts the logits in place so that they stay small. */
function softmax(logits: Float64Array, alpha: Float64Array, sum: Float64Array): void {
  if (logits.length === 2) {
    // Two groups, the paper's case: one sigmoid of the difference.
    const difference = logits[0] - logits[1];
    const e = exp(-Math.abs(difference));
    const larger = 1 / (1 + e);
    const smaller = e * larger;
    logits[0] = difference;
    logits[1] = 0;
    alpha[0] = difference >= 0 ? larger : smaller;
    alpha[1] = difference >= 0 ? smaller : larger;
    sum[0] += alpha[0];
    sum[1] += alpha[1];
    return;
  }
  let largest = logits[0];
  for (let k = 1; k < logits.length; k++) if (logits[k] > largest) largest = logits[k];
  let total = 0;
  for (let k = 0; k < logits.length; k++) {
    logits[k] -= largest;
    alpha[k] = exp(logits[k]);
    total += alpha[k];
  }
  for (let k = 0; k < logits.length; k++) {
    alpha[k] /= total;
    sum[k] += alpha[k];
  }
}

/**
 * All groups' pairs one after the other; group g owns starts[g]..starts[g+1]−1. Rows of `differences` are padded with zeros
 * to a `width` that is a multiple of four, so that loops can take four columns at a time; θ stays 0 there.
 */
export function flatten({ dimension, groups }: LogLinearProblem) {
  const width = Math.ceil(dimension / 4) * 4;
  const starts = new Int32Array(groups.length + 1);
  for (const [g, group] of groups.entries()) starts[g + 1] = starts[g] + group.count;
  const total = starts[groups.length];
  const differences = new Float64Array(total * width);
  const offsets = new Float64Array(total);
  const owners = new Int32Array(total);
  for (const [g, group] of groups.entries()) {
    for (let i = 0; i < group.count; i++) {
      const row = group.differences.subarray(i * dimension, (i + 1) * dimension);
      differences.set(row, (starts[g] + i) * width);
    }
    if (group.offsets) offsets.set(group.offsets, starts[g]);
    owners.fill(g, starts[g], starts[g + 1]);
  }
  return { width, differences, offsets, owners, starts };
}
