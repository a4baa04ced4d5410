import type { LossWith, MarginLoss } from '../objective/losses.js';
import type { LogLinearProblem } from './log-linear-problem.js';

/** The mean loss L_g of one group as a function of θ, with its first and second derivatives. */
export interface GroupDerivatives {
  loss: number;
  /** [d] ∇L_g. */
  gradient: Float64Array;
  /** d rows of d: ∇²L_g, symmetric to the bit. */
  hessian: number[][];
}

/** L_g(θ) = mean over the pairs of the group of l(⟨d_i, θ⟩ − o_i), for every group (paper Eq. 6–8). */
export function groupLosses(
  problem: LogLinearProblem,
  loss: Pick<MarginLoss, 'value'>,
  theta: ArrayLike<number>,
): Float64Array {
  return Float64Array.from(problem.groups, (group) => {
    let sum = 0;
    for (let i = 0; i < group.count; i++) sum += loss.value(margin(group, i, theta));
    return sum / group.count;
  });
}

/** What Newton steps, and the bounds that go with them, take of a loss. */
export type SmoothLoss = LossWith<'convexity' | 'curvature'>;

/** What Newton steps themselves take of it. */
export type CurvedLoss = Pick<SmoothLoss, 'value' | 'derivative' | 'curvature'>;

/** L_g(θ), ∇L_g(θ) and ∇²L_g(θ) of every group (paper Eq. 6–8; ∇l = l'(h) d for a log-linear policy). */
export function groupDerivatives(
  problem: LogLinearProblem,
  loss: CurvedLoss,
  theta: ArrayLike<number>,
): GroupDerivatives[] {
  const d = problem.dimension;
  return problem.groups.map((group) => {
    const gradient = new Float64Array(d);
    const hessian = Array.from({ length: d }, () => new Array<number>(d).fill(0));
    let sum = 0;
    for (let i = 0; i < group.count; i++) {
      const row = group.differences.subarray(i * d, (i + 1) * d);
      const h = margin(group, i, theta);
      const slope = loss.derivative(h);
      const curvature = loss.curvature.second(h);
      sum += loss.value(h);
      for (let j = 0; j < d; j++) {
        gradient[j] += (slope * row[j]) / group.count;
        for (let k = 0; k <= j; k++) hessian[j][k] += (curvature * row[j] * row[k]) / group.count;
      }
    }
    for (let j = 0; j < d; j++) for (let k = 0; k < j; k++) hessian[k][j] = hessian[j][k];
    return { loss: sum / group.count, gradient, hessian };
  });
}

/**
 * uᵀ(Σ_g α_g ∇²L_g(θ))u straight from the pairs, where the matrix itself may have lost it to rounding, and
 * max_i |⟨d_i, u⟩|, which is 0 where u changes no margin.
 */
export function curvatureAlong(
  problem: LogLinearProblem,
  loss: CurvedLoss,
  alpha: ArrayLike<number>,
  theta: ArrayLike<number>,
  u: ArrayLike<number>,
): { curvature: number; reach: number } {
  let curvature = 0;
  let reach = 0;
  for (const [g, group] of problem.groups.entries()) {
    if (alpha[g] === 0) continue;
    for (let i = 0; i < group.count; i++) {
      const along = dot(u, group.differences.subarray(i * u.length, (i + 1) * u.length));
      reach = Math.max(reach, Math.abs(along));
      const second = loss.curvature.second(margin(group, i, theta));
      curvature += (alpha[g] * second * along ** 2) / group.count;
    }
  }
  return { curvature, reach };
}

/** ⟨d_i, θ⟩ − o_i. */
export function margin(group: LogLinearProblem['groups'][number], i: number, theta: ArrayLike<number>): number {
  const d = theta.length;
  let h = group.offsets === undefined ? 0 : -group.offsets[i];
  for (let j = 0; j < d; j++) h += group.differences[i * d + j] * theta[j];
  return h;
}

/** The larger of the group losses, max_g L_g. */
export function worst(losses: ArrayLike<number>): number {
  return Math.max(...Array.from(losses));
}

export function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

/** Euclidean norm. */
export function norm(a: ArrayLike<number>): number {
  return Math.sqrt(dot(a, a));
}
