import { trainingProblem } from '../bandit/preferences.js';
import type { ParallelOptions } from '../parallel.js';
import { type Convergence, convergenceDefaults, measureConvergence } from './convergence.js';

/**
 * The convergence check on the paper's main synthetic setting (swapped features, uneven responses, imbalanced data), with
 * Algorithm 1 and the settings of {@link convergenceDefaults}: 10 runs at each of five horizons up to 3e6 steps, 44 million
 * steps in all. `onDone` counts runs.
 */
export function convergenceExperiment(loss: 'dpo' | 'ipo', options?: ParallelOptions): Promise<Convergence> {
  const { beta, ...settings } = convergenceDefaults;
  const problem = trainingProblem({ features: 'swapped', responses: 'uneven', data: 'imbalanced' }, settings.seed);
  return measureConvergence(problem, { ...settings, loss: { loss, beta: beta[loss] } }, options);
}
