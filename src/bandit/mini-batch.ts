import { createSampler, type Sampler } from '../data/pairs/sampler.js';
import { InputError } from '../errors.js';
import { GroupTotals } from '../objective/aggregate.js';
import type { MarginLoss } from '../objective/losses.js';
import type { LogLinearProblem } from '../policy/log-linear-problem.js';
import type { MethodSettings } from './methods.js';

/**
 * Some pairs at a time, at the θ that the array holds at the moment: each pair once an epoch, in an order that depends on the seed alone.
 */
export class MiniBatch {
  /** Σ_{i∈S_g} ∇l_i over the batch of the last {@link evaluate}, one row per group. */
  readonly gradients: Float64Array[];
  private readonly totals: GroupTotals;
  private readonly sampler: Sampler;
  /** [pairs] group of each pair, and its place there. */
  private readonly groups: Int32Array;
  private readonly places: Int32Array;
  private readonly slope = new Float64Array(1);

  constructor(
    private readonly problem: LogLinearProblem,
    private readonly loss: MarginLoss,
    private readonly theta: Float64Array,
    size: number,
    seed: number,
  ) {
    this.gradients = problem.groups.map(() => new Float64Array(problem.dimension));
    this.totals = new GroupTotals(problem.groups.length);
    this.groups = Int32Array.from(problem.groups.flatMap(({ count }, g) => new Array<number>(count).fill(g)));
    this.places = Int32Array.from(problem.groups.flatMap(({ count }) => Array.from({ length: count }, (_, i) => i)));
    const groupCount = problem.groups.length;
    this.sampler = createSampler({ kind: 'proportional', groups: this.groups, groupCount, batchSize: size, seed });
  }

  /** Losses of the next batch, summed by group; valid until the next evaluation. */
  evaluate(): GroupTotals {
    const { theta } = this;
    const { dimension, groups } = this.problem;
    this.totals.clear();
    for (const gradient of this.gradients) gradient.fill(0);
    for (const pair of this.sampler.next()) {
      const [g, i] = [this.groups[pair], this.places[pair]];
      const { differences, offsets } = groups[g];
      const d = differences.subarray(i * dimension, (i + 1) * dimension);
      let h = -(offsets?.[i] ?? 0);
      for (let j = 0; j < dimension; j++) h += d[j] * theta[j];
      this.totals.add(g, this.loss.evaluate(h, this.slope));
      const gradient = this.gradients[g];
      for (let j = 0; j < dimension; j++) gradient[j] += this.slope[0] * d[j];
    }
    return this.totals;
  }
}

/** @throws InputError where the batch is no part of the pairs, or has no meaning with the other settings */
export function checkBatch({ solver, adaptive }: MethodSettings, batch: number, pairCount: number): number {
  const refuse = (problem: string, fix: string): never => {
    throw new InputError(problem, { at: { field: 'batch' }, fix });
  };
  if (!Number.isInteger(batch) || batch < 1 || batch > pairCount)
    refuse(`must be a whole number in [1, ${pairCount}], the number of pairs, not ${batch}`, 'take fewer pairs');
  if (solver === 'regression') refuse('has no effect on the regression, which takes all pairs', 'use gradient steps');
  if (adaptive) refuse('does not go with adaptive steps, which follow the gradient over all pairs', 'leave one out');
  return batch;
}
