import { InputError } from '../errors.js';
import { emptyStep, robustStep } from '../objective/aggregate.js';
import { checkPositive } from '../objective/checks.js';
import { type GroupWeights, groupWeights } from '../objective/group-weights.js';
import { marginLoss } from '../objective/losses.js';
import { projectOnBall } from '../policy/log-linear.js';
import type { LogLinearProblem } from '../policy/log-linear-problem.js';
import { AdaptiveSteps, checkAdaptive } from './adaptive-steps.js';
import { FullBatch } from './full-batch.js';
import type { MethodSettings } from './methods.js';
import { checkBatch, MiniBatch } from './mini-batch.js';
import { WeightedRegression } from './weighted-regression.js';

/** Where a run stands after `iteration` updates; the arrays are live, copy what is kept. */
export interface TrainingState {
  iteration: number;
  /** The last iterate, or with `average` the mean of all after θ⁰. */
  theta: Float64Array;
  /** α of the robust methods, the fixed θ-weights of the others. */
  alpha: Float64Array;
  /** The θ-weights that α gives: other numbers where χ < 1. */
  weights: Float64Array;
}

/**
 * Trains θ on all pairs of `problem` at once, or on a batch of them at a time, and returns the last iterate, or the average.
 *
 * Each iteration computes the group means L_g at the current θ, moves α, and then moves θ with the new weights: α and
 * losses come from the objective that also trains language models.
 *
 * @throws InputError on a value out of its range, or an option that would do nothing
 * @param observe called with the state at iteration 0 and after every update
 */
export function train(
  problem: LogLinearProblem,
  settings: MethodSettings,
  initialTheta: ArrayLike<number>,
  observe: (state: TrainingState) => void = () => {},
): TrainingState {
  const loss = marginLoss(settings.loss);
  const sizes = problem.groups.map((group) => group.count);
  const pairCount = sizes.reduce((sum, size) => sum + size, 0);
  const probabilities = sizes.map((size) => size / pairCount);
  const weighting = groupWeights(settings.weights, sizes, settings.seed);
  const iterate = Float64Array.from(initialTheta);
  const batch =
    settings.batch === undefined
      ? new FullBatch(problem, loss, iterate)
      : new MiniBatch(problem, loss, iterate, checkBatch(settings, settings.batch, pairCount), settings.seed ?? 0);
  const steps = new AdaptiveSteps(pairCount, settings.ridge ?? 0);
  const move = thetaUpdate(problem, settings, batch, steps);
  const adaptAlpha = alphaSchedule(settings, weighting, steps);
  const step = emptyStep(sizes.length);
  const theta = settings.average ? iterate.slice() : iterate;
  const state = { iteration: 0, theta, alpha: weighting.alpha, weights: weighting.weights };
  observe(state);
  while (state.iteration < settings.iterations) {
    const totals = batch.evaluate();
    if (settings.adaptive) steps.observe(batch.gradients, iterate);
    adaptAlpha();
    robustStep(totals, weighting, probabilities, 'normalised', step);
    move(iterate, step.coefficients);
    state.iteration++;
    if (theta !== iterate) for (let j = 0; j < theta.length; j++) theta[j] += (iterate[j] - theta[j]) / state.iteration;
    observe(state);
  }
  return state;
}

/**
 * What {@link train} refuses of the weights, their steps and the batch, for groups of the given sizes.
 * @throws InputError naming the setting
 */
export function checkMethod(settings: MethodSettings, sizes: readonly number[]): void {
  const pairCount = sizes.reduce((sum, size) => sum + size, 0);
  alphaSchedule(settings, groupWeights(settings.weights, sizes), new AdaptiveSteps(pairCount, 0));
  if (settings.batch !== undefined) checkBatch(settings, settings.batch, pairCount);
}

type ThetaUpdate = (theta: Float64Array, coefficients: Float64Array) => void;

function thetaUpdate(
  problem: LogLinearProblem,
  settings: MethodSettings,
  batch: FullBatch | MiniBatch,
  steps: AdaptiveSteps,
): ThetaUpdate {
  const { ridge = 0, radius, adaptive } = settings;
  if (radius !== undefined) checkPositive('radius', radius);
  if (!(ridge >= 0 && ridge < Number.POSITIVE_INFINITY))
    throw new InputError(`ridge must be a number of at least 0, not ${ridge}`, { at: { field: 'ridge' } });
  if (settings.solver === 'regression') {
    if (adaptive?.theta !== undefined) refuseIdle('adaptive.theta', 'the regression, which takes no steps');
    if (radius !== undefined) refuseIdle('radius', 'the regression, which is not confined');
    const regression = new WeightedRegression(problem, settings.loss, ridge);
    return (theta, coefficients) => theta.set(regression.solve(coefficients));
  }
  const { learningRate } = settings;
  if (adaptive?.theta !== undefined) checkAdaptive('theta', adaptive.theta);
  return (theta, coefficients) => {
    const rate = adaptive?.theta === undefined ? learningRate : steps.scale(adaptive.theta);
    // Of the gradient 2λθ at the old θ, hence before the rest.
    const kept = 1 - 2 * rate * ridge;
    for (let j = 0; j < theta.length; j++) theta[j] *= kept;
    for (let g = 0; g < coefficients.length; g++) {
      const scale = rate * coefficients[g];
      const gradient = batch.gradients[g];
      for (let j = 0; j < theta.length; j++) theta[j] -= scale * gradient[j];
    }
    if (radius !== undefined) projectOnBall(theta, radius);
  };
}

/** What to do before each step on α: nothing, unless its steps are adaptive. */
function alphaSchedule({ adaptive }: MethodSettings, weighting: GroupWeights, steps: AdaptiveSteps): () => void {
  const c = adaptive?.alpha;
  if (c === undefined) return () => {};
  checkAdaptive('alpha', c);
  const { step } = weighting;
  if (step === undefined) return refuseIdle('adaptive.alpha', `${weighting.name} weights, which have no step size`);
  return () => {
    weighting.step = steps.scale(c * step);
  };
}

function refuseIdle(field: string, on: string): never {
  throw new InputError(`has no effect on ${on}`, { at: { field }, fix: 'leave it out' });
}
