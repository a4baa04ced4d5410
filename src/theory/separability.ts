import { dot, norm } from '../policy/group-losses.js';
import type { LogLinearProblem } from '../policy/log-linear-problem.js';
import { solveLinear } from './linear-system.js';

/** A way to infinity along which no pair's loss grows and, where the loss vanishes, some fall to zero. */
export interface Separation {
  /** [d] u with ⟨d_i, u⟩ > 0 for the separated pairs and = 0 for all others. */
  direction: Float64Array;
  /** Per group, 1 for each separated pair. As many pairs as possible are. */
  separated: Uint8Array[];
}

/**
 * Finds out whether some u has ⟨d_i, u⟩ ≥ 0 for every pair of every group, not all zero. Then, on R^d, vanishing losses of
 * the separated pairs have no minimum. Undefined when there is none.
 *
 * By Stiemke's theorem there is none exactly when Σ w_i d_i = 0 for some w > 0. The least ‖Σ (1+y_i) d_i‖ with y ≥ 0 is either
 * zero, which gives w, or its minimiser is such a u; pairs it separates are put aside and the rest is searched again.
 */
export function findSeparation(problem: LogLinearProblem): Separation | undefined {
  const d = problem.dimension;
  const separated = problem.groups.map((group) => new Uint8Array(group.count));
  let direction: Float64Array | undefined;
  for (;;) {
    const rows: Float64Array[] = [];
    const owners: [group: number, pair: number][] = [];
    for (const [g, group] of problem.groups.entries())
      for (let i = 0; i < group.count; i++) {
        const row = group.differences.slice(i * d, (i + 1) * d);
        const length = norm(row);
        if (length === 0 || separated[g][i] === 1) continue;
        rows.push(row.map((value) => value / length));
        owners.push([g, i]);
      }
    const found = leastCombination(rows, d);
    if (found === undefined) break;
    const margins = rows.map((row) => dot(row, found));
    const news = owners.filter((_, n) => margins[n] > tolerance);
    // Each pair falls short of the tolerance, all together do not: searching again would find the same.
    if (news.length === 0) break;
    // Earlier directions get more weight, so that the pairs they separate stay separated.
    const weight = direction === undefined ? 0 : 2 * dominance(problem, separated, direction, found);
    direction = found.map((value, j) => value + weight * (direction?.[j] ?? 0));
    for (const [g, i] of news) separated[g][i] = 1;
  }
  return direction === undefined ? undefined : { direction: direction.map((v) => v / norm(direction)), separated };
}

const tolerance = 1e-9;

/**
 * The unit vector along the shortest Σ (1+y_i) r_i, y ≥ 0, over unit rows r_i; undefined when that is zero.
 * Non-negative least squares by the active-set method of Lawson and Hanson.
 */
function leastCombination(rows: Float64Array[], d: number): Float64Array | undefined {
  const base = new Float64Array(d);
  for (const row of rows) for (let j = 0; j < d; j++) base[j] += row[j];
  const scale = Math.max(1, norm(base));
  const y = new Float64Array(rows.length);
  let active: number[] = [];
  let residual: Float64Array = base;
  for (let round = 0; round < 10 * rows.length + 10; round++) {
    if (norm(residual) <= tolerance * scale) return undefined;
    // Rows in use are orthogonal to the residual but for rounding, and must not enter again.
    const slopes = rows.map((row, i) => (active.includes(i) ? 0 : dot(row, residual) / norm(residual)));
    const entering = slopes.reduce((least, slope, i) => (slope < slopes[least] ? i : least), 0);
    if (slopes[entering] >= -tolerance) return residual.map((value) => value / norm(residual));
    active.push(entering);
    for (;;) {
      const solution = leastSquares(
        active.map((i) => rows[i]),
        base,
      );
      if (solution === undefined) return undefined;
      if (solution.every((value) => value > 0)) {
        for (const [n, i] of active.entries()) y[i] = solution[n];
        break;
      }
      const reach = Math.min(
        ...active.map((i, n) => (solution[n] <= 0 ? y[i] / (y[i] - solution[n]) : Number.POSITIVE_INFINITY)),
      );
      for (const [n, i] of active.entries()) y[i] += reach * (solution[n] - y[i]);
      const kept = active.filter((i) => y[i] > 1e-14);
      for (const i of active) if (!kept.includes(i)) y[i] = 0;
      if (kept.length === active.length) break;
      active = kept;
      if (active.length === 0) break;
    }
    residual = combine(base, rows, y);
  }
  // No rows, or rounding kept the method from ending: no separation is claimed.
  return undefined;
}

/** z that minimises ‖base + Σ z_n rows_n‖; undefined where the rows depend on each other. */
function leastSquares(rows: Float64Array[], base: Float64Array): number[] | undefined {
  const gram = rows.map((a) => rows.map((b) => dot(a, b)));
  let solution = rows.map(() => 0);
  // The normal equations square the condition number; two corrections from the true residual recover the digits.
  for (let pass = 0; pass < 3; pass++) {
    const residual = combine(base, rows, solution);
    const change = solveLinear(
      gram,
      rows.map((row) => -dot(row, residual)),
    );
    if (change === undefined) return undefined;
    solution = solution.map((value, n) => value + change[n]);
  }
  return solution;
}

/** base + Σ weights_n rows_n. */
function combine(base: Float64Array, rows: Float64Array[], weights: ArrayLike<number>): Float64Array {
  return base.map((value, j) => rows.reduce((sum, row, n) => sum + weights[n] * row[j], value));
}

/** max |⟨d_i, u'⟩| / min ⟨d_i, u⟩ over the pairs that u has separated. */
function dominance(problem: LogLinearProblem, separated: Uint8Array[], u: Float64Array, other: Float64Array): number {
  let ratio = 1;
  const d = problem.dimension;
  for (const [g, group] of problem.groups.entries())
    for (let i = 0; i < group.count; i++)
      if (separated[g][i] === 1) {
        const row = group.differences.subarray(i * d, (i + 1) * d);
        ratio = Math.max(ratio, Math.abs(dot(row, other)) / dot(row, u));
      }
  return ratio;
}
