import { largest } from '../numbers/extremes.js';
import type { Adversary } from '../objective/adversary.js';
import type { MarginLoss, Ramp } from '../objective/losses.js';
import { dot, groupLosses, type SmoothLoss } from '../policy/group-losses.js';
import type { LogLinearProblem } from '../policy/log-linear-problem.js';
import { mixtureModel } from './inner-minimum.js';
import { newtonSteps } from './newton.js';
import { nextLogits, smoothRamp } from './ramp.js';

/** A guess at a saddle point. */
export interface SaddlePoint {
  /** [d] */
  theta: Float64Array;
  /** [K] log α, a point of the adversary's set. */
  logAlpha: Float64Array;
  /** Of a ramp, per group [N_g] the log-odds of the pairs' weights. */
  logits: readonly Float64Array[];
}

/** A loss whose minimax value can be proven: a smooth one, or on a ball a ramp. */
export type SolvableLoss =
  | SmoothLoss
  | (Omit<MarginLoss, 'curvature' | 'ramp'> & { readonly ramp: Ramp; readonly curvature?: undefined });

/** [K] L_g(θ) + C_g/√N_g. */
export function adjustedLosses(
  problem: LogLinearProblem,
  loss: Pick<MarginLoss, 'value'>,
  { adjustments }: Adversary,
  theta: Float64Array,
): Float64Array {
  return groupLosses(problem, loss, theta).map((value, g) => value + adjustments[g]);
}

/**
 * The saddle point of Σ_g w_g (L_g(θ) + C_g/√N_g), w = (1−χ) μ + χ α, by proximal points in α (the exponential method of multipliers,
 * Tseng and Bertsekas 1993): from α' it goes to the saddle point of
 *
 *   Σ_g w_g (L_g(θ) + C_g/√N_g) − τ KL(α‖α').
 *
 * For given θ the best α there is the set's own projection of α'_g exp(χ (L_g + C_g/√N_g)/τ), whatever the set; its value is a smooth convex
 * function of θ with gradient Σ_g w_g ∇L_g, which Newton's steps minimise. θ is then the best answer to α, and α is as good as τ KL(α*‖α').
 * So τ falls tenfold each time, and convergence is faster than geometric wherever the solution does not sit on the edge of another one.
 * The pairs of a ramp have weights that go from point to point likewise ({@link smoothRamp}). Once α is exact, rounding of the losses moves it by eps L/τ, more each time: the caller judges the points, and says when to end.
 */
export function* proximalPoints(
  problem: LogLinearProblem,
  loss: SolvableLoss,
  adversary: Adversary,
  radius: number | undefined,
): Generator<SaddlePoint> {
  const { set, chi, adjustments } = adversary;
  let theta: Float64Array = new Float64Array(problem.dimension);
  let logAlpha = set.logStart;
  let logits: readonly Float64Array[] = problem.groups.map(({ count }) => new Float64Array(count));
  for (let share = 1; share > 1e-11; share /= 10) {
    const size = largest(adjustedLosses(problem, loss, adversary, theta).map(Math.abs));
    const temperature = share * (size || 1);
    const before = logAlpha;
    const smooth = loss.curvature
      ? { problem, loss, constants: new Float64Array(adjustments.length) }
      : smoothRamp(problem, loss.ramp, logits, temperature);
    const adjusted = (losses: Float64Array) => losses.map((value, g) => value + smooth.constants[g] + adjustments[g]);
    // From the largest loss down, so that those near it keep their digits.
    const exponents = (losses: Float64Array) => {
      const most = largest(losses);
      return before.map((log, g) => log + (chi * (losses[g] - most)) / temperature);
    };
    const proximal = (losses: Float64Array) => {
      const most = largest(losses);
      const log = set.project(exponents(losses));
      const alpha = log.map(Math.exp);
      const divergence = alpha.reduce((sum, weight, g) => sum + weight * (log[g] - before[g]), 0);
      const below = losses.map((value) => value - most);
      return most + dot(adversary.weights(alpha), below) - temperature * divergence;
    };
    const modelAt = (at: Float64Array) => {
      let value = 0;
      const model = mixtureModel(smooth.problem, smooth.loss, at, (plain) => {
        const losses = adjusted(plain);
        const from = exponents(losses);
        value = proximal(losses);
        return {
          weights: adversary.weights(set.project(from.slice()).map(Math.exp)),
          response: sensitivity((logWeights) => set.project(logWeights).map(Math.exp), from, chi ** 2 / temperature),
        };
      });
      return { ...model, value };
    };
    let least = Number.POSITIVE_INFINITY;
    const valueAt = (at: Float64Array) => proximal(adjusted(groupLosses(smooth.problem, smooth.loss, at)));
    const visit = (at: Float64Array, _: unknown, fall: number) => {
      theta = at;
      const improved = fall < least / 2;
      least = Math.min(least, fall);
      return improved;
    };
    newtonSteps(theta, radius, valueAt, modelAt, visit, 1e-14);
    logAlpha = set.project(exponents(adjusted(groupLosses(smooth.problem, smooth.loss, theta))));
    if (!loss.curvature) logits = nextLogits(problem, loss.ramp, logits, temperature, theta);
    yield { theta, logAlpha, logits };
  }
}

/** factor · dα/dz, by central differences: of use to the speed of Newton's steps, not to what is proven of the result. */
function sensitivity(alphaAt: (z: Float64Array) => Float64Array, z: Float64Array, factor: number): number[][] {
  const e = 1e-5;
  const columns = Array.from(z, (value, g) => {
    const up = alphaAt(z.with(g, value + e));
    const down = alphaAt(z.with(g, value - e));
    return up.map((weight, h) => (factor * (weight - down[h])) / (2 * e));
  });
  return columns.map((column, g) => Array.from(column, (value, h) => (value + columns[h][g]) / 2));
}
