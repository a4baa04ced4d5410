/**
 * From pair losses to group losses.
 *
 * Pairs come in windows: everything that feeds one optimiser step, in one micro-batch or several. A window is summed per
 * group first and scaled once at its end, so the way it was cut into micro-batches cannot change the step.
 */

/** Sums over one window, per group. */
export class GroupTotals {
  /** Σ w_i l_i over the pairs of each group. */
  readonly lossSums: Float64Array;
  /** Σ w_i. */
  readonly weightSums: Float64Array;
  /** Number of pairs. */
  readonly counts: Int32Array;

  constructor(readonly groupCount: number) {
    this.lossSums = new Float64Array(groupCount);
    this.weightSums = new Float64Array(groupCount);
    this.counts = new Int32Array(groupCount);
  }

  /** Starts a new window. */
  clear(): void {
    for (let g = 0; g < this.groupCount; g++) {
      this.lossSums[g] = 0;
      this.weightSums[g] = 0;
      this.counts[g] = 0;
    }
  }

  /** Adds one pair: its group in 0..K-1, its loss and its weight. */
  add(group: number, loss: number, weight = 1): void {
    this.lossSums[group] += weight * loss;
    this.weightSums[group] += weight;
    this.counts[group] += 1;
  }

  /** Adds `count` pairs of weight 1 whose losses sum to `lossSum`. */
  addSum(group: number, lossSum: number, count: number): void {
    this.lossSums[group] += lossSum;
    this.weightSums[group] += count;
    this.counts[group] += count;
  }

  /** Number of pairs in the window, |S|. */
  get size(): number {
    let size = 0;
    for (let g = 0; g < this.groupCount; g++) size += this.counts[g];
    return size;
  }

  /** Σ w_i l_i / Σ w_i of each group; undefined where the group has no (weighted) pair. */
  means(): (number | undefined)[] {
    return Array.from(this.lossSums, (sum, g) => (this.weightSums[g] > 0 ? sum / this.weightSums[g] : undefined));
  }
}

/**
 * `normalised`: ℓ_g = Σ_{i∈S_g} w_i l_i / (p_g |S|), an unbiased estimate of L_g whatever the batch size.
 * `paper`: the same without 1/|S|, as the authors' code has it; their step size for α refers to this one.
 * `batch-mean`: ℓ_g = Σ_{i∈S_g} w_i l_i / Σ_{i∈S_g} w_i, the mean over the group's pairs in the batch, and 0 for a group that has none there
 * (Sagawa et al. 2020). Steadier, since it does not depend on how many pairs were drawn, and for the same reason not unbiased. Losses must not
 * be below 0, or absent groups count as the worst.
 */
export const scalings = ['normalised', 'paper', 'batch-mean'] as const;
export type Scaling = (typeof scalings)[number];

/**
 * The factors c_g with ℓ_g = c_g · lossSums_g.
 *
 * `probabilities` p_g: the chance that one draw of the sampler is a pair of group g (N_g/N for proportional sampling, 1/K for
 * balanced). With p_g = N_g/N this is the N/N_g of Algorithm 1; over the full data set ℓ_g is exactly the group mean L_g.
 */
export function signalScales(
  totals: GroupTotals,
  probabilities: ArrayLike<number>,
  scaling: Scaling,
  into: Float64Array = new Float64Array(totals.groupCount),
): Float64Array {
  if (scaling === 'batch-mean') {
    for (let g = 0; g < into.length; g++) into[g] = totals.weightSums[g] > 0 ? 1 / totals.weightSums[g] : 0;
    return into;
  }
  const size = scaling === 'normalised' ? totals.size : 1;
  for (let g = 0; g < into.length; g++) into[g] = totals.counts[g] === 0 ? 0 : 1 / (probabilities[g] * size);
  return into;
}

/** One step's outcome: what the optimiser needs, and what the log shows. */
export interface RobustStep {
  /** Σ_g q_g ℓ_g with the θ-weights q of this step. */
  loss: number;
  /** Group signal ℓ_g; 0 where the group is absent. */
  signal: Float64Array;
  /** θ-weights q_g of this step. */
  weights: Float64Array;
  /** Factors on Σ_{i∈S_g} w_i ∇l_i, so that Σ_g coefficients_g · (that sum) = ∇ loss. */
  coefficients: Float64Array;
}

/** Anything that turns group losses into θ-weights; see group-weights.ts. */
export interface StepWeights {
  /** The θ-weights for this step, in `into` where that is given and they move; moves α where the method has one. */
  next(signal: Float64Array, into?: Float64Array): Float64Array;
}

/**
 * Closes a window: signal, θ-weights, the scalar loss and the coefficients of its gradient (paper Eq. 9 and §4).
 * This is the one place where group weights meet losses, for the simulator and for language models alike.
 *
 * @param into an outcome that is no longer needed, to be overwritten and returned
 * @example Two groups in one batch: the second fares worse, so it gains weight.
 * ```ts
 * import { GroupTotals, groupWeights, robustStep } from 'group-robust-po';
 *
 * const weighting = groupWeights({ weights: 'mirror-ascent', step: 0.5 }, [200, 200]);
 * const totals = new GroupTotals(2);
 * totals.add(0, 1);
 * totals.add(1, 3);
 * const { loss, signal, weights } = robustStep(totals, weighting, [0.5, 0.5]);
 * signal; // → [1, 3]
 * weights; // → [1 / (1 + Math.E), Math.E / (1 + Math.E)]
 * loss; // → (1 + 3 * Math.E) / (1 + Math.E)
 * ```
 */
export function robustStep(
  totals: GroupTotals,
  weighting: StepWeights,
  probabilities: ArrayLike<number>,
  scaling: Scaling = 'normalised',
  into: RobustStep = emptyStep(totals.groupCount),
): RobustStep {
  // Loops, not map(), and the arrays of the last step again: the simulator closes a window in less than a microsecond.
  const { coefficients, signal } = into;
  signalScales(totals, probabilities, scaling, coefficients);
  for (let g = 0; g < signal.length; g++) signal[g] = coefficients[g] * totals.lossSums[g];
  const weights = weighting.next(signal, into.weights);
  into.weights = weights;
  into.loss = 0;
  for (let g = 0; g < signal.length; g++) {
    into.loss += weights[g] * signal[g];
    coefficients[g] *= weights[g];
  }
  return into;
}

/** Arrays for {@link robustStep} to write to. */
export function emptyStep(groupCount: number): RobustStep {
  const numbers = () => new Float64Array(groupCount);
  return { loss: 0, signal: numbers(), weights: numbers(), coefficients: numbers() };
}
