import { GroupRobustError, InputError, type InputLocation } from '../errors.js';
import { lossWith, type MarginLoss } from '../objective/losses.js';
import { dot, groupDerivatives, groupLosses, type SmoothLoss, worst } from '../policy/group-losses.js';
import type { LogLinearProblem } from '../policy/log-linear-problem.js';
import { largestDifference } from './constants.js';
import { innerMinimum } from './inner-minimum.js';
import { solveLinear } from './linear-system.js';
import { findSeparation, type Separation } from './separability.js';

/** The saddle point of min_θ max_α Σ_g α_g L_g(θ), with two numbers that prove it. */
export interface Minimax {
  /** v, between `lower` and `upper`: their middle. */
  value: number;
  /** [d] primal point. */
  theta: Float64Array;
  /** [K] dual weights on the simplex. */
  alpha: Float64Array;
  /** q(α) = min_θ Σ_g α_g L_g(θ) ≤ v, less the proven error of that minimum. */
  lower: number;
  /** max_g L_g(θ) ≥ v. */
  upper: number;
}

/** Widest bracket `upper − lower` that is accepted. */
const bracketTolerance = 1e-10;

/** Above values of 10⁴ double precision sets the width: forty roundings of the value. */
const roundingShare = 1e-14;

/**
 * The exact minimax value of the loss over ‖θ‖ ≤ radius (absent: R^d), for any number of groups (paper Prop. 3.1).
 *
 * A primal–dual interior-point method on `min t : L_g(θ) ≤ t, ‖θ‖ ≤ radius` gives θ and α; the bracket is then computed from
 * these two alone, so an error of the solver shows as a wide bracket, never as a wrong number.
 *
 * @param source where the problem came from, for error messages
 * @throws InputError for a loss without a second derivative, for a vanishing one on R^d when the infimum is not attained (separable
 * pairs) or the loss has no lower bound, or for a radius that is not positive.
 * @throws GroupRobustError `MINIMAX_BRACKET` when the bracket stays wider than {@link bracketTolerance}.
 * @example Two groups of one pair each, whose margins are θ and 2θ.
 * ```ts
 * import { marginLoss, minimax } from 'group-robust-po';
 *
 * const groups = [1, 2].map((d) => ({ count: 1, differences: Float64Array.of(d) }));
 * const { value, theta, alpha } = minimax({ dimension: 1, groups }, marginLoss({ loss: 'ipo', beta: 0.5 }));
 * value; // → 1 / 9
 * theta[0]; // → 2 / 3
 * alpha[0]; // → 2 / 3
 * ```
 */
export function minimax(
  problem: LogLinearProblem,
  given: MarginLoss,
  radius?: number,
  source: InputLocation = {},
): Minimax {
  const loss = lossWith(['convexity', 'curvature'], given, 'the exact minimax value', { ...source, field: 'loss' });
  if (radius !== undefined && !(radius > 0 && Number.isFinite(radius)))
    throw new InputError(`radius must be a positive number, not ${radius}`, { at: { ...source, field: 'radius' } });
  if (radius !== undefined) return certify(problem, loss, radius, interiorPoint(problem, loss, radius));
  if (!loss.bounded)
    throw new InputError(`the loss ${loss.title} falls without limit, so on all of R^d it may have no least value`, {
      at: { ...source, field: 'radius' },
      fix: 'bound θ by a radius',
      code: 'NOT_ATTAINED',
    });
  // On R^d the unit of each coordinate of θ is arbitrary. Powers of two change no digit.
  const units = columnUnits(problem);
  const scaled = withColumns(problem, (value, j) => value / units[j]);
  const solution = solveUnbounded(scaled, loss, units, source);
  return { ...solution, theta: solution.theta.map((value, j) => value / units[j]) };
}

/** Per coordinate the power of two next to its largest difference; 1 where it has none. */
function columnUnits({ dimension, groups }: LogLinearProblem): Float64Array {
  const largest = new Float64Array(dimension);
  for (const { differences } of groups)
    for (const [n, value] of differences.entries())
      largest[n % dimension] = Math.max(largest[n % dimension], Math.abs(value));
  return largest.map((value) => (value === 0 ? 1 : 2 ** Math.round(Math.log2(value))));
}

function withColumns(problem: LogLinearProblem, change: (value: number, j: number) => number): LogLinearProblem {
  return {
    ...problem,
    groups: problem.groups.map((group) => ({
      ...group,
      differences: group.differences.map((value, n) => change(value, n % problem.dimension)),
    })),
  };
}

function solveUnbounded(
  problem: LogLinearProblem,
  loss: SmoothLoss,
  units: Float64Array,
  source: InputLocation,
): Minimax {
  const separation = loss.vanishing ? findSeparation(problem) : undefined;
  return separation === undefined
    ? certify(problem, loss, undefined, interiorPoint(problem, loss, undefined))
    : solveSeparated(problem, loss, separation, units, source);
}

interface SaddlePoint {
  theta: Float64Array;
  alpha: Float64Array;
}

function certify(
  problem: LogLinearProblem,
  loss: SmoothLoss,
  radius: number | undefined,
  { theta, alpha: found }: SaddlePoint,
): Minimax {
  const losses = groupLosses(problem, loss, theta);
  const upper = worst(losses);
  // Every α proves its own q(α). What the solver leaves on a group clearly below the worst, or as a small weight, may be
  // rounding, and on R^d the loss may have no minimum with it, so try without: the first α that proves enough is taken.
  const clearlyBelow = found.map((weight, g) => (upper - losses[g] > 1e-6 * Math.max(1, upper) ? 0 : weight));
  const candidates = [
    clearlyBelow,
    found,
    ...[1e-9, 1e-7, 1e-5, 1e-3].map((least) => found.map((w) => (w < least ? 0 : w))),
  ];
  const tolerance = Math.max(bracketTolerance, roundingShare * upper);
  let alpha = found;
  let lower = Number.NEGATIVE_INFINITY;
  for (const candidate of candidates) {
    const weights = normalised(candidate);
    const proven = Math.min(upper, innerMinimum(problem, loss, weights, radius, theta).lower);
    if (proven > lower) [alpha, lower] = [weights, proven];
    if (upper - lower <= tolerance) break;
  }
  if (!(upper - lower <= tolerance))
    throw new GroupRobustError(
      'MINIMAX_BRACKET',
      `the minimax value is only known to lie in [${lower}, ${upper}], wider than ${bracketTolerance} and rounding allow; ` +
        'rescale the differences, or bound θ by a smaller radius',
    );
  return { value: (lower + upper) / 2, theta, alpha, lower, upper };
}

/**
 * A vanishing loss on R^d with separable pairs. Their losses can all be sent to zero at no cost to the others, so the infimum is the minimax
 * value of the other pairs. It is attained only where the groups that own separated pairs are not among the worst.
 */
function solveSeparated(
  problem: LogLinearProblem,
  loss: SmoothLoss,
  { direction, separated }: Separation,
  units: Float64Array,
  source: InputLocation,
): Minimax {
  const touched = separated.map((pairs) => pairs.includes(1));
  const limit = withoutLossOf(problem, separated, loss.beta);
  const solution = interiorPoint(limit, loss, undefined);
  const limitLosses = groupLosses(limit, loss, solution.theta);
  const infimum = worst(limitLosses);
  const worstTouched = (losses: Float64Array) => worst(losses.filter((_, g) => touched[g]));
  if (worstTouched(limitLosses) < infimum - bracketTolerance) {
    let theta: Float64Array = solution.theta;
    for (let reach = 1; worstTouched(groupLosses(problem, loss, theta)) > infimum && reach < 1e9; reach *= 2)
      theta = solution.theta.map((value, j) => value + reach * direction[j]);
    // Weight on an inactive group is the solver's rounding; q(α) would have no minimum with it.
    const alpha = solution.alpha.map((weight, g) => (touched[g] ? 0 : weight));
    return certify(problem, loss, undefined, { theta, alpha: normalised(alpha) });
  }
  const pairs = separated.reduce((sum, group) => sum + group.filter((flag) => flag === 1).length, 0);
  throw new InputError(
    `the infimum ${infimum.toPrecision(6)} of the worst group's loss (${loss.title}) is not attained: the data are separable, and along ` +
      `(${Array.from(direction, (value, j) => (value / units[j]).toPrecision(4)).join(', ')}) the loss of ${pairs} pairs falls for ever ` +
      'while no other grows',
    {
      at: { ...source, field: 'radius' },
      fix: 'bound θ by a radius, or use the ipo loss or label smoothing, which do not fall for ever',
      code: 'NOT_ATTAINED',
    },
  );
}

/** The same groups and counts, with the loss of the flagged pairs gone: no difference, and a margin beyond all doubt. */
function withoutLossOf(problem: LogLinearProblem, flags: Uint8Array[], beta: number): LogLinearProblem {
  const d = problem.dimension;
  return {
    dimension: d,
    groups: problem.groups.map((group, g) => ({
      count: group.count,
      differences: group.differences.map((value, n) => (flags[g][Math.floor(n / d)] === 1 ? 0 : value)),
      offsets: Float64Array.from(flags[g], (flag, i) => (flag === 1 ? -1e4 / beta : (group.offsets?.[i] ?? 0))),
    })),
  };
}

function normalised(weights: Float64Array): Float64Array {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => weight / total);
}

/**
 * Primal–dual interior-point method on
 *
 *   minimise t  subject to  L_g(θ) − t ≤ 0 for each g,  (‖θ‖²/radius² − 1) / 2 ≤ 0.
 *
 * The multipliers of the first K constraints are α: stationarity in t makes them sum to one, and stationarity in θ reads
 * Σ_g α_g ∇L_g = −ν θ/radius², ν the multiplier of the ball. Each Newton step on the conditions perturbed by μ descends on the
 * barrier function t − μ Σ log(slack), which is the line search's measure (Wächter and Biegler 2006, without equality
 * constraints). Ends when nothing moves any more; the caller judges the result.
 */
function interiorPoint(given: LogLinearProblem, loss: SmoothLoss, givenRadius: number | undefined): SaddlePoint {
  // In units in which the margins that matter, of size 1/β, belong to a θ of size 1, and with losses in units of the loss
  // at the start, so that one tolerance fits all.
  const scale = 1 / (loss.beta * (largestDifference(given) || 1));
  const problem = {
    ...given,
    groups: given.groups.map((group) => ({ ...group, differences: group.differences.map((value) => value * scale) })),
  };
  const radius = givenRadius === undefined ? undefined : givenRadius / scale;
  const d = problem.dimension;
  const K = problem.groups.length;
  const unit = worst(groupLosses(problem, loss, new Float64Array(d))) || 1;

  const slacksAt = (theta: Float64Array, t: number): number[] => {
    const slacks = Array.from(groupLosses(problem, loss, theta), (value) => t - value / unit);
    return radius === undefined ? slacks : [...slacks, (1 - dot(theta, theta) / radius ** 2) / 2];
  };

  let theta = new Float64Array(d);
  let t = 2;
  let slacks = slacksAt(theta, t);
  let multipliers = slacks.map((slack) => 1 / slack);
  let mu = 1;
  for (let iteration = 0; iteration < 500; iteration++) {
    const groups = groupDerivatives(problem, loss, theta);
    const gradients = groups.map((group) => group.gradient.map((value) => value / unit));
    if (radius !== undefined) gradients.push(theta.map((value) => value / radius ** 2));

    // Residuals of stationarity in θ (d), in t (1), and of complementarity (one per constraint).
    const stationarity = Array.from(theta, (_, j) =>
      gradients.reduce((sum, gradient, c) => sum + multipliers[c] * gradient[j], 0),
    );
    stationarity.push(1 - multipliers.slice(0, K).reduce((sum, weight) => sum + weight, 0));
    const size = d + 1 + slacks.length;
    const matrix = Array.from({ length: size }, () => new Array<number>(size).fill(0));
    for (let j = 0; j < d; j++) {
      for (let k = 0; k < d; k++)
        for (let g = 0; g < K; g++) matrix[j][k] += (multipliers[g] * groups[g].hessian[j][k]) / unit;
      if (radius !== undefined) matrix[j][j] += multipliers[K] / radius ** 2;
    }
    // Keeps directions that no pair sees, in which θ need not move, from making the system singular.
    const trace = matrix.reduce((sum, row, j) => sum + (j < d ? row[j] : 0), 0);
    for (let j = 0; j < d; j++) matrix[j][j] += 1e-13 * trace;
    for (const [c, gradient] of gradients.entries()) {
      const row = d + 1 + c;
      for (let j = 0; j < d; j++) {
        matrix[j][row] = gradient[j];
        matrix[row][j] = -multipliers[c] * gradient[j];
      }
      if (c < K) {
        matrix[d][row] = -1;
        matrix[row][d] = multipliers[c];
      }
      matrix[row][row] = slacks[c];
    }
    const central = slacks.map((slack, c) => multipliers[c] * slack - mu);
    const step = solveLinear(
      matrix,
      [...stationarity, ...central].map((value) => -value),
    );
    if (step === undefined) break;

    const barrier = (height: number, at: number[]) => height - mu * at.reduce((sum, slack) => sum + Math.log(slack), 0);
    const now = barrier(t, slacks);
    // d barrier / d step, from the change of each slack: Δt − ⟨∇L_g, Δθ⟩, without Δt for the ball.
    const slope = gradients.reduce((sum, gradient, c) => {
      const change = (c < K ? step[d] : 0) - dot(gradient, step.slice(0, d));
      return sum - (mu * change) / slacks[c];
    }, step[d]);
    // λ² of the barrier problem in units of μ: only near its minimum may μ shrink, or curved constraints cut the steps short.
    const decrement = -slope / mu;
    const accepts = (length: number) => {
      const nextTheta = theta.map((value, j) => value + length * step[j]);
      const nextT = t + length * step[d];
      const next = slacksAt(nextTheta, nextT);
      if (next.some((slack, c) => !(slack > 0.005 * slacks[c]))) return false;
      // One rounding of slack: the last steps change the multipliers more than the barrier.
      if (barrier(nextT, next) > now + 1e-4 * length * slope + 1e-15 * Math.abs(now)) return false;
      theta = nextTheta;
      t = nextT;
      slacks = next;
      return true;
    };
    let length = 1;
    while (length > 1e-12 && !accepts(length)) length /= 2;
    if (length <= 1e-12) break;
    let dualLength = 1;
    for (const [c, value] of multipliers.entries())
      if (step[d + 1 + c] < 0) dualLength = Math.min(dualLength, (0.995 * -value) / step[d + 1 + c]);
    // Multipliers far from μ/slack would spoil the next step's direction.
    multipliers = multipliers.map((value, c) => {
      const centre = mu / slacks[c];
      return Math.min(Math.max(value + dualLength * step[d + 1 + c], centre / 1e8), centre * 1e8);
    });
    if (decrement < 0.1 && dualLength === 1) {
      if (mu === smallestMu) break;
      mu = Math.max(smallestMu, mu / 10);
    }
  }
  return {
    theta: theta.map((value) => value * scale),
    alpha: normalised(Float64Array.from(multipliers.slice(0, K))),
  };
}

/** The last perturbation: the bracket it leaves is about one such for each constraint. */
const smallestMu = 1e-15;
