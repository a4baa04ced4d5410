import { InputError } from '../errors.js';
import { lossWith, type MarginLoss } from '../objective/losses.js';
import { norm } from '../policy/group-losses.js';
import type { LogLinearProblem } from '../policy/log-linear-problem.js';

/**
 * How Algorithm 1 and Algorithm 3 draw a pair: 1 draws one of all N pairs, so group g with probability p_g = N_g/N; 3 draws a
 * group uniformly, p_g = 1/K, then one of its pairs.
 */
export type Algorithm = 1 | 3;

/** p_g, the chance that one draw is of group g. Its inverse is the importance factor that makes the estimates unbiased. */
export function groupProbabilities(problem: LogLinearProblem, algorithm: Algorithm): Float64Array {
  const total = problem.groups.reduce((sum, group) => sum + group.count, 0);
  return Float64Array.from(problem.groups, ({ count }) =>
    algorithm === 1 ? count / total : 1 / problem.groups.length,
  );
}

/** What the bound of Proposition 4.1 is made of. */
export interface Constants {
  /** B_φ = max_i ‖d_i‖. */
  B_phi: number;
  /** B_∇: Lipschitz constant of l in θ on the ball. */
  B_grad: number;
  /** B_l: largest l on the ball. */
  B_l: number;
  /** B_Θ: the radius. */
  B_theta: number;
  /** ρ = max_g 1/p_g: N / min N_g for Algorithm 1, K for Algorithm 3. */
  rho: number;
  /** K. */
  groups: number;
  /** N. */
  pairs: number;
}

/** max_i ‖d_i‖ over all groups. */
export function largestDifference(problem: LogLinearProblem): number {
  let largest = 0;
  for (const { count, differences } of problem.groups)
    for (let i = 0; i < count; i++)
      largest = Math.max(largest, norm(differences.subarray(i * problem.dimension, (i + 1) * problem.dimension)));
  return largest;
}

/**
 * Lemma E.1 for any convex loss: with H = B_φ B_Θ + max|o_i| the largest margin, B_∇ is B_φ times the loss's Lipschitz constant up
 * to H, and B_l the larger of l(H) and l(−H), where a convex loss is largest. So DPO has B_∇ = βB_φ, with the β that the paper's
 * statement drops, and B_l = log(1 + e^{βH}), its tight form; IPO has B_∇ = 2B_φ(H + c) and B_l = (H + c)², c = 1/(2β).
 *
 * @throws InputError for a radius that is not positive and finite, or for a loss that is not convex.
 */
export function convergenceConstants(
  problem: LogLinearProblem,
  given: MarginLoss,
  radius: number,
  algorithm: Algorithm,
): Constants {
  if (!(radius > 0 && Number.isFinite(radius)))
    throw new InputError(`radius must be a positive number, not ${radius}`, { at: { field: 'radius' } });
  const loss = lossWith(['convexity'], given, 'the bound of Proposition 4.1');
  const B_phi = largestDifference(problem);
  const offset = problem.groups.reduce(
    (most, group) => (group.offsets ?? new Float64Array(0)).reduce(largerSize, most),
    0,
  );
  const H = B_phi * radius + offset;
  return {
    B_phi,
    B_grad: B_phi * loss.lipschitz(H),
    B_l: Math.max(loss.value(H), loss.value(-H)),
    B_theta: radius,
    rho: 1 / Math.min(...groupProbabilities(problem, algorithm)),
    groups: problem.groups.length,
    pairs: problem.groups.reduce((sum, group) => sum + group.count, 0),
  };
}

function largerSize(most: number, value: number): number {
  return Math.max(most, Math.abs(value));
}

/** B_Θ² M_θ² + M_α² ln K with the second moments M_θ² = ρB_∇², M_α² = ρK B_l² of the unbiased gradient estimates. */
export function moment({ B_grad, B_l, B_theta, rho, groups }: Constants): number {
  return rho * (B_theta ** 2 * B_grad ** 2 + groups * B_l ** 2 * Math.log(groups));
}

/**
 * The bound on E[max_g L_g(θ̄)] − min max: 2√(10 ρ (B_Θ²B_∇² + K B_l² ln K) / T) (Proposition 4.1). With ρ = K it is the bound
 * for Algorithm 3 that the moments in the proof of Proposition E.2 give; the paper states it without its factors K.
 *
 * @param moments B_Θ² M_θ² + M_α² ln K of other estimates; default that of one pair a step
 */
export function errorBound(constants: Constants, steps: number, moments = moment(constants)): number {
  return 2 * Math.sqrt((10 * moments) / steps);
}

export interface StepSizes {
  theta: number;
  alpha: number;
}

/**
 * The constant steps for a run of T steps under which the bound holds, from the theorem that the paper's proof cites
 * (Nemirovski, Juditsky, Lan and Shapiro 2009): M² = 2(B_Θ²M_θ² + M_α² ln K), γ = 2/(M√(5T)), η_θ = 2B_Θ²γ, η_α = 2γ ln K.
 * They multiply the unbiased estimates, importance factor 1/p_g included.
 *
 * @param moments as of {@link errorBound}
 */
export function stepSizes(constants: Constants, steps: number, moments = moment(constants)): StepSizes {
  const gamma = 2 / Math.sqrt(2 * moments * 5 * steps);
  return { theta: 2 * constants.B_theta ** 2 * gamma, alpha: 2 * Math.log(constants.groups) * gamma };
}
