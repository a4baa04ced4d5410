/**
 * Average against last iterate: Proposition 4.1 is about the average θ̄, while the paper's listing returns θ_T. Both errors of the same runs
 * of Algorithm 1, in both orders, and their rates over all the horizons.
 *
 *   npx tsx experiments/convergence/iterates.ts
 *
 * Expected: below, and in docs/results/convergence.md. Swapped features, uneven responses, imbalanced data, ‖θ‖ ≤ 10, seed 2021.
 */
import { trainingProblem } from '../../src/bandit/preferences.js';
import { Random } from '../../src/numbers/random.js';
import { marginLoss } from '../../src/objective/losses.js';
import { convergenceConstants, stepSizes } from '../../src/theory/constants.js';
import { assessRuns, convergenceDefaults, startingPoint } from '../../src/theory/convergence.js';
import { average, fitRate, meanInterval } from '../../src/theory/rate-fit.js';
import { type Row, runExperiment } from './program.js';

const { beta, radius, seed } = convergenceDefaults;
const problem = trainingProblem({ features: 'swapped', responses: 'uneven', data: 'imbalanced' }, seed);
const random = () => Random.stream(seed, 'theory', 'bootstrap');

await runExperiment({
  name: 'iterates.ts',
  description: 'average against last iterate of Algorithm 1',
  size: { horizons: [1e4, 1e5, 1e6], runs: 32 },
  expected: [],
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
        horizons.length < 2
          ? null
          : fitRate(
              measured.map((one) => ({ T: one.T, errors: one[key] })),
              random(),
            ).slope;
      const rates = { 'rate of average': rateOf('errors'), 'rate of last': rateOf('lastErrors') };
      return measured.map(({ T, errors, lastErrors }): Row => {
        const [averageEnds, lastEnds] = [meanInterval(errors, random()), meanInterval(lastErrors, random())];
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
