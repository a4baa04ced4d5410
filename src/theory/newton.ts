import { math } from '../numbers/math.js';
import { dot, norm } from '../policy/group-losses.js';

/** Eigenvalues λ_i ≥ 0 (ascending) of a symmetric matrix, and its unit eigenvectors. */
export interface Spectrum {
  values: number[];
  vectors: number[][];
  /** Indices of directions along which the loss is constant, whatever rounding says. */
  unseen: Set<number>;
  /** m_i = max |⟨d, v_i⟩| over all pairs that count; filled in by the local model. */
  reaches: number[];
  /** How far along v_i the curvature is some guide; Infinity where it is the same everywhere. Filled in by the local model. */
  trusted: number[];
}

/** A convex function near θ. */
export interface LocalModel {
  value: number;
  /** [d] */
  gradient: Float64Array;
  /** The Hessian's. */
  spectrum: Spectrum;
}

/**
 * Damped Newton steps for a convex function on ‖θ‖ ≤ radius (absent: R^d): each minimises the local quadratic model over the ball exactly,
 * and is shortened until the function falls enough. A quadratic function is its own model, so one step solves it.
 *
 * @param visit told of every point, the model there, and how far the function would fall along its slope on the way to the model's minimum;
 * says whether the point is better than those before
 * @param rounding of a value, relative to it
 */
export function newtonSteps(
  start: Float64Array,
  radius: number | undefined,
  valueAt: (theta: Float64Array) => number,
  modelAt: (theta: Float64Array) => LocalModel,
  visit: (theta: Float64Array, model: LocalModel, fall: number) => boolean,
  rounding: number,
): void {
  let theta = start;
  for (let iteration = 0; iteration < 200; iteration++) {
    const model = modelAt(theta);
    const { value, gradient, spectrum } = model;
    const target = minimiseQuadratic(spectrum, gradient, theta, radius);
    const descent = dot(gradient, target) - dot(gradient, theta);
    const improved = visit(theta, model, -descent);
    // A step too short to change the value still improves the gradient, and is taken as long as that is of use.
    if (!(descent < -1e-17 * Math.max(1, Math.abs(value))) && !improved) break;
    let step = 1;
    let next: Float64Array = target;
    // The slack of rounding lets the last, invisible, steps through: they still improve the gradient.
    while (!(valueAt(next) <= value + 1e-4 * step * descent + rounding * Math.abs(value)) && step > 1e-10) {
      step /= 2;
      next = theta.map((from, j) => from + step * (target[j] - from));
    }
    if (step <= 1e-10 || next.every((value, j) => value === theta[j])) break;
    theta = next;
  }
}

/** The spectrum of a positive semidefinite matrix; what rounding made negative is 0. */
export function eigenDecomposition(matrix: number[][]): Spectrum {
  // mathjs compares off-diagonal elements with an absolute threshold, so they are scaled.
  const scale = Math.max(...matrix.flat().map(Math.abs)) || 1;
  const { eigenvectors } = math().eigs(
    matrix.map((row) => row.map((value) => value / scale)),
    { precision: 1e-17 },
  );
  const pairs = eigenvectors as { value: number; vector: number[] }[];
  return {
    values: pairs.map(({ value }) => Math.max(0, value * scale)),
    vectors: pairs.map(({ vector }) => {
      const length = norm(vector);
      return vector.map((entry) => entry / length);
    }),
    unseen: new Set(),
    reaches: [],
    trusted: [],
  };
}

/**
 * The minimiser over ‖x‖ ≤ radius of gradientᵀ(x − centre) + ½ (x − centre)ᵀH(x − centre): solves (H + νI)x = b,
 * b = H·centre − gradient, with the least ν ≥ 0 that keeps x in the ball. On R^d no direction is followed further than the curvature is
 * trusted: far beyond the target of a smoothed label it is all but gone, and the model's minimum lies absurdly far away, or nowhere.
 */
function minimiseQuadratic(
  { values, vectors, unseen, trusted }: Spectrum,
  gradient: Float64Array,
  centre: Float64Array,
  radius: number | undefined,
): Float64Array {
  const flat = flatness(values);
  const coordinates = vectors.map((vector) => dot(vector, centre));
  const slopes = vectors.map((vector) => dot(vector, gradient));
  const point = (at: number[]) =>
    Float64Array.from(centre, (_, j) => at.reduce((sum, value, i) => sum + value * vectors[i][j], 0));
  if (radius === undefined) {
    const moves = values.map((value, i) => {
      if (unseen.has(i) || (value <= flat && trusted[i] === Number.POSITIVE_INFINITY)) return 0;
      return Math.max(-trusted[i], Math.min(trusted[i], slopes[i] / Math.max(value, Number.MIN_VALUE)));
    });
    return point(coordinates.map((at, i) => at - moves[i]));
  }
  const free = values.map((value, i) => (value > flat ? coordinates[i] - slopes[i] / value : coordinates[i]));
  const flatAndFalling = values.some((value, i) => value <= flat && Math.abs(slopes[i]) > 1e-14 * norm(slopes));
  if (norm(free) <= radius && !flatAndFalling) return point(free);
  const right = values.map((value, i) => value * coordinates[i] - slopes[i]);
  const at = (nu: number) => values.map((value, i) => right[i] / (value + nu));
  // ‖x(ν)‖ falls from ≥ radius at 0 to ≤ radius at ‖b‖/radius; halving ends when the interval has no inner point.
  let low = 0;
  let high = norm(right) / radius;
  for (let middle = high / 2; middle > low && middle < high; middle = (low + high) / 2)
    if (norm(at(middle)) > radius) low = middle;
    else high = middle;
  const inside = point(at(high));
  const excess = norm(inside) / radius;
  return excess > 1 ? inside.map((value) => value / excess) : inside;
}

/** Curvature that cannot be told from zero. */
export function flatness(values: number[]): number {
  return Math.max(1e-14 * Math.max(...values), Number.MIN_VALUE);
}
