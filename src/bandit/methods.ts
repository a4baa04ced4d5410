import type { WeightSettings } from '../objective/group-weights.js';
import type { LossSettings } from '../objective/losses.js';

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
  /** Seeds the draws of weights that draw; default 0. */
  seed?: number;
  /** λ ≥ 0: adds λ‖θ‖² to every group's loss in the θ step, which leaves α as it is. Default 0. */
  ridge?: number;
  /** B: after each gradient step θ is projected on the ball ‖θ‖₂ ≤ B; default no projection. */
  radius?: number;
  /** Gives the mean of the iterates θ_1..θ_t, the policy that Proposition 4.1 is about, in place of θ_t. Default false. */
  average?: boolean;
  /** Constants c of {@link AdaptiveSteps}; absent: constant steps. */
  adaptive?: {
    /** η_θ,t = c/√(Σ‖∇̄‖²) instead of `learningRate`; gradient steps only. */
    theta?: number;
    /** η_α,t = η_α · c/√(Σ‖∇̄‖²); weights that move only. */
    alpha?: number;
  };
};

export interface MethodOptions {
  /** Replaces the method's own number of iterations, where it iterates at all. */
  iterations?: number;
  /** χ of the robust methods, see MirrorAscentSettings; default 1. */
  chi?: number;
  /** Weights of the robust methods in place of mirror ascent on the simplex. */
  weighting?: WeightSettings;
  /** How the IPO family moves θ; default regression. */
  ipoSolver?: 'regression' | 'gradient';
  /** λ of every method, see MethodSettings. */
  ridge?: number;
  /** B of the methods that take gradient steps, see MethodSettings. */
  radius?: number;
  /** See MethodSettings; of the methods that iterate. */
  average?: boolean;
  /** Goes to the methods that have such steps, see MethodSettings. */
  adaptive?: { theta?: number; alpha?: number };
}

/** Whether α moves, so that χ has a meaning. */
export function isRobust(name: MethodName): boolean {
  return name.startsWith('gr-');
}

/** Whether a second iteration changes anything: fixed weights make the regression exact at once. */
export function iterates(name: MethodName): boolean {
  return isRobust(name) || name.endsWith('dpo');
}

/** The paper's hyper-parameters (Table 1), with what the options change. */
export function methodSettings(name: MethodName, options: MethodOptions = {}): MethodSettings {
  const settings = paperSettings(name, options);
  const { ridge, radius, average, adaptive = {} } = options;
  const steps = {
    ...(adaptive.theta !== undefined && settings.solver === 'gradient' && { theta: adaptive.theta }),
    ...(adaptive.alpha !== undefined && isRobust(name) && { alpha: adaptive.alpha }),
  };
  return {
    ...settings,
    ...(ridge !== undefined && { ridge }),
    ...(radius !== undefined && settings.solver === 'gradient' && { radius }),
    ...(average && iterates(name) && { average }),
    ...(Object.keys(steps).length > 0 && { adaptive: steps }),
  };
}

function paperSettings(name: MethodName, options: MethodOptions): MethodSettings {
  const { chi = 1, weighting, ipoSolver = 'regression' } = options;
  const dpo = name.endsWith('dpo');
  const weights: WeightSettings = isRobust(name)
    ? (weighting ?? { weights: 'mirror-ascent', step: dpo ? 0.5 : 0.01, chi })
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
