/**
 * Proposition 4.1 (paper §4, Appendix E): the error of Algorithm 1's averaged iterate falls as 1/√T and stays below the bound.
 * The proof covers the simultaneous order; the alternating one, the paper's listing, is measured beside it.
 *
 *   npx tsx experiments/convergence.ts
 *
 * Expected of both orders alike, swapped features, uneven responses, imbalanced data, seed 2021, radius 10:
 *
 *   | loss | minimax value | mean error at 1e4, 1e5, 3e5, 1e6, 3e6    | rate and interval       |
 *   |------|---------------|------------------------------------------|-------------------------|
 *   | dpo  | 0.4526353161  | 0.0955, 0.0443, 0.0253, 0.0134, 0.00773  | −0.515 [−0.519, −0.510] |
 *   | ipo  | 19.1548220684 | 1.99, 0.861, 0.496, 0.267, 0.152         | −0.511 [−0.515, −0.506] |
 *
 * Exits 1 where a claim fails.
 */
import { trainingProblem } from '../src/bandit/preferences.js';
import { failed } from '../src/terminal/checks.js';
import { progress } from '../src/terminal/progress.js';
import { convergenceDefaults, convergenceSteps, measureConvergence } from '../src/theory/convergence.js';
import { convergenceChecks, convergenceReport, convergenceText } from '../src/theory/report.js';

const { beta, ...settings } = convergenceDefaults;
const problem = trainingProblem({ features: 'swapped', responses: 'uneven', data: 'imbalanced' }, settings.seed);
for (const loss of ['dpo', 'ipo'] as const) {
  const bar = progress(`convergence, ${loss}, steps`, convergenceSteps(settings));
  const result = await measureConvergence(
    problem,
    { ...settings, loss: { loss, beta: beta[loss] } },
    { onSteps: (done) => bar.update(done) },
  );
  bar.stop();
  console.log(`\n${loss}\n\n${convergenceText(convergenceReport(result))}\n`);
  if (failed(convergenceChecks(result))) process.exitCode = 1;
}
