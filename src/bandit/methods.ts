import { GroupTotals, robustStep } from '../objective/aggregate.js';
import { groupWeights, type WeightSettings } from '../objective/group-weights.js';
import { type LossSettings, type MarginLoss, marginLoss } from '../objective/losses.js';
import { addDifferences, margins } from '../policy/log-linear.js';
import type { LogLinearProblem } from '../policy/log-linear-problem.js';
import { WeightedRegression } from './weighted-regression.js';

/** The six methods of the paper's synthetic experiments. */
export const methodNames = ['dpo', 'is-dpo', 'gr-dpo', 'ipo', 'is-ipo', 'gr-ipo'] as const;
export type MethodName = (typeof methodNames)[number];

/** How θ moves once the group weights q of an iteration are known. */
export type Solver =
  /** θ ← θ − η_θ Σ_g q_g ∇L_g over the full data (paper Algorithm 1 with the batch of all pairs). */
  | { solver: 'gradient'; learningRate: number }
  /** θ ← argmin Σ_g q_g L_g, IPO only (paper Algorithm 2). */
  | { solver: 'regression' };

/** Everything that defines a training run except its data and θ⁰. */
export type MethodSettings = Solver & {
  loss: LossSettings;
  weights: WeightSettings;
  iterations: number;
};

export interface MethodOptions {
  /** Replaces the method's own number of iterations, where it iterates at all. */
  iterations?: number;
  /** χ of the robust methods, see MirrorAscentSettings; default 1. */
  chi?: number;
  /** How the IPO family moves θ; default regression. */
  ipoSolver?: 'regression' | 'gradient';
}

/** Whether α moves, so that χ has a meaning. */
export function isRobust(name: MethodName): boolean {
  return name.startsWith('gr-');
}

/** Whether a second iteration changes anything: fixed weights make the regression exact at once. */
export function iterates(name: MethodName): boolean {
  return isRobust(name) || name.endsWith('dpo');
}

/** The paper's hyper-parameters (Table 1). */
export function methodSettings(name: MethodName, options: MethodOptions = {}): MethodSettings {
  const { chi = 1, ipoSolver = 'regression' } = options;
  const dpo = name.endsWith('dpo');
  const weights: WeightSettings = isRobust(name)
    ? { weights: 'mirror-ascent', step: dpo ? 0.5 : 0.01, chi }
    : { weights: name.startsWith('is-') ? 'importance' : 'erm' };
  if (dpo)
    return {
      solver: 'gradient',
      learningRate: 0.9,
      loss: { loss: 'dpo', beta: 1 },
      weights,
      iterations: options.iterations ?? 10_000,
    };
  const loss: LossSettings = { loss: 'ipo', beta: 0.1 };
  if (ipoSolver === 'regression')
    return { solver: ipoSolver, loss, weights, iterations: iterates(name) ? (options.iterations ?? 100) : 1 };
  // The gradient's Lipschitz constant is at most 2 max‖d‖² = 3.07 on these features, so steps below 0.65 are stable.
  return { solver: ipoSolver, learningRate: 0.5, loss, weights, iterations: options.iterations ?? 10_000 };
}

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
      for (let i = 0; i < buffer.length; i++) {
        totals.add(g, this.loss.value(buffer[i]));
        buffer[i] = this.loss.derivative(buffer[i]);
      }
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
