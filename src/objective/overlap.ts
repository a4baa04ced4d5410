import type { GroupTotals, Scaling, StepWeights } from './aggregate.js';
import type { GroupWeights } from './group-weights.js';

/**
 * Weights of groups for windows that are summed by cell. A cell is a set of groups that some pairs are of, so that a pair may be of several;
 * where groups do not overlap the cells are the groups, and all factors below are 1.
 *
 * With m_c the signal of cell c, an estimate of Σ_{i∈c} w_i l_i / N_c, the means over the members of the groups, and the weights that θ then
 * gives to the cells, are
 *
 *   ℓ_g = Σ_{c∋g} s_cg m_c,   q_c = Σ_{g∈c} q_g s_cg,   s_cg = N_c / Σ_{i∈g} w_i,
 *
 * so that Σ_c q_c m_c = Σ_g q_g ℓ_g, and the coefficient of a pair is the sum over its groups. With `batch-mean` signals s_cg is the share
 * that the cell has of the weights of the group's pairs in the window.
 */
export class CellWeights {
  /** [cells] N_c/N: those of a weighting in which all pairs count the same. */
  private readonly shares: Float64Array;
  /** [cells][groups of it] s_cg. */
  private readonly factors: readonly (readonly number[])[];

  /**
   * @param cells [cells] the groups of each
   * @param counts [cells] N_c
   * @param weights [cells] Σ_{i∈c} w_i
   */
  constructor(
    private readonly weighting: GroupWeights,
    private readonly cells: readonly (readonly number[])[],
    counts: ArrayLike<number>,
    weights: ArrayLike<number>,
  ) {
    const total = Array.from(counts).reduce((sum, count) => sum + count, 0);
    this.shares = Float64Array.from(counts, (count) => count / total);
    this.factors = this.factorsOf(counts, weights);
  }

  /** The weights of the cells, for the step on one window. */
  of({ weightSums }: GroupTotals, scaling: Scaling): StepWeights {
    const factors = scaling === 'batch-mean' ? this.factorsOf(weightSums, weightSums) : this.factors;
    return { next: (signal, into) => this.next(signal, factors, into) };
  }

  private next(
    signal: Float64Array,
    factors: readonly (readonly number[])[],
    into: Float64Array = new Float64Array(signal.length),
  ): Float64Array {
    const { weighting, cells } = this;
    const ofGroups = new Float64Array(weighting.alpha.length);
    for (const [c, groups] of cells.entries())
      for (const [i, group] of groups.entries()) ofGroups[group] += factors[c][i] * signal[c];
    const weights = weighting.next(ofGroups);
    if (weighting.pairsAlike) return this.shares;
    for (const [c, groups] of cells.entries())
      into[c] = groups.reduce((sum, group, i) => sum + weights[group] * factors[c][i], 0);
    return into;
  }

  /** Of each cell and group of it own_c / Σ_{c'∋g} all_c'; 0 where there is nothing. */
  private factorsOf(own: ArrayLike<number>, all: ArrayLike<number>): number[][] {
    const sums = new Float64Array(this.weighting.alpha.length);
    for (const [c, groups] of this.cells.entries()) for (const group of groups) sums[group] += all[c];
    return this.cells.map((groups, c) => groups.map((group) => (sums[group] > 0 ? own[c] / sums[group] : 0)));
  }
}
