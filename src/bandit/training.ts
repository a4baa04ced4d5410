import { InputError } from '../errors.js';
import { GroupTotals, robustStep } from '../objective/aggregate.js';
import { type GroupWeights, groupWeights, MirrorAscent } from '../objective/group-weights.js';
import { type MarginLoss, marginLoss } from '../objective/losses.js';
import { addDifferences, margins } from '../policy/log-linear.js';
import type { LogLinearProblem } from '../policy/log-linear-problem.js';
import { AdaptiveSteps, checkAdaptive } from './adaptive-steps.js';
import type { MethodSettings } from './methods.js';
import { checkBatch, MiniBatch } from './mini-batch.js';
import { WeightedRegression } from './weighted-regression.js';

/** Where a run stands after `iteration` updates; the arrays are live, copy what is kept. */
export interface TrainingState {
  iteration: number;
  theta: Float64Array;
  /** α of the robust methods, the fixed θ-weights of the others. */
  alpha: Float64Array;
  /** The θ-weights that α gives: other numbers where χ < 1. */
  weights: Float64Array;
}

/**
 * Trains θ on all pairs of `problem` at once, or on a batch of them at a time, and returns the last iterate.
 *
 * Each iteration computes the group means L_g at the current θ, moves α, and then moves θ with the new weights: α and
 * losses come from the objective that also trains language models.
 *
 * @throws InputError on a value out of its range, or an option that would do nothing
 * @param observe called with the state at iteration 0 and after every update
 * @param seed of the order of pairs, where `settings.batch` takes some at a time
 */
export function train(
  problem: LogLinearProblem,
  settings: MethodSettings,
  initialTheta: ArrayLike<number>,
  observe: (state: TrainingState) => void = () => {},
  seed = 0,
): TrainingState {
  const loss = marginLoss(settings.loss);
  const sizes = problem.groups.map((group) => group.count);
  const pairCount = sizes.reduce((sum, size) => sum + size, 0);
  const probabilities = sizes.map((size) => size / pairCount);
  const weighting = groupWeights(settings.weights, sizes);
  const batch =
    settings.batch === undefined
      ? new FullBatch(problem, loss)
      : new MiniBatch(problem, loss, checkBatch(settings, settings.batch, pairCount), seed);
  const steps = new AdaptiveSteps(pairCount, settings.ridge ?? 0);
  const move = thetaUpdate(problem, settings, batch, steps);
  const adaptAlpha = alphaSchedule(settings, weighting, steps);
  const theta = Float64Array.from(initialTheta);
  const state = { iteration: 0, theta, alpha: weighting.alpha, weights: weighting.weights };
  observe(state);
  while (state.iteration < settings.iterations) {
    const totals = batch.evaluate(theta);
    if (settings.adaptive) steps.observe(batch.gradients, theta);
    adaptAlpha();
    const { coefficients } = robustStep(totals, weighting, probabilities);
    move(theta, coefficients);
    state.iteration++;
    observe(state);
  }
  return state;
}

/**
 * What {@link train} refuses of the weights and the batch, for groups of the given sizes.
 * @throws InputError naming the setting
 */
export function checkMethod(settings: MethodSettings, sizes: readonly number[]): void {
  groupWeights(settings.weights, sizes);
  const pairCount = sizes.reduce((sum, size) => sum + size, 0);
  if (settings.batch !== undefined) checkBatch(settings, settings.batch, pairCount);
}

/** Group losses and their gradients over all pairs; its buffers are reused from one evaluation to the next. */
class FullBatch {
  /** Σ_{i∈D_g} ∇l_i at the θ of the last {@link evaluate}, one row per group. */
  readonly gradients: Float64Array[];
  private readonly buffers: Float64Array[];
  private readonly totals: GroupTotals;

  constructor(
    private readonly problem: LogLinearProblem,
    private readonly loss: MarginLoss,
  ) {
    this.gradients = problem.groups.map(() => new Float64Array(problem.dimension));
    this.totals = new GroupTotals(problem.groups.length);
    this.buffers = problem.groups.map((group) => new Float64Array(group.count));
  }

  /** Losses of all pairs at θ, summed by group; valid until the next evaluation. */
  evaluate(theta: Float64Array): GroupTotals {
    const { groups } = this.problem;
    this.totals.clear();
    for (let g = 0; g < groups.length; g++) {
      const buffer = margins(groups[g], theta, this.buffers[g]);
      this.totals.addSum(g, this.loss.sumAndDifferentiate(buffer), buffer.length);
      addDifferences(groups[g], buffer, this.gradients[g].fill(0));
    }
    return this.totals;
  }
}

type ThetaUpdate = (theta: Float64Array, coefficients: Float64Array) => void;

function thetaUpdate(
  problem: LogLinearProblem,
  settings: MethodSettings,
  batch: FullBatch | MiniBatch,
  steps: AdaptiveSteps,
): ThetaUpdate {
  const { ridge = 0, adaptive } = settings;
  if (!(ridge >= 0 && ridge < Number.POSITIVE_INFINITY))
    throw new InputError(`ridge must be a number of at least 0, not ${ridge}`, { at: { field: 'ridge' } });
  if (settings.solver === 'regression') {
    if (adaptive?.theta !== undefined) refuseIdle('adaptive.theta', 'the regression, which takes no steps');
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
  };
}

/** What to do before each step on α: nothing, unless its steps are adaptive. */
function alphaSchedule({ adaptive }: MethodSettings, weighting: GroupWeights, steps: AdaptiveSteps): () => void {
  const c = adaptive?.alpha;
  if (c === undefined) return () => {};
  checkAdaptive('alpha', c);
  if (!(weighting instanceof MirrorAscent))
    return refuseIdle('adaptive.alpha', `${weighting.name} weights, which are fixed`);
  const { step } = weighting;
  return () => {
    weighting.step = steps.scale(c * step);
  };
}

function refuseIdle(field: string, on: string): never {
  throw new InputError(`has no effect on ${on}`, { at: { field }, fix: 'leave it out' });
}
