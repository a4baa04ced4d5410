import { GroupTotals, robustStep } from '../objective/aggregate.js';
import { groupWeights } from '../objective/group-weights.js';
import { type MarginLoss, marginLoss } from '../objective/losses.js';
import { addDifferences, margins } from '../policy/log-linear.js';
import type { LogLinearProblem } from '../policy/log-linear-problem.js';
import type { MethodSettings } from './methods.js';
import { WeightedRegression } from './weighted-regression.js';

/** Where a run stands after `iteration` updates; the arrays are live, copy what is kept. */
export interface TrainingState {
  iteration: number;
  theta: Float64Array;
  /** α of the robust methods, the fixed θ-weights of the others. */
  alpha: Float64Array;
}

/**
 * Trains θ on all pairs of `problem` at once and returns the last iterate.
 *
 * Each iteration computes the group means L_g at the current θ, moves α, and then moves θ with the new weights: α and
 * losses come from the objective that also trains language models.
 *
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
  const weighting = groupWeights(settings.weights, sizes);
  const batch = new FullBatch(problem, loss);
  const move = thetaUpdate(problem, settings, batch);
  const theta = Float64Array.from(initialTheta);
  const state = { iteration: 0, theta, alpha: weighting.alpha };
  observe(state);
  while (state.iteration < settings.iterations) {
    const { coefficients } = robustStep(batch.evaluate(theta), weighting, probabilities);
    move(theta, coefficients);
    state.iteration++;
    observe(state);
  }
  return state;
}

/** Group losses and their gradients over all pairs; its buffers are reused from one evaluation to the next. */
export class FullBatch {
  /** Σ_{i∈D_g} ∇l_i at the θ of the last {@link evaluate}, one row per group. */
  readonly gradients: Float64Array[];
  private readonly buffers: Float64Array[];

  constructor(
    private readonly problem: LogLinearProblem,
    private readonly loss: MarginLoss,
  ) {
    this.gradients = problem.groups.map(() => new Float64Array(problem.dimension));
    this.buffers = problem.groups.map((group) => new Float64Array(group.count));
  }

  /** Losses of all pairs at θ, summed by group. */
  evaluate(theta: Float64Array): GroupTotals {
    const { groups } = this.problem;
    const totals = new GroupTotals(groups.length);
    for (let g = 0; g < groups.length; g++) {
      const buffer = margins(groups[g], theta, this.buffers[g]);
      totals.addSum(g, this.loss.sumAndDifferentiate(buffer), buffer.length);
      addDifferences(groups[g], buffer, this.gradients[g].fill(0));
    }
    return totals;
  }
}

type ThetaUpdate = (theta: Float64Array, coefficients: Float64Array) => void;

function thetaUpdate(problem: LogLinearProblem, settings: MethodSettings, batch: FullBatch): ThetaUpdate {
  if (settings.solver === 'regression') {
    const regression = new WeightedRegression(problem, settings.loss);
    return (theta, coefficients) => theta.set(regression.solve(coefficients));
  }
  const { learningRate } = settings;
  return (theta, coefficients) => {
    for (let g = 0; g < coefficients.length; g++) {
      const scale = learningRate * coefficients[g];
      const gradient = batch.gradients[g];
      for (let j = 0; j < theta.length; j++) theta[j] -= scale * gradient[j];
    }
  };
}
