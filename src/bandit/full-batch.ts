import { loadSimulator, type NativeGroup, type NativeSimulator } from '../native/simulator.js';
import { GroupTotals } from '../objective/aggregate.js';
import type { MarginLoss } from '../objective/losses.js';
import { addDifferences, margins } from '../policy/log-linear.js';
import type { DifferenceGroup, LogLinearProblem } from '../policy/log-linear-problem.js';

/**
 * Group losses and their gradients over all pairs, at the θ that the array holds at the moment: by the simulator's addon where it is
 * built and has the loss, else by loops here. Both give the same numbers up to rounding.
 */
export class FullBatch {
  /** Σ_{i∈D_g} ∇l_i at the θ of the last {@link evaluate}, one row per group. */
  readonly gradients: Float64Array[];
  private readonly totals: GroupTotals;
  /** Σ_{i∈D_g} l_i at that θ. */
  private readonly losses: Float64Array;
  private readonly sums: () => void;

  constructor(
    private readonly problem: LogLinearProblem,
    loss: MarginLoss,
    theta: Float64Array,
    simulator: NativeSimulator | null = loadSimulator(),
    width = simulator?.widths[0],
  ) {
    const { dimension, groups } = problem;
    const gradients = new Float64Array(groups.length * dimension);
    this.gradients = groups.map((_, g) => gradients.subarray(g * dimension, (g + 1) * dimension));
    this.losses = new Float64Array(groups.length);
    this.totals = new GroupTotals(groups.length);
    if (simulator && width !== undefined && loss.kernel) {
      const columns = groups.map((group) => columnsOf(group, dimension, simulator.padding));
      this.sums = simulator.fullBatch(width, loss.kernel, columns, dimension, theta, this.losses, gradients);
    } else this.sums = this.plainSums(loss, theta);
  }

  /** Losses of all pairs, summed by group; valid until the next evaluation. */
  evaluate(): GroupTotals {
    this.sums();
    this.totals.clear();
    const { groups } = this.problem;
    for (let g = 0; g < groups.length; g++) this.totals.addSum(g, this.losses[g], groups[g].count);
    return this.totals;
  }

  private plainSums(loss: MarginLoss, theta: Float64Array): () => void {
    const { groups } = this.problem;
    const buffers = groups.map((group) => new Float64Array(group.count));
    return () => {
      for (let g = 0; g < groups.length; g++) {
        const buffer = margins(groups[g], theta, buffers[g]);
        this.losses[g] = loss.sumAndDifferentiate(buffer);
        addDifferences(groups[g], buffer, this.gradients[g].fill(0));
      }
    };
  }
}

/** Column by column, so that vectors hold pairs one after the other; padded with zeros, which the addon leaves out of its sums. */
function columnsOf({ count, differences, offsets }: DifferenceGroup, dimension: number, padding: number): NativeGroup {
  const stride = Math.ceil(count / padding) * padding;
  const columns = new Float64Array(dimension * stride);
  for (let i = 0; i < count; i++)
    for (let j = 0; j < dimension; j++) columns[j * stride + i] = differences[i * dimension + j];
  if (!offsets) return { count, columns };
  const padded = new Float64Array(stride);
  padded.set(offsets);
  return { count, columns, offsets: padded };
}
