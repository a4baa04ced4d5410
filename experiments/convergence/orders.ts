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
  expected: [
    [0.2, 0.1999, -8.084e-5, -8.476e-5, -7.693e-5],
    [0.1553, 0.1553, -3.967e-5, -4.058e-5, -3.877e-5],
    [0.09489, 0.09488, -1.355e-5, -1.366e-5, -1.344e-5],
    [0.04448, 0.04448, -8.16e-7, -8.318e-7, -8.001e-7],
    [0.01347, 0.01347, 3.349e-8, 3.279e-8, 3.419e-8],
    [0.09183, 0.09071, -0.001124, -0.001252, -0.000996],
    [0.04531, 0.04524, -6.367e-5, -8e-5, -4.733e-5],
    [0.01398, 0.01398, 4.134e-6, 3.382e-6, 4.886e-6],
    [0.004521, 0.004521, 3.301e-7, 2.93e-7, 3.672e-7],
    [0.001398, 0.001398, 3.388e-8, 3.207e-8, 3.569e-8],
    [4.99, 4.987, -0.003247, -0.003404, -0.00309],
    [3.7, 3.698, -0.002005, -0.002046, -0.001964],
    [1.978, 1.978, -0.0004562, -0.0004618, -0.0004506],
    [0.8639, 0.8639, -4.461e-5, -4.493e-5, -4.428e-5],
    [0.2675, 0.2675, -3.641e-6, -3.66e-6, -3.623e-6],
    [1.963, 1.924, -0.03896, -0.04422, -0.0337],
    [0.8935, 0.8893, -0.004149, -0.004544, -0.003753],
    [0.286, 0.2856, -0.0003549, -0.0003756, -0.0003342],
    [0.09129, 0.09125, -3.711e-5, -3.821e-5, -3.601e-5],
    [0.02794, 0.02794, -3.723e-6, -3.781e-6, -3.664e-6],
  ],
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
      const [low, high] = meanInterval(differences);
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
