import { math } from '../numbers/math.js';
import { lossWith, type MarginLoss } from '../objective/losses.js';
import { curvatureAlong, dot, groupDerivatives, groupLosses, norm, type SmoothLoss } from '../policy/group-losses.js';
import type { LogLinearProblem } from '../policy/log-linear-problem.js';
import { largestDifference } from './constants.js';

/** Where Σ_g α_g L_g is least, with bounds that show how exact that is. */
export interface InnerMinimum {
  /** [d] the minimiser found; ‖θ‖ ≤ radius. */
  theta: Float64Array;
  /** Σ_g α_g L_g(θ): an upper bound on q(α). */
  value: number;
  /** A lower bound on q(α) that follows from convexity alone, whatever the solver did. */
  lower: number;
}

/**
 * q(α) = min { Σ_g α_g L_g(θ) : ‖θ‖ ≤ radius }, by damped Newton steps: each minimises the local quadratic model over the
 * ball exactly, and is shortened until the loss falls enough. A quadratic loss is its own model, so one step solves it.
 *
 * @param radius absent: all of R^d. A vanishing loss may then have no minimiser: `theta` is then some point far out.
 * @param start [d] inside the ball; default 0.
 * @throws InputError for a loss without a second derivative.
 */
export function innerMinimum(
  problem: LogLinearProblem,
  given: MarginLoss,
  alpha: ArrayLike<number>,
  radius?: number,
  start: ArrayLike<number> = new Float64Array(problem.dimension),
): InnerMinimum {
  const loss = lossWith(['convexity', 'curvature'], given, 'the least weighted loss');
  let theta: Float64Array = Float64Array.from(start);
  const reach = largestDifference(problem);
  const valueAt = (at: Float64Array) => dot(alpha, groupLosses(problem, loss, at));
  let best: InnerMinimum = { theta, value: valueAt(theta), lower: Number.NEGATIVE_INFINITY };
  for (let iteration = 0; iteration < 200; iteration++) {
    const { value, gradient, spectrum } = localModel(problem, loss, alpha, theta);
    const lower = value - optimalityGap(spectrum, gradient, theta, radius, persistence(loss, reach, radius));
    const improved = lower > best.lower || value < best.value;
    const point = value <= best.value ? { theta, value } : best;
    best = { theta: point.theta, value: point.value, lower: Math.max(lower, best.lower) };
    const target = minimiseQuadratic(spectrum, gradient, theta, radius);
    const descent = dot(gradient, target) - dot(gradient, theta);
    // A step too short to change the value still improves the gradient, hence the lower bound, and is taken as long as it does.
    if (!(descent < -1e-17 * Math.max(1, value)) && !improved) break;
    let step = 1;
    let next: Float64Array = target;
    // The slack of one rounding lets the last, invisible, steps through: they still improve the gradient.
    while (!(valueAt(next) <= value + 1e-4 * step * descent + 4e-16 * value) && step > 1e-10) {
      step /= 2;
      next = theta.map((from, j) => from + step * (target[j] - from));
    }
    if (step <= 1e-10) break;
    theta = next;
  }
  return best;
}

/** Eigenvalues λ_i ≥ 0 (ascending) of a symmetric matrix, and its unit eigenvectors. */
interface Spectrum {
  values: number[];
  vectors: number[][];
  /** Indices of directions along which the loss is constant, whatever rounding says. */
  unseen: Set<number>;
  /** m_i = max |⟨d, v_i⟩| over all pairs that count; filled in by the local model. */
  reaches: number[];
}

function localModel(problem: LogLinearProblem, loss: SmoothLoss, alpha: ArrayLike<number>, theta: Float64Array) {
  const groups = groupDerivatives(problem, loss, theta);
  const gradient = new Float64Array(theta.length);
  const hessian = Array.from(theta, () => new Array<number>(theta.length).fill(0));
  let value = 0;
  for (const [g, group] of groups.entries()) {
    value += alpha[g] * group.loss;
    for (let j = 0; j < theta.length; j++) {
      gradient[j] += alpha[g] * group.gradient[j];
      for (let k = 0; k < theta.length; k++) hessian[j][k] += alpha[g] * group.hessian[j][k];
    }
  }
  const spectrum = eigenDecomposition(hessian);
  const flat = flatness(spectrum.values);
  const visible = visibility * largestDifference(problem);
  for (const [i, vector] of spectrum.vectors.entries()) {
    const { curvature, reach } = curvatureAlong(problem, loss, alpha, theta, vector);
    spectrum.reaches.push(reach);
    if (spectrum.values[i] > flat) continue;
    // The decomposition has lost this curvature to rounding, but the pairs still have it. Where no pair sees the direction, the loss is
    // constant along it, and the gradient's component there is only rounding.
    spectrum.values[i] = curvature;
    if (reach > visible) continue;
    spectrum.values[i] = 0;
    spectrum.unseen.add(i);
    const slope = dot(vector, gradient);
    for (let j = 0; j < theta.length; j++) gradient[j] -= slope * vector[j];
  }
  return { value, gradient, spectrum };
}

/** A pair sees a direction when its difference has a larger component along it, relative to the largest difference. */
const visibility = 1e-13;

/** The spectrum of a positive semidefinite matrix; what rounding made negative is 0. */
function eigenDecomposition(matrix: number[][]): Spectrum {
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
  };
}

/**
 * The minimiser over ‖x‖ ≤ radius of gradientᵀ(x − centre) + ½ (x − centre)ᵀH(x − centre): solves (H + νI)x = b,
 * b = H·centre − gradient, with the least ν ≥ 0 that keeps x in the ball. Flat directions of H are left at the centre.
 */
function minimiseQuadratic(
  { values, vectors }: Spectrum,
  gradient: Float64Array,
  centre: Float64Array,
  radius: number | undefined,
): Float64Array {
  const flat = flatness(values);
  const coordinates = vectors.map((vector) => dot(vector, centre));
  const slopes = vectors.map((vector) => dot(vector, gradient));
  const free = values.map((value, i) => (value > flat ? coordinates[i] - slopes[i] / value : coordinates[i]));
  const point = (at: number[]) =>
    Float64Array.from(centre, (_, j) => at.reduce((sum, value, i) => sum + value * vectors[i][j], 0));
  if (radius === undefined) return point(free);
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

/**
 * An upper bound on f(θ) − min f, the better of two.
 *
 * Linear, on a ball only, by convexity: max over the ball of gradientᵀ(θ − x) = gradientᵀθ + radius‖gradient‖. It is as good
 * as the gradient's direction, so rounding spoils it in a large ball.
 *
 * Quadratic: the loss lies above its model at θ with κH in place of H, see {@link persistence}, wherever it is trusted. For
 * every ν ≥ 0, min f ≥ min f + ν(‖x‖² − radius²)/2, and with r = gradient + νθ the model of the right side falls short of f(θ)
 * by rᵀ(κH + νI)⁻¹r/2 + ν(radius² − ‖θ‖²)/2. On R^d, ν = 0.
 */
function optimalityGap(
  { values, vectors, unseen, reaches }: Spectrum,
  gradient: Float64Array,
  theta: Float64Array,
  radius: number | undefined,
  { kappa, steepest }: Persistence,
): number {
  const inward = -dot(gradient, theta);
  const nu = radius === undefined ? 0 : Math.max(0, inward / radius ** 2);
  const residual = gradient.map((slope, j) => slope + nu * theta[j]);
  let quadratic = 0;
  // Σ g_i²/λ_i and Σ m_i²/λ_i.
  let decrement = 0;
  let reach = 0;
  for (const [i, value] of values.entries()) {
    if (unseen.has(i) && nu === 0) continue;
    const slope = Math.abs(dot(vectors[i], residual));
    decrement += slope ** 2 / Math.max(value, Number.MIN_VALUE);
    reach += reaches[i] ** 2 / Math.max(value, Number.MIN_VALUE);
    // No point of the ball is further than its diameter, whatever the curvature.
    const furthest = radius === undefined ? Number.POSITIVE_INFINITY : 2 * radius * slope;
    quadratic += Math.min(furthest, slope ** 2 / (2 * Math.max(kappa * value + nu, Number.MIN_VALUE)));
  }
  if (radius === undefined)
    return Math.sqrt(decrement) * Math.sqrt(reach) <= steepest ? quadratic : Number.POSITIVE_INFINITY;
  const slack = Math.max(0, (radius - norm(theta)) * (radius + norm(theta)));
  return Math.min(Math.max(0, radius * norm(gradient) - inward), quadratic + (nu * slack) / 2);
}

interface Persistence {
  /** f(θ + Δ) ≥ f(θ) + gradientᵀΔ + κ ΔᵀHΔ/2 for every Δ that could lead to the minimum. */
  kappa: number;
  /** On R^d that is known only while √(Σ g_i²/λ_i · Σ m_i²/λ_i) is at most this. */
  steepest: number;
}

/**
 * How much of the curvature at θ surely persists elsewhere. With M the loss's self-concordance, its third derivative along Δ is
 * at most S = M max_i |⟨d_i, Δ⟩| times its second (Bach 2010), so f(θ + Δ) ≥ f(θ) + gradientᵀΔ + c(S) ΔᵀHΔ,
 * c(S) = (e^−S + S − 1)/S², which falls with S from c(0) = 1/2. In a ball S is at most M B_φ times the diameter.
 *
 * On R^d: by Cauchy–Schwarz S = 1 needs ΔᵀHΔ ≥ 1/(M² Σ m_i²/λ_i), and gradientᵀΔ ≥ −Σ g_i²/(2cλ_i) − (c/2) ΔᵀHΔ. So with c = c(1)
 * and Σ g_i²/λ_i · Σ m_i²/λ_i ≤ (c/M)² no Δ with S = 1 lies below f(θ); the minimum is then nearer, and c(1) serves for it.
 *
 * @param reach B_φ, the largest difference
 */
function persistence({ curvature }: SmoothLoss, reach: number, radius: number | undefined): Persistence {
  const { selfConcordance } = curvature;
  if (selfConcordance === 0) return { kappa: 1, steepest: Number.POSITIVE_INFINITY };
  const share = (S: number) => (S < 1e-3 ? 1 / 2 - S / 6 : (Math.exp(-S) + S - 1) / S ** 2);
  if (radius !== undefined)
    return { kappa: 2 * share(2 * radius * selfConcordance * reach), steepest: Number.POSITIVE_INFINITY };
  return { kappa: 2 * share(1), steepest: share(1) / selfConcordance };
}

/** Curvature that cannot be told from zero. */
function flatness(values: number[]): number {
  return Math.max(1e-14 * Math.max(...values), Number.MIN_VALUE);
}
