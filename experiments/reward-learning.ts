/**
 * Robust reward learning against GR-DPO (paper Prop. 3.2): a group-robust Bradley–Terry reward, then the closed-form
 * KL-regularised policy, on swapped features, uneven responses, imbalanced data, seed 2021, β = 0.5, 10,000 iterations.
 *
 *   npx tsx experiments/reward-learning.ts
 *
 * Expected: equal rows, and policies equal to rounding, for a uniform and for another reference. Exits 1 where a
 * log-probability differs by more than 1e-8.
 */
import { actionCount, features } from '../src/bandit/features.js';
import { TestSet } from '../src/bandit/metrics.js';
import { initialTheta, testStates, trainingProblem } from '../src/bandit/preferences.js';
import { trainReward } from '../src/bandit/reward-learning.js';
import { train } from '../src/bandit/training.js';
import { logSoftmax } from '../src/policy/log-linear.js';
import { regularisedPolicy } from '../src/policy/regularised-policy.js';
import { formatNumber } from '../src/terminal/format.js';
import { textTable } from '../src/terminal/text-table.js';

const seed = 2021;
const beta = 0.5;
const learningRate = 0.9 / beta ** 2;
const weights = { weights: 'mirror-ascent', step: 0.5 } as const;
const iterations = 10_000;
const states = testStates(seed);
const test = new TestSet('swapped', states);

/** Greedy metrics of the worse group. */
function row(name: string, theta: Float64Array, alpha: Float64Array): string[] {
  const groups = test.evaluate(theta);
  const worst = (of: (group: (typeof groups)[number]) => number) => formatNumber(Math.max(...groups.map(of)), 8);
  return [
    name,
    worst(({ relativeError }) => relativeError),
    worst(({ absoluteError }) => absoluteError),
    worst(({ divergence }) => divergence),
    formatNumber(alpha[0], 8),
  ];
}

for (const referenceTheta of [
  [0, 0, 0, 0],
  [0.8, -1, 0.3, 2],
]) {
  const problem = trainingProblem(
    { features: 'swapped', responses: 'uneven', data: 'imbalanced', referenceTheta },
    seed,
  );
  const start = initialTheta(seed);
  const loss = { loss: 'dpo', beta } as const;
  const direct = train(problem, { solver: 'gradient', learningRate, loss, weights, iterations }, start);
  const reward = trainReward(
    problem,
    { weights, learningRate: beta ** 2 * learningRate, iterations },
    start.map((value, j) => beta * (value - referenceTheta[j])),
  );

  let difference = 0;
  for (const state of states)
    for (const group of [0, 1]) {
      const rows = Float64Array.from(
        Array.from({ length: actionCount }, (_, y) => [...features('swapped', state, y, group)]).flat(),
      );
      const rewards = Float64Array.from({ length: actionCount }, (_, y) =>
        reward.theta.reduce((sum, w, j) => sum + w * rows[y * reward.theta.length + j], 0),
      );
      const reference = logSoftmax(rows, Float64Array.from(referenceTheta));
      const twoStage = regularisedPolicy(rewards, reference, beta);
      logSoftmax(rows, direct.theta).forEach((logp, y) => {
        difference = Math.max(difference, Math.abs(logp - twoStage[y]));
      });
    }
  const twoStageTheta = reward.theta.map((w, j) => referenceTheta[j] + w / beta);
  console.log(`\nreference θ (${referenceTheta.join(', ')})\n`);
  console.log(
    textTable(
      ['worse group', 'relative reward error', 'reward error', 'KL', 'alpha of group 0'],
      [row('GR-DPO', direct.theta, direct.alpha), row('robust reward, then policy', twoStageTheta, reward.alpha)],
    ),
  );
  console.log(`largest difference of log π(y|x): ${difference.toExponential(1)}`);
  if (!(difference <= 1e-8)) process.exitCode = 1;
}
