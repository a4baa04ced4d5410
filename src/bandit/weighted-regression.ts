import { math } from '../numbers/math.js';
import { type LossSettings, lossWith, marginLoss } from '../objective/losses.js';
import { addDifferences } from '../policy/log-linear.js';
import type { LogLinearProblem } from '../policy/log-linear-problem.js';
import { dot } from './features.js';

/**
 * IPO on a log-linear policy as weighted least squares (paper §4.1, Algorithm 2):
 *
 *   argmin_θ Σ_i w_i (⟨d_i, θ⟩ − o_i − 1/(2β))² + λ‖θ‖²,   w_i = c_{g(i)}.
 *
 * With c_g = q_g/N_g this minimises Σ_g q_g L_g + λ‖θ‖². The normal equations are summed by group once, so that a solve costs
 * O(K d² + d³) whatever the number of pairs.
 */
export class WeightedRegression {
  private readonly grams: Float64Array[];
  private readonly rights: Float64Array[];
  private readonly dimension: number;

  /**
   * @param ridge λ ≥ 0
   * @throws InputError when the loss is not a square.
   */
  constructor(
    problem: LogLinearProblem,
    settings: LossSettings,
    private readonly ridge = 0,
  ) {
    const { target } = lossWith(['target'], marginLoss(settings), 'weighted regression (solver: regression)');
    const d = problem.dimension;
    this.dimension = d;
    this.grams = problem.groups.map(({ differences, count }) => {
      const gram = new Float64Array(d * d);
      for (let i = 0; i < count; i++)
        for (let j = 0; j < d; j++)
          for (let k = 0; k < d; k++) gram[j * d + k] += differences[i * d + j] * differences[i * d + k];
      return gram;
    });
    this.rights = problem.groups.map((group) => {
      const targets = Float64Array.from({ length: group.count }, (_, i) => target + (group.offsets?.[i] ?? 0));
      const right = new Float64Array(d);
      addDifferences(group, targets, right);
      return right;
    });
  }

  /** θ for pair weights c_g of the groups; the shortest such θ where several are equally good. */
  solve(coefficients: ArrayLike<number>): Float64Array {
    const d = this.dimension;
    const matrix = Array.from({ length: d }, (_, j) =>
      Array.from(
        { length: d },
        (_, k) => weightedSum(coefficients, this.grams, j * d + k) + (j === k ? this.ridge : 0),
      ),
    );
    const right = Array.from({ length: d }, (_, j) => weightedSum(coefficients, this.rights, j));
    return Float64Array.from(solveSymmetric(matrix, right));
  }
}

function weightedSum(weights: ArrayLike<number>, arrays: Float64Array[], at: number): number {
  return arrays.reduce((sum, array, g) => sum + weights[g] * array[at], 0);
}

/** Pivots and eigenvalues below this share of the largest count as zero. */
const singular = 1e-12;

/**
 * Solves A x = b for symmetric A ⪰ 0 with b in the range of A, as normal equations have it: by LU, or, where A is singular
 * to working precision, the solution of least norm by its eigenvectors.
 */
export function solveSymmetric(matrix: number[][], right: number[]): number[] {
  // The eigenvalue routine judges size absolutely, so the largest entry is made 1.
  const size = Math.max(...matrix.flat().map(Math.abs));
  if (size === 0) return right.map(() => 0);
  const scaled = matrix.map((row) => row.map((value) => value / size));
  const target = right.map((value) => value / size);
  const decomposition = math().lup(scaled);
  const pivots = (decomposition.U as number[][]).map((row, j) => Math.abs(row[j]));
  if (Math.min(...pivots) > singular * Math.max(...pivots))
    return (math().lusolve(decomposition, target).valueOf() as number[][]).map(([x]) => x);
  const { eigenvectors } = math().eigs(scaled) as unknown as { eigenvectors: { value: number; vector: number[] }[] };
  const largest = Math.max(...eigenvectors.map(({ value }) => value));
  const x = right.map(() => 0);
  for (const { value, vector } of eigenvectors) {
    if (value <= singular * largest) continue;
    const step = dot(vector, target) / value;
    vector.forEach((v, j) => {
      x[j] += step * v;
    });
  }
  return x;
}
