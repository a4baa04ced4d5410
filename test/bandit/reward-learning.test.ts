import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { trueTheta } from '../../src/bandit/environment.js';
import { actionCount, dot, features } from '../../src/bandit/features.js';
import { initialTheta, testStates, trainingProblem } from '../../src/bandit/preferences.js';
import { trainReward } from '../../src/bandit/reward-learning.js';
import { train } from '../../src/bandit/training.js';
import { InputError } from '../../src/errors.js';
import { marginLoss } from '../../src/objective/losses.js';
import { logSoftmax } from '../../src/policy/log-linear.js';
import { regularisedPolicy } from '../../src/policy/regularised-policy.js';
import { minimax } from '../../src/theory/minimax.js';

const setting = { features: 'swapped', responses: 'uneven', data: 'imbalanced' } as const;
const weights = { weights: 'mirror-ascent', step: 0.5 } as const;
const iterations = 2000;
const references = [
  { name: 'uniform', theta: [0, 0, 0, 0] },
  { name: 'non-uniform', theta: [0.8, -1, 0.3, 2] },
];

/** Largest |log π − log π'| over 100 test states, both groups and all actions. */
function policyDistance(w: Float64Array, theta: Float64Array, referenceTheta: number[], beta: number): number {
  let largest = 0;
  for (const state of testStates(7).slice(0, 100))
    for (const group of [0, 1]) {
      const rows = Array.from({ length: actionCount }, (_, y) => features(setting.features, state, y, group));
      const flat = Float64Array.from(rows.flatMap((row) => [...row]));
      const twoStage = regularisedPolicy(
        Float64Array.from(rows, (row) => dot(row, w)),
        logSoftmax(flat, Float64Array.from(referenceTheta)),
        beta,
      );
      logSoftmax(flat, theta).forEach((logp, y) => {
        largest = Math.max(largest, Math.abs(logp - twoStage[y]));
      });
    }
  return largest;
}

describe.each(references)('Proposition 3.2, $name reference', ({ theta: referenceTheta }) => {
  const problem = trainingProblem({ ...setting, referenceTheta }, 2021);

  it.each([0.1, 0.5, 2])('robust reward, then the closed-form policy, is GR-DPO: β = %d', (beta) => {
    // Steps that move θ about equally far for every β.
    const learningRate = 0.9 / beta ** 2;
    const start = initialTheta(2021);
    const direct = train(
      problem,
      { solver: 'gradient', learningRate, loss: { loss: 'dpo', beta }, weights, iterations },
      start,
    );
    const reward = trainReward(
      problem,
      { weights, learningRate: beta ** 2 * learningRate, iterations },
      start.map((value, j) => beta * (value - referenceTheta[j])),
    );
    expect(policyDistance(reward.theta, direct.theta, referenceTheta, beta)).toBeLessThan(1e-9);
    reward.alpha.forEach((weight, g) => {
      expect(Math.abs(weight - direct.alpha[g])).toBeLessThan(1e-10);
    });
    // The distance can tell policies apart: a little reward more, or another β, is seen.
    expect(
      policyDistance(reward.theta.with(0, reward.theta[0] + 1e-6), direct.theta, referenceTheta, beta),
    ).toBeGreaterThan(1e-7);
    expect(policyDistance(reward.theta, direct.theta, referenceTheta, 1.01 * beta)).toBeGreaterThan(1e-3);
  });

  it('holds for the exact solutions, whatever trains them', () => {
    const beta = 0.5;
    // Labels with noise: neither problem is separable, so both minima are attained on all of R^d.
    const noisy = trainingProblem({ ...setting, deterministicRatio: 0.3, referenceTheta }, 2021);
    const direct = minimax(noisy, marginLoss({ loss: 'dpo', beta }));
    const rewardOnly = { ...noisy, groups: noisy.groups.map(({ count, differences }) => ({ count, differences })) };
    const reward = minimax(rewardOnly, marginLoss({ loss: 'dpo', beta: 1 }));
    expect(reward.value).toBeCloseTo(direct.value, 10);
    // The minimum is flat: a value to 1e-15 gives θ to about its root.
    expect(policyDistance(reward.theta, direct.theta, referenceTheta, beta)).toBeLessThan(1e-6);
  });
});

describe('reward learning', () => {
  it('favours the harder group, and lowers the worst loss against equal weights', () => {
    const problem = trainingProblem(setting, 2021);
    const worstLoss = (w: Float64Array) =>
      Math.max(
        ...problem.groups.map(({ count, differences }) => {
          let sum = 0;
          for (let i = 0; i < count; i++) sum += Math.log1p(Math.exp(-dot(differences.subarray(4 * i, 4 * i + 4), w)));
          return sum / count;
        }),
      );
    const start = new Float64Array(4);
    const learn = (weights: Parameters<typeof trainReward>[1]['weights']) =>
      trainReward(problem, { weights, learningRate: 0.9, iterations: 5000 }, start);
    const robust = learn(weights);
    expect(robust.alpha[0]).toBeGreaterThan(0.6);
    expect(worstLoss(robust.theta)).toBeLessThan(worstLoss(learn({ weights: 'uniform' }).theta) - 0.01);
    expect(worstLoss(robust.theta)).toBeLessThan(worstLoss(learn({ weights: 'erm' }).theta) - 0.01);
  });

  it('refuses what the objective refuses', () => {
    expect(() =>
      trainReward(
        trainingProblem(setting, 1),
        { weights: { ...weights, step: -1 }, learningRate: 1, iterations: 1 },
        new Float64Array(4),
      ),
    ).toThrow(InputError);
  });
});

/** E_π[r] − β KL(π‖π_ref). */
function gain(logps: Float64Array, rewards: Float64Array, reference: Float64Array, beta: number): number {
  return logps.reduce((sum, logp, y) => sum + Math.exp(logp) * (rewards[y] - beta * (logp - reference[y])), 0);
}

const actions = 4;
const arbitraryContext = fc.record({
  group: fc.integer({ min: 0, max: 2 }),
  rewards: fc.array(fc.double({ min: -3, max: 3, noNaN: true }), { minLength: actions, maxLength: actions }),
  logits: fc.array(fc.double({ min: -2, max: 2, noNaN: true }), { minLength: actions, maxLength: actions }),
});
const normalised = (logits: ArrayLike<number>) => logSoftmax(Float64Array.from(logits), Float64Array.of(1));

describe('the closed-form policy', () => {
  it('attains β log Z, more than any other policy', () => {
    fc.assert(
      fc.property(
        arbitraryContext,
        fc.double({ min: 0.05, max: 5, noNaN: true }),
        fc.array(fc.double({ min: -2, max: 2, noNaN: true }), { minLength: actions, maxLength: actions }),
        ({ rewards, logits }, beta, change) => {
          const r = Float64Array.from(rewards);
          const reference = normalised(logits);
          const best = regularisedPolicy(r, reference, beta);
          const value = gain(best, r, reference, beta);
          const z = reference.reduce((sum, logp, y) => sum + Math.exp(logp + r[y] / beta), 0);
          expect(Math.abs(value - beta * Math.log(z))).toBeLessThan(1e-9);
          const other = normalised(best.map((logp, y) => logp + change[y]));
          expect(gain(other, r, reference, beta)).toBeLessThanOrEqual(value + 1e-9);
        },
      ),
    );
  });

  it('does not change when only the policy stage is made robust', () => {
    // True rewards of both groups at two states, two actions: a policy is four numbers, one a context, and
    // max_π min_g F_g(π) can be searched on a grid without any of the formulas.
    const beta = 0.7;
    const states = [Float64Array.of(0.25, 0.6), Float64Array.of(0.8, 0.1)];
    const contexts = [0, 1].map((group) =>
      states.map((state) => ({
        rewards: Float64Array.from([1, 6], (y) => dot(features('same', state, y, group), trueTheta(group))),
        reference: normalised([0, 0.5 - group]),
      })),
    );
    const points = Array.from({ length: 4001 }, (_, n) => (n + 0.5) / 4001);
    const policyOf = (p: number) => Float64Array.of(Math.log(p), Math.log1p(-p));
    // Per group the mean over its contexts; each context has its own action, so the grid's maximum is found one by one.
    const gridMaximum = contexts.map((group) =>
      group.map(({ rewards, reference }) =>
        Math.max(...points.map((p) => gain(policyOf(p), rewards, reference, beta))),
      ),
    );
    const mean = ([a, b]: number[]) => (a + b) / 2;
    const robustOptimum = Math.min(...gridMaximum.map(mean));
    const plainPolicies = contexts.map((group) =>
      group.map(({ rewards, reference }) => regularisedPolicy(rewards, reference, beta)),
    );
    const groupGains = contexts.map((group, g) =>
      mean(group.map(({ rewards, reference }, x) => gain(plainPolicies[g][x], rewards, reference, beta))),
    );
    expect(Math.abs(groupGains[0] - groupGains[1])).toBeGreaterThan(0.1);
    // The optimum that knows no groups is a maximin point too.
    expect(Math.min(...groupGains)).toBeGreaterThanOrEqual(robustOptimum - 1e-12);
    expect(Math.min(...groupGains) - robustOptimum).toBeLessThan(1e-5);

    // And the maximin algorithm itself, by gradient ascent on logits and mirror descent on α, comes to the same policy.
    const logits = contexts.map((group) => group.map(() => Float64Array.of(0, 0)));
    let alpha = [0.5, 0.5];
    for (let step = 0; step < 4000; step++) {
      const gains = contexts.map((group, g) =>
        mean(group.map(({ rewards, reference }, x) => gain(normalised(logits[g][x]), rewards, reference, beta))),
      );
      contexts.forEach((group, g) => {
        group.forEach(({ rewards, reference }, x) => {
          const logps = normalised(logits[g][x]);
          const value = gain(logps, rewards, reference, beta);
          logits[g][x].forEach((_, y) => {
            const advantage = rewards[y] - beta * (logps[y] - reference[y]) - value;
            logits[g][x][y] += 0.5 * alpha[g] * Math.exp(logps[y]) * advantage;
          });
        });
      });
      // Far from a corner of the simplex: with weight 0 a group's policy would never be learned.
      const raw = alpha.map((weight, g) => weight * Math.exp(-0.01 * gains[g]));
      alpha = raw.map((weight) => Math.max(0.1, weight / (raw[0] + raw[1])));
    }
    logits.forEach((group, g) => {
      group.forEach((entry, x) => {
        normalised(entry).forEach((logp, y) => {
          expect(Math.abs(logp - plainPolicies[g][x][y])).toBeLessThan(1e-6);
        });
      });
    });
  });
});
