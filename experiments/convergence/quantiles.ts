/**
 * High probability: the quantiles of the error over 200 runs, for Algorithm 1 and for a sample of every group, at equal numbers of samples.
 * Theory has, with probability 1 − δ and moments M of estimates that never exceed them (Nemirovski et al. 2009, Proposition 3.2;
 * Zhang et al. 2023, Theorem 1),
 *
 *   error  ≤  c (8 + 2 ln(2/δ)) √(10 (B_Θ² M_θ² + M_α² ln K) / T).
 *
 * Every group: M_θ = B_∇, M_α = B_l, c = 1. In Algorithm 1 an estimate may be as large as ρB_∇, ρB_l; its steps are those of the smaller
 * second moments, hence larger by c than those of the theorem, which multiplies the bound by c. A normal distribution has quantiles
 * `mean + z sd`, and z grows like √ln(1/δ).
 *
 *   npx tsx experiments/convergence/quantiles.ts
 *
 * Expected: below, and in docs/results/convergence.md. DPO, β = 1, swapped features, uneven responses, imbalanced data, ‖θ‖ ≤ 10, seed 2021.
 */
import { trainingProblem } from '../../src/bandit/preferences.js';
import { marginLoss } from '../../src/objective/losses.js';
import { convergenceConstants, moment } from '../../src/theory/constants.js';
import { assessRuns, convergenceDefaults, startingPoint } from '../../src/theory/convergence.js';
import { average } from '../../src/theory/rate-fit.js';
import { scheduleOf } from '../../src/theory/schedules.js';
import { type Row, runExperiment } from './program.js';

const { radius, seed } = convergenceDefaults;
const problem = trainingProblem({ features: 'swapped', responses: 'uneven', data: 'imbalanced' }, seed);
const settings = { loss: { loss: 'dpo', beta: 1 }, radius } as const;
const loss = marginLoss(settings.loss);
const constants = convergenceConstants(problem, loss, radius, 1);
/** δ, and the normal distribution's z of 1 − δ. */
const levels = [
  [0.5, 0],
  [0.2, 0.8416],
  [0.1, 1.2816],
  [0.05, 1.6449],
  [0.02, 2.0537],
] as const;

/** The bound that holds with probability 1 − δ. */
function boundOf(algorithm: 1 | 'every-group', delta: number, steps: number): number {
  const { B_theta, B_grad, B_l, rho, groups } = constants;
  const everyGroup = B_theta ** 2 * B_grad ** 2 + B_l ** 2 * Math.log(groups);
  const largest = algorithm === 1 ? rho ** 2 * everyGroup : everyGroup;
  const c = algorithm === 1 ? Math.sqrt(largest / moment(constants)) : 1;
  return Math.max(c, 1 / c) * (8 + 2 * Math.log(2 / delta)) * Math.sqrt((10 * largest) / steps);
}

await runExperiment({
  name: 'quantiles.ts',
  description: 'quantiles of the error over many runs',
  size: { horizons: [1e4, 1e5], runs: 200 },
  expected: [
    [0.09511, 0.09511, 0.0003944, 29.51],
    [0.09511, 0.09646, 0.8193, 34.53],
    [0.09511, 0.09699, 1.141, 38.32],
    [0.09511, 0.09756, 1.487, 42.12],
    [0.09511, 0.0984, 2.0, 47.14],
    [0.04448, 0.04442, -0.0705, 9.331],
    [0.04448, 0.04507, 0.7513, 10.92],
    [0.04448, 0.04538, 1.145, 12.12],
    [0.04448, 0.04585, 1.748, 13.32],
    [0.04448, 0.04625, 2.256, 14.91],
    [0.06774, 0.06772, -0.01737, 4.431],
    [0.06774, 0.06893, 0.895, 5.185],
    [0.06774, 0.06942, 1.266, 5.755],
    [0.06774, 0.06975, 1.517, 6.325],
    [0.06774, 0.07018, 1.839, 7.079],
    [0.02315, 0.02316, 0.02794, 1.401],
    [0.02315, 0.02346, 0.9196, 1.64],
    [0.02315, 0.0236, 1.341, 1.82],
    [0.02315, 0.02368, 1.59, 2.0],
    [0.02315, 0.02379, 1.924, 2.239],
  ],
  async measure({ horizons, runs }, run) {
    const cases = ([1, 'every-group'] as const).flatMap((algorithm) =>
      horizons.map((samples) => ({ algorithm, samples, ...scheduleOf(algorithm, constants, samples) })),
    );
    const results = await run(
      cases.map(({ algorithm, count, steps }) => ({
        problem,
        settings: { ...settings, algorithm, order: 'simultaneous', steps },
        count,
      })),
    );
    const { saddle } = startingPoint(problem, loss, radius);
    return cases.flatMap(({ algorithm, samples, count }, n) => {
      const sorted = assessRuns(problem, settings, saddle, results[n]).errors.sort((a, b) => a - b);
      const mean = average(sorted);
      const deviation = Math.sqrt(sorted.reduce((sum, error) => sum + (error - mean) ** 2, 0) / (runs - 1));
      return levels.map(([delta, z]): Row => {
        // The least error that at most a share δ of the runs exceeds.
        const quantile = sorted[Math.ceil((1 - delta) * runs - 1e-9) - 1];
        return {
          labels: { algorithm: String(algorithm), samples: String(samples), δ: String(delta), z: String(z) },
          values: { mean, quantile, 'in sd': (quantile - mean) / deviation, bound: boundOf(algorithm, delta, count) },
        };
      });
    });
  },
});
