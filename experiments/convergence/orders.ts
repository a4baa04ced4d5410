/**
 * Alternating against simultaneous: the paper's listing moves θ with the new α, its proof with the old one. The same draws in both orders, so
 * that the difference of the two errors is that of a run. The steps are those of the proposition, and ten times these.
 *
 *   npx tsx experiments/convergence/orders.ts
 *
 * Expected: below, and in docs/results/convergence.md. Swapped features, uneven responses, imbalanced data, ‖θ‖ ≤ 10, seed 2021.
 */
import { trainingProblem } from '../../src/bandit/preferences.js';
import { present } from '../../src/errors.js';
import { Random } from '../../src/numbers/random.js';
import { marginLoss } from '../../src/objective/losses.js';
import type { SaddleRun } from '../../src/theory/algorithm.js';
import { convergenceConstants, stepSizes } from '../../src/theory/constants.js';
import { assessRuns, convergenceDefaults, startingPoint } from '../../src/theory/convergence.js';
import { average, meanInterval } from '../../src/theory/rate-fit.js';
import { type Row, runExperiment } from './program.js';

const { beta, radius, seed } = convergenceDefaults;
const problem = trainingProblem({ features: 'swapped', responses: 'uneven', data: 'imbalanced' }, seed);

await runExperiment({
  name: 'orders.ts',
  description: 'alternating against simultaneous steps of Algorithm 1',
  size: { horizons: [100, 1e3, 1e4, 1e5, 1e6], runs: 32 },
  expected: [],
  async measure({ horizons }, run) {
    const cases = (['dpo', 'ipo'] as const).flatMap((name) => {
      const loss = { loss: name, beta: beta[name] };
      const constants = convergenceConstants(problem, marginLoss(loss), radius, 1);
      return [1, 10].flatMap((factor) =>
        horizons.map((T) => {
          const { theta, alpha } = stepSizes(constants, T);
          return { loss, factor, T, steps: { theta: factor * theta, alpha: factor * alpha } };
        }),
      );
    });
    const results = await run(
      cases.flatMap(({ loss, T, steps }) =>
        (['simultaneous', 'alternating'] as const).map((order) => ({
          problem,
          settings: { loss, algorithm: 1, order, radius, steps },
          count: T,
        })),
      ),
    );
    const saddles = new Map(
      cases.map(({ loss }) => [loss.loss, startingPoint(problem, marginLoss(loss), radius).saddle]),
    );
    return cases.map(({ loss, factor, T }, n): Row => {
      const errorsOf = (runs: SaddleRun[]) =>
        assessRuns(problem, { loss, radius }, present(saddles.get(loss.loss)), runs).errors;
      const [simultaneous, alternating] = [errorsOf(results[2 * n]), errorsOf(results[2 * n + 1])];
      const differences = alternating.map((error, k) => error - simultaneous[k]);
      const [low, high] = meanInterval(differences, Random.stream(seed, 'theory', 'bootstrap'));
      return {
        labels: { loss: loss.loss, steps: `× ${factor}`, T: String(T) },
        values: {
          simultaneous: average(simultaneous),
          alternating: average(alternating),
          difference: average(differences),
          low,
          high,
        },
      };
    });
  },
});
