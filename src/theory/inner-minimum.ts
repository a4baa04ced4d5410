import { lossWith, type MarginLoss } from '../objective/losses.js';
import {
  type CurvedLoss,
  curvatureAlong,
  dot,
  groupDerivatives,
  groupLosses,
  norm,
  type SmoothLoss,
} from '../policy/group-losses.js';
import type { LogLinearProblem } from '../policy/log-linear-problem.js';
import { largestDifference } from './constants.js';
import { eigenDecomposition, flatness, type LocalModel, newtonSteps, type Spectrum } from './newton.js';

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
 * q(α) = min { Σ_g α_g L_g(θ) : ‖θ‖ ≤ radius }, by {@link newtonSteps}.
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
  const reach = largestDifference(problem);
  const from = Float64Array.from(start);
  const valueAt = (at: Float64Array) => dot(alpha, groupLosses(problem, loss, at));
  let best: InnerMinimum = { theta: from, value: valueAt(from), lower: Number.NEGATIVE_INFINITY };
  const modelAt = (theta: Float64Array) => mixtureModel(problem, loss, theta, () => ({ weights: alpha }));
  const visit = (theta: Float64Array, { value, gradient, spectrum }: LocalModel) => {
    const lower = value - optimalityGap(spectrum, gradient, theta, radius, persistence(loss, reach, radius));
    const improved = lower > best.lower || value < best.value;
    const point = value <= best.value ? { theta, value } : best;
    best = { theta: point.theta, value: point.value, lower: Math.max(lower, best.lower) };
    return improved;
  };
  newtonSteps(from, radius, valueAt, modelAt, visit, 4e-16);
  return best;
}

/** How much each group counts. */
interface Mixture {
  /** [K] w. */
  weights: ArrayLike<number>;
  /** K rows of K: dw/dL, symmetric and positive semidefinite, where w follows the losses. */
  response?: number[][];
}

/** The model of Σ_g w_g L_g, and of the function whose gradient is Σ_g w_g ∇L_g where w follows the losses. */
export function mixtureModel(
  problem: LogLinearProblem,
  loss: CurvedLoss,
  theta: Float64Array,
  mix: (losses: Float64Array) => Mixture,
): LocalModel {
  const groups = groupDerivatives(problem, loss, theta);
  const { weights, response } = mix(Float64Array.from(groups, (group) => group.loss));
  const d = theta.length;
  const gradient = new Float64Array(d);
  const hessian = Array.from(theta, () => new Array<number>(d).fill(0));
  let value = 0;
  for (const [g, group] of groups.entries()) {
    value += weights[g] * group.loss;
    for (let j = 0; j < d; j++) {
      gradient[j] += weights[g] * group.gradient[j];
      for (let k = 0; k < d; k++) hessian[j][k] += weights[g] * group.hessian[j][k];
    }
    if (response === undefined) continue;
    const pull = new Float64Array(d);
    for (const [h, other] of groups.entries())
      for (let k = 0; k < d; k++) pull[k] += response[g][h] * other.gradient[k];
    for (let j = 0; j < d; j++) for (let k = 0; k < d; k++) hessian[j][k] += group.gradient[j] * pull[k];
  }
  for (let j = 0; j < d; j++)
    for (let k = 0; k < j; k++) hessian[j][k] = hessian[k][j] = (hessian[j][k] + hessian[k][j]) / 2;
  const spectrum = eigenDecomposition(hessian);
  const flat = flatness(spectrum.values);
  const visible = visibility * largestDifference(problem);
  for (const [i, vector] of spectrum.vectors.entries()) {
    const { curvature, reach } = curvatureAlong(problem, loss, weights, theta, vector);
    spectrum.reaches.push(reach);
    spectrum.trusted.push(trustedChange / (loss.curvature.selfConcordance * reach));
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

/** The curvature changes by at most e^S while M times a margin changes by S. Beyond this S it says nothing. */
const trustedChange = 10;

/** A pair sees a direction when its difference has a larger component along it, relative to the largest difference. */
const visibility = 1e-13;

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
