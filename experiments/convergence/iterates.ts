/**
 * Average against last iterate: Proposition 4.1 is about the average θ̄, while the paper's listing returns θ_T. Both errors of the same runs
 * of Algorithm 1, in both orders, and their rates over the horizons, all of them past burn-in.
 *
 *   npx tsx experiments/convergence/iterates.ts
 *
 * Expected: below, and in docs/results/convergence.md. Swapped features, uneven responses, imbalanced data, ‖θ‖ ≤ 10, seed 2021.
 */
import { trainingProblem } from '../../src/bandit/preferences.js';
import { marginLoss } from '../../src/objective/losses.js';
import { convergenceConstants, stepSizes } from '../../src/theory/constants.js';
import { assessRuns, convergenceDefaults, startingPoint } from '../../src/theory/convergence.js';
import { average, fitRate, meanInterval } from '../../src/theory/rate-fit.js';
import { type Row, runExperiment } from './program.js';

const { beta, radius, seed } = convergenceDefaults;
const problem = trainingProblem({ features: 'swapped', responses: 'uneven', data: 'imbalanced' }, seed);

await runExperiment({
  name: 'iterates.ts',
  description: 'average against last iterate of Algorithm 1',
  size: { horizons: [1e5, 3e5, 1e6, 3e6], runs: 16 },
  expected: [
    [0.04441, 0.04393, 0.04489, 0.004807, 0.004175, 0.005439, -0.5158, -0.2036],
    [0.02525, 0.02506, 0.02543, 0.004886, 0.002657, 0.007115, -0.5158, -0.2036],
    [0.01345, 0.01334, 0.01356, 0.002355, 0.0007744, 0.003936, -0.5158, -0.2036],
    [0.007708, 0.007653, 0.007762, 0.002855, 0.001154, 0.004557, -0.5158, -0.2036],
    [0.04441, 0.04393, 0.04489, 0.004809, 0.004177, 0.005442, -0.5158, -0.2037],
    [0.02525, 0.02506, 0.02543, 0.004884, 0.002656, 0.007113, -0.5158, -0.2037],
    [0.01345, 0.01335, 0.01356, 0.002355, 0.0007744, 0.003936, -0.5158, -0.2037],
    [0.007708, 0.007653, 0.007762, 0.002855, 0.001154, 0.004557, -0.5158, -0.2037],
    [0.8632, 0.8532, 0.8732, 0.07214, 0.06571, 0.07857, -0.5114, -1.321],
    [0.4966, 0.492, 0.5011, 0.01038, 0.009404, 0.01136, -0.5114, -1.321],
    [0.267, 0.2654, 0.2686, 0.002448, 0.001795, 0.003101, -0.5114, -1.321],
    [0.1519, 0.1513, 0.1524, 0.0007677, 0.0005181, 0.001017, -0.5114, -1.321],
    [0.8632, 0.8531, 0.8732, 0.07215, 0.06572, 0.07858, -0.5114, -1.321],
    [0.4966, 0.492, 0.5011, 0.01038, 0.009405, 0.01136, -0.5114, -1.321],
    [0.267, 0.2654, 0.2686, 0.002448, 0.001795, 0.003102, -0.5114, -1.321],
    [0.1519, 0.1513, 0.1524, 0.0007677, 0.0005181, 0.001017, -0.5114, -1.321],
  ],
  async measure({ horizons }, run) {
    const cases = (['dpo', 'ipo'] as const).flatMap((name) =>
      (['simultaneous', 'alternating'] as const).map((order) => ({ loss: { loss: name, beta: beta[name] }, order })),
    );
    const results = await run(
      cases.flatMap(({ loss, order }) => {
        const constants = convergenceConstants(problem, marginLoss(loss), radius, 1);
        return horizons.map((T) => ({
          problem,
          settings: { loss, algorithm: 1, order, radius, steps: stepSizes(constants, T) },
          count: T,
        }));
      }),
    );
    return cases.flatMap(({ loss, order }, n) => {
      const { saddle } = startingPoint(problem, marginLoss(loss), radius);
      const measured = horizons.map((T, k) => ({
        T,
        ...assessRuns(problem, { loss, radius }, saddle, results[n * horizons.length + k]),
      }));
      const rateOf = (key: 'errors' | 'lastErrors') =>
        horizons.length < 2 ? null : fitRate(measured.map((one) => ({ T: one.T, errors: one[key] }))).slope;
      const rates = { 'rate of average': rateOf('errors'), 'rate of last': rateOf('lastErrors') };
      return measured.map(({ T, errors, lastErrors }): Row => {
        const [averageEnds, lastEnds] = [meanInterval(errors), meanInterval(lastErrors)];
        return {
          labels: { loss: loss.loss, order, T: String(T) },
          values: {
            average: average(errors),
            low: averageEnds[0],
            high: averageEnds[1],
            last: average(lastErrors),
            'last, low': lastEnds[0],
            'last, high': lastEnds[1],
            ...rates,
          },
        };
      });
    });
  },
});
