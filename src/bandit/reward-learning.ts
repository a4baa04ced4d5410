import type { WeightSettings } from '../objective/group-weights.js';
import type { LogLinearProblem } from '../policy/log-linear-problem.js';
import { type TrainingState, train } from './training.js';

/**
 * Group-robust reward learning, the two-stage way to a robust policy: first a reward r(x,y) = ⟨φ(x,y,g), w⟩ from
 * preferences, then the policy that is best for it under a KL penalty. GR-DPO does both at once: for a log-linear reference
 * θ_ref its policy is θ = θ_ref + w/β (paper Prop. 3.2), and its whole path too, when η_w = β² η_θ.
 */
export interface RewardSettings {
  /** `mirror-ascent` is robust; the fixed ones give the rewards that DPO and IS-DPO imply. */
  weights: WeightSettings;
  /** η_w, the step size of the full-batch gradient descent on w. */
  learningRate: number;
  iterations: number;
}

/**
 * Minimises max_g −E log s(r(x_g,y_w) − r(x_g,y_l)), or its weighted mean, over w.
 *
 * The Bradley–Terry loss is `dpo` with β = 1 in the difference of rewards, so this is {@link train} with the same loss and α.
 * The reference has no part in it: offsets of `problem` are left out.
 *
 * @param initialW [d]
 * @returns `theta` is w [d]
 * @throws InputError on settings out of their range
 * @example With β = 1 the robust reward is the policy of GR-DPO, all the way.
 * ```ts
 * import { methodSettings, trainingProblem, trainLogLinear, trainReward } from 'group-robust-po';
 *
 * const problem = trainingProblem({ features: 'swapped', responses: 'uneven', data: 'imbalanced' }, 2021);
 * const weights = { weights: 'mirror-ascent', step: 0.5 } as const;
 * const reward = trainReward(problem, { weights, learningRate: 0.9, iterations: 50 }, [0, 0, 0, 0]);
 * const policy = trainLogLinear(problem, methodSettings('gr-dpo', { iterations: 50 }), [0, 0, 0, 0]);
 * reward.theta; // → [...policy.theta]
 * ```
 */
export function trainReward(
  problem: LogLinearProblem,
  settings: RewardSettings,
  initialW: ArrayLike<number>,
): TrainingState {
  const withoutReference = {
    ...problem,
    groups: problem.groups.map(({ count, differences }) => ({ count, differences })),
  };
  return train(withoutReference, { ...settings, solver: 'gradient', loss: { loss: 'dpo', beta: 1 } }, initialW);
}
