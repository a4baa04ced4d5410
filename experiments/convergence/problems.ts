/**
 * Proposition 4.1 against the problem: how the error of Algorithm 1's average, and its rate, depend on the number of groups K, the dimension
 * d, and ρ = N/min N_g. 100 pairs a group, drawn as the validation pairs are; for ρ the pairs of group 1 are there m times, which changes
 * no group's loss, hence neither minimax value nor start, but only how often group 0 is drawn.
 *
 *   npx tsx experiments/convergence/problems.ts
 *
 * Expected: below, and in docs/results/convergence.md. DPO, β = 1, swapped features, uneven responses, ‖θ‖ ≤ 10, seed 2021, simultaneous.
 */
import { validationProblem } from '../../src/bandit/preferences.js';
import { marginLoss } from '../../src/objective/losses.js';
import type { LogLinearProblem } from '../../src/policy/log-linear-problem.js';
import { summarise } from '../../src/theory/check.js';
import { convergenceConstants, errorBound, stepSizes } from '../../src/theory/constants.js';
import { assessRuns, convergenceDefaults, startingPoint } from '../../src/theory/convergence.js';
import { slope } from '../../src/theory/rate-fit.js';
import { type Row, runExperiment } from './program.js';

const { radius, seed } = convergenceDefaults;
const pairs = 100;

/** The first 100 pairs of each group, those of odd groups `copies` times over. */
function problemOf(groups: number, dimension: number, copies = 1): LogLinearProblem {
  const setting = { features: 'swapped', responses: 'uneven', data: 'balanced', groups, dimension } as const;
  const problem = validationProblem(setting, seed);
  return {
    dimension,
    groups: problem.groups.map(({ differences }, g) => {
      const rows = differences.slice(0, pairs * dimension);
      const times = g % 2 === 1 ? copies : 1;
      return {
        count: pairs * times,
        differences: Float64Array.from({ length: times * rows.length }, (_, n) => rows[n % rows.length]),
      };
    }),
  };
}

const varied = {
  K: [2, 4, 8, 16].map((K) => ({ x: K, problem: problemOf(K, 4) })),
  d: [2, 4, 8, 16, 32].map((d) => ({ x: d, problem: problemOf(2, d) })),
  ρ: [1, 2, 4, 8, 16].map((copies) => ({ x: copies + 1, problem: problemOf(2, 4, copies) })),
};
const settings = { loss: { loss: 'dpo', beta: 1 }, radius } as const;
const loss = marginLoss(settings.loss);

await runExperiment({
  name: 'problems.ts',
  description: 'error and rate of Algorithm 1 against K, d and ρ',
  size: { horizons: [1e5, 3e5, 1e6, 3e6], runs: 10 },
  expected: [
    [0.4683, 0.2249, 0.004712, 0.004919, 0.05631, -0.5094, -0.5139, -0.5048],
    [0.482, 0.2111, 0.00646, 0.01022, 0.132, -0.5334, -0.538, -0.5287],
    [0.495, 0.1982, 0.01638, 0.02752, 0.3063, -0.438, -0.4467, -0.4292],
    [0.4951, 0.198, 0.02894, 0.05196, 0.6955, null, null, null],
    [0.4488, 0.2443, 0.001247, 0.006076, 0.03992, -0.5055, -0.5077, -0.5034],
    [0.4683, 0.2249, 0.004712, 0.004919, 0.05631, -0.5094, -0.5139, -0.5048],
    [0.4866, 0.2066, 0.006364, 0.006536, 0.07772, -0.507, -0.5134, -0.5006],
    [0.3695, 0.3237, 0.009573, 0.009764, 0.1075, -0.5167, -0.5212, -0.5122],
    [0.2493, 0.4438, 0.01259, 0.01329, 0.1452, -0.501, -0.5027, -0.4994],
    [0.4683, 0.2249, 0.004712, 0.004919, 0.05631, -0.5094, -0.5139, -0.5048],
    [0.4683, 0.2249, 0.005813, 0.006128, 0.06896, -0.513, -0.5175, -0.5086],
    [0.4683, 0.2249, 0.007468, 0.007989, 0.08903, -0.5203, -0.5243, -0.5162],
    [0.4683, 0.2249, 0.01013, 0.01107, 0.1194, -0.5187, -0.5261, -0.5112],
    [0.4683, 0.2249, 0.01388, 0.01556, 0.1642, -0.5293, -0.5367, -0.5218],
  ],
  async measure({ horizons }, run) {
    const cases = Object.entries(varied).flatMap(([name, values]) =>
      values.map(({ x, problem }) => ({
        labels: { varied: name, value: String(x) },
        problem,
        constants: convergenceConstants(problem, loss, radius, 1),
      })),
    );
    const results = await run(
      cases.flatMap(({ problem, constants }) =>
        horizons.map((T) => ({
          problem,
          settings: { ...settings, algorithm: 1, order: 'simultaneous', steps: stepSizes(constants, T) },
          count: T,
        })),
      ),
    );
    return cases.map(({ labels, problem, constants }, n): Row => {
      const { saddle, start } = startingPoint(problem, loss, radius);
      const measurements = horizons.map((T, k) => ({
        T,
        ...assessRuns(problem, settings, saddle, results[n * horizons.length + k]),
        bound: errorBound(constants, T),
      }));
      const summary = summarise(measurements, start.error);
      const last = summary.horizons[horizons.length - 1];
      return {
        labels,
        values: {
          'minimax value': saddle.value,
          'error at 0': start.error,
          'mean error': last.error,
          'duality gap': last.duality_gap,
          bound: last.bound,
          rate: summary.rate?.slope ?? null,
          'rate, low': summary.rate?.interval[0] ?? null,
          'rate, high': summary.rate?.interval[1] ?? null,
        },
      };
    });
  },
  summary: (rows) =>
    Object.keys(varied).map((name) => {
      const own = rows.filter(({ labels }) => labels.varied === name);
      const power = (column: string) =>
        slope(
          own.map(({ labels }) => Math.log(Number(labels.value))),
          own.map(({ values }) => Math.log(values[column] as number)),
        ).toFixed(2);
      return `at the last horizon: mean error ∝ ${name}^${power('mean error')}, gap ∝ ${name}^${power('duality gap')}, bound ∝ ${name}^${power('bound')}`;
    }),
});
