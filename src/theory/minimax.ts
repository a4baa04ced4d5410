import { GroupRobustError, InputError, type InputLocation, present } from '../errors.js';
import { Adversary, type AdversarySettings } from '../objective/adversary.js';
import { lossWith, type MarginLoss } from '../objective/losses.js';
import { dot, type SmoothLoss } from '../policy/group-losses.js';
import type { LogLinearProblem } from '../policy/log-linear-problem.js';
import { innerMinimum } from './inner-minimum.js';
import { adjustedLosses, proximalPoints, type SaddlePoint, type SolvableLoss } from './proximal-point.js';
import { rampMinimum } from './ramp.js';
import { findSeparation, type Separation } from './separability.js';

/**
 * The saddle point of min_θ max_α Σ_g w_g (L_g(θ) + C_g/√N_g) over the α that the {@link AdversarySettings} allow, with w = (1−χ) μ + χ α, and
 * two numbers that prove it. By default it is min_θ max_g L_g(θ).
 */
export interface Minimax {
  /** v, between `lower` and `upper`: their middle. */
  value: number;
  /** [d] primal point. */
  theta: Float64Array;
  /** [K] dual point, in the set. */
  alpha: Float64Array;
  /** min over θ of that sum with this α, less the proven error of that minimum: at most v. */
  lower: number;
  /** max over α of that sum at this θ: at least v. */
  upper: number;
}

/** Widest bracket `upper − lower` that is accepted. */
const bracketTolerance = 1e-10;

/** What to do about a bracket that rounding spoils. */
const lessRounding = 'rescale the differences, or bound θ by a smaller radius';

/** Above values of 10⁴ double precision sets the width: forty roundings of the value. */
const roundingShare = 1e-14;

/**
 * The exact minimax value of the loss over ‖θ‖ ≤ radius (absent: R^d), for any number of groups (paper Prop. 3.1), against the worst group or
 * whatever else θ is to be robust against.
 *
 * {@link proximalPoints} finds θ and α; the bracket is then computed from these two alone, so an error of the solver shows as a wide bracket,
 * never as a wrong number.
 *
 * @param against what α may be, and what it adds to: the keys of a configuration's objective. Default: the simplex
 * @param source where the problem came from, for error messages
 * @throws InputError for a loss that has neither a second derivative nor is a ramp, for a ramp on R^d, for a vanishing one on R^d when the infimum is not attained (separable
 * pairs) or the loss has no lower bound, for a radius that is not positive, for no groups or one without pairs, or for what {@link Adversary} refuses.
 * @throws GroupRobustError `MINIMAX_BRACKET` when the bracket stays wider than {@link bracketTolerance}, is not finite, or contradicts itself.
 * @example Two groups of one pair each, whose margins are θ and 2θ.
 * ```ts
 * import { marginLoss, minimax } from 'group-robust-po';
 *
 * const groups = [1, 2].map((d) => ({ count: 1, differences: Float64Array.of(d) }));
 * const { value, theta, alpha } = minimax({ dimension: 1, groups }, marginLoss({ loss: 'ipo', beta: 0.5 }));
 * value; // → 1 / 9
 * theta[0]; // → 2 / 3
 * alpha[0]; // → 2 / 3
 * const half = { set: 'cvar', level: 1, shares: 'uniform' } as const;
 * minimax({ dimension: 1, groups }, marginLoss({ loss: 'ipo', beta: 0.5 }), undefined, { ambiguity: half }).value; // → 0.1
 * ```
 */
export function minimax(
  problem: LogLinearProblem,
  given: MarginLoss,
  radius?: number,
  against: AdversarySettings = {},
  source: InputLocation = {},
): Minimax {
  const { ramp } = given;
  const loss: SolvableLoss = ramp
    ? { ...given, ramp, curvature: undefined }
    : lossWith(['convexity', 'curvature'], given, 'the exact minimax value', { ...source, field: 'loss' });
  if (radius !== undefined && !(radius > 0 && Number.isFinite(radius)))
    throw new InputError(`radius must be a positive number, not ${radius}`, { at: { ...source, field: 'radius' } });
  const sizes = problem.groups.map(({ count }) => count);
  if (sizes.length === 0 || sizes.some((size) => !(size >= 1)))
    throw new InputError(
      sizes.length === 0 ? 'there is no group' : `every group needs at least one pair; sizes are [${sizes.join(', ')}]`,
      { at: { ...source, field: 'groups' } },
    );
  const adversary = new Adversary(against, sizes);
  if (radius !== undefined) return solve(problem, loss, adversary, radius);
  if (!loss.curvature)
    throw new InputError(
      `the least value of the loss ${loss.title} can be proven on a ball only: its bound is linear in θ`,
      {
        at: { ...source, field: 'radius' },
        fix: 'bound θ by a radius',
      },
    );
  if (!loss.bounded)
    throw new InputError(`the loss ${loss.title} falls without limit, so on all of R^d it may have no least value`, {
      at: { ...source, field: 'radius' },
      fix: 'bound θ by a radius',
      code: 'NOT_ATTAINED',
    });
  // On R^d the unit of each coordinate of θ is arbitrary. Powers of two change no digit.
  const units = columnUnits(problem);
  const scaled = withColumns(problem, (value, j) => value / units[j]);
  const solution = solveUnbounded(scaled, loss, adversary, units, source);
  return { ...solution, theta: solution.theta.map((value, j) => value / units[j]) };
}

/** A lower bound on min Σ_g α_g L_g(θ) over the ball, as near as its solver gets. */
export function leastMixture(problem: LogLinearProblem, loss: MarginLoss, alpha: Float64Array, radius: number): number {
  if (!loss.ramp) return innerMinimum(problem, loss, alpha, radius).lower;
  // A mixture has only positive shares; a group without weight adds nothing.
  const groups = problem.groups.filter((_, g) => alpha[g] > 0);
  const mixture = Array.from(alpha).filter((weight) => weight > 0);
  return minimax({ ...problem, groups }, loss, radius, { chi: 0, mixture }).lower;
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
  adversary: Adversary,
  units: Float64Array,
  source: InputLocation,
): Minimax {
  const separation = loss.vanishing ? findSeparation(problem) : undefined;
  return separation === undefined
    ? solve(problem, loss, adversary, undefined)
    : solveSeparated(problem, loss, adversary, separation, units, source);
}

/** The worst α for these losses, the weights it gives the groups, and what they make of the losses. */
function worstCase(adversary: Adversary, losses: Float64Array): { weights: Float64Array; value: number } {
  const weights = adversary.weights(adversary.set.respond(losses));
  return { weights, value: dot(weights, losses) };
}

/** The narrowest bracket that a point of the solver proves; or where none is narrow enough, all of them together. */
function solve(
  problem: LogLinearProblem,
  loss: SolvableLoss,
  adversary: Adversary,
  radius: number | undefined,
): Minimax {
  let best: Minimax | undefined;
  let together: Minimax | undefined;
  for (const point of proximalPoints(problem, loss, adversary, radius)) {
    const found = certify(problem, loss, adversary, radius, point);
    together = narrowest(together ?? found, found);
    if (best === undefined || width(found) < width(best)) best = found;
    // Then only rounding is left, which grows from here on.
    else if (isNarrow(best)) break;
    if (width(best) <= roundingShare * Math.abs(best.upper)) break;
  }
  return accepted(best && isNarrow(best) ? best : present(together));
}

/** Every θ has an upper bound of its own, every α a lower one. */
function narrowest(a: Minimax, b: Minimax): Minimax {
  const { theta, upper } = a.upper <= b.upper ? a : b;
  const { alpha, lower } = a.lower >= b.lower ? a : b;
  return bracket(theta, alpha, lower, upper);
}

/**
 * By rounding the lower bound may lie above the upper one: then they change places.
 * @throws GroupRobustError where it lies further above than rounding explains
 */
function bracket(theta: Float64Array, alpha: Float64Array, lower: number, upper: number): Minimax {
  if (lower - upper > toleranceOf(upper))
    throw new GroupRobustError(
      'MINIMAX_BRACKET',
      `the bounds of the minimax value contradict each other by more than rounding allows: it should be at least ${lower} and at most ` +
        `${upper}; ${lessRounding}`,
    );
  const [low, high] = lower > upper ? [upper, lower] : [lower, upper];
  return { value: (low + high) / 2, theta, alpha, lower: low, upper: high };
}

function width({ lower, upper }: Minimax): number {
  return upper - lower;
}

function isNarrow(found: Minimax): boolean {
  return width(found) <= toleranceOf(found.upper);
}

function toleranceOf(upper: number): number {
  return Math.max(bracketTolerance, roundingShare * Math.abs(upper));
}

/** As good as no weight: its logarithm has room for what projections add. */
const nothing = -1e300;

/** The bracket that a point proves. */
function certify(
  problem: LogLinearProblem,
  loss: SolvableLoss,
  adversary: Adversary,
  radius: number | undefined,
  { theta, logAlpha, logits }: SaddlePoint,
): Minimax {
  const losses = adjustedLosses(problem, loss, adversary, theta);
  const { value: upper } = worstCase(adversary, losses);
  let best: Minimax | undefined;
  // Every α of the set proves its own lower bound. What the solver leaves as a small weight may be rounding, and on R^d the loss may have
  // no minimum with it, so try without: the first α that proves enough is taken.
  for (const floor of [1e-14, 0, 1e-9, 1e-7, 1e-5, 1e-3]) {
    const alpha = adversary.set.project(logAlpha.map((log) => (Math.exp(log) < floor ? nothing : log))).map(Math.exp);
    const weights = adversary.weights(alpha);
    const least = loss.curvature
      ? innerMinimum(problem, loss, weights, radius, theta).lower
      : rampMinimum(problem, loss.ramp, weights, logits, radius ?? Number.POSITIVE_INFINITY);
    const found = bracket(theta, alpha, least + dot(weights, adversary.adjustments), upper);
    if (best === undefined || found.lower > best.lower) best = found;
    // No α proves more than its mixture has at θ.
    if (isNarrow(best) || upper - dot(weights, losses) > toleranceOf(upper)) break;
  }
  return present(best);
}

/** @throws GroupRobustError where the bracket is too wide */
function accepted(found: Minimax): Minimax {
  const { lower, upper } = found;
  if (!Number.isFinite(lower) || !Number.isFinite(upper))
    throw new GroupRobustError(
      'MINIMAX_BRACKET',
      `the minimax value has no finite bounds, only [${lower}, ${upper}]: a loss or the radius is too large or too small for double ` +
        'precision, or no minimum was found; change beta or the scale of the differences, or bound θ by another radius',
    );
  if (!isNarrow(found))
    throw new GroupRobustError(
      'MINIMAX_BRACKET',
      `the minimax value is only known to lie in [${lower}, ${upper}], wider than ${bracketTolerance} and rounding allow; ${lessRounding}`,
    );
  return found;
}

/**
 * A vanishing loss on R^d with separable pairs. Their losses can all be sent to zero at no cost to the others, so the infimum is the minimax
 * value of the other pairs. It is attained only where no worst case gives the groups that own separated pairs any weight.
 */
function solveSeparated(
  problem: LogLinearProblem,
  loss: SmoothLoss,
  adversary: Adversary,
  { direction, separated }: Separation,
  units: Float64Array,
  source: InputLocation,
): Minimax {
  const touched = separated.map((pairs) => pairs.includes(1));
  const limit = withoutLossOf(problem, separated, loss.beta);
  const { theta: limitTheta, alpha, upper: infimum } = solve(limit, loss, adversary, undefined);
  const raised = adjustedLosses(limit, loss, adversary, limitTheta).map(
    (value, g) => value + (touched[g] ? bracketTolerance : 0),
  );
  if (!worstCase(adversary, raised).weights.some((weight, g) => touched[g] && weight > 0)) {
    let theta = limitTheta;
    const valueAt = (at: Float64Array) => worstCase(adversary, adjustedLosses(problem, loss, adversary, at)).value;
    for (let reach = 1; valueAt(theta) > infimum && reach < 1e9; reach *= 2)
      theta = limitTheta.map((value, j) => value + reach * direction[j]);
    // Weight on these groups is the solver's rounding; with it there would be no minimum.
    const logAlpha = alpha.map((weight, g) => (touched[g] || weight === 0 ? nothing : Math.log(weight)));
    return accepted(
      certify(problem, loss, adversary, undefined, { theta, logAlpha: adversary.set.project(logAlpha), logits: [] }),
    );
  }
  const pairs = separated.reduce((sum, group) => sum + group.filter((flag) => flag === 1).length, 0);
  throw new InputError(
    `the infimum ${infimum.toPrecision(6)} of the worst case's loss (${loss.title}) is not attained: the data are separable, and along ` +
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
