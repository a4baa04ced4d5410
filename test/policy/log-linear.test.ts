import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { features } from '../../src/bandit/features.js';
import { drawPairs } from '../../src/bandit/preferences.js';
import { train } from '../../src/bandit/training.js';
import { Random } from '../../src/numbers/random.js';
import { GroupTotals, robustStep } from '../../src/objective/aggregate.js';
import { groupWeights } from '../../src/objective/group-weights.js';
import { type LossSettings, marginLoss } from '../../src/objective/losses.js';
import { preferenceTerms } from '../../src/objective/pairs.js';
import {
  addDifferences,
  type LogLinearItem,
  LogLinearPolicy,
  margins,
  projectOnBall,
} from '../../src/policy/log-linear.js';
import type { LogLinearProblem } from '../../src/policy/log-linear-problem.js';

const theta = [0.5, -1, 2, 0.25];
const actions = [0, 1, 2, 3, 4, 5, 6, 7];

function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number): void {
  expect(actual.length).toBe(expected.length);
  for (let i = 0; i < actual.length; i++) expect(Math.abs(actual[i] - expected[i])).toBeLessThan(tolerance);
}

function item(state: ArrayLike<number>, group: number, responses: number[]): LogLinearItem {
  return { features: Float64Array.from(actions.flatMap((y) => [...features('swapped', state, y, group)])), responses };
}

describe('probabilities (oracle O5)', () => {
  const policy = new LogLinearPolicy(theta);
  const batch = [item([0.25, 0.6], 1, actions)];

  test('policy', () => {
    expectClose(
      policy.logProbabilities(batch, 'policy').map(Math.exp),
      [
        0.278197894085, 0.196302724092, 0.145635826641, 0.112057885402, 0.088611654275, 0.071560486503, 0.058753325517,
        0.048880203485,
      ],
      1e-11,
    );
    const logps = policy.forward(batch);
    expect(Math.abs(logps[6] - logps[2] + 0.9077614116178)).toBeLessThan(1e-12);
  });

  test('the reference is uniform, or log-linear with parameters of its own', () => {
    expectClose(policy.logProbabilities(batch, 'reference'), new Array(8).fill(-Math.log(8)), 1e-15);
    const other = new LogLinearPolicy([0, 0, 0, 0], { referenceTheta: theta });
    expect(other.logProbabilities(batch, 'reference')).toEqual(policy.logProbabilities(batch, 'policy'));
  });
});

describe('gradient', () => {
  /** ∇ of one pair's loss, read off a step of length one. */
  function pairGradient(settings: LossSettings): { loss: number; gradient: number[] } {
    const policy = new LogLinearPolicy(theta);
    const batch = [item([0.25, 0.6], 1, [0, 5])];
    const [chosen, rejected] = policy.forward(batch);
    const loss = marginLoss(settings);
    const slope = loss.derivative(chosen - rejected);
    policy.backward(Float64Array.of(slope, -slope), Int32Array.of(0));
    policy.step(Float64Array.of(1), { learningRate: 1 });
    return { loss: loss.value(chosen - rejected), gradient: theta.map((value, j) => value - policy.theta[j]) };
  }

  test('of one pair (oracle O6)', () => {
    const dpo = pairGradient({ loss: 'dpo', beta: 1 });
    expect(dpo.loss).toBeCloseTo(0.22890986523696763, 12);
    expectClose(dpo.gradient, [-0.0556438, 0.09042118, -0.07484075, -0.0395155], 1e-7);
    const ipo = pairGradient({ loss: 'ipo', beta: 0.1 });
    expect(ipo.loss).toBeCloseTo(13.26569621522162, 11);
    expectClose(ipo.gradient, [-1.98110126, 3.21928954, -2.6645753, -1.40688112], 1e-7);
  });

  test('of any combination of log-probabilities, by central differences', () => {
    const cotangent = fc.double({ min: -2, max: 2, noNaN: true });
    fc.assert(
      fc.property(fc.array(cotangent, { minLength: 5, maxLength: 5 }), fc.nat(1000), (cotangents, seed) => {
        const random = Random.stream(seed, 'test');
        const state = () => [random.uniform(), random.uniform()];
        const batch = [item(state(), 0, [3, 3]), item(state(), 1, [0, 7, 2])];
        const coefficients = Float64Array.of(0.7, -1.3);
        const value = (at: number[]) => {
          const logps = new LogLinearPolicy(at).forward(batch);
          return logps.reduce((sum, logp, r) => sum + coefficients[r < 2 ? 1 : 0] * cotangents[r] * logp, 0);
        };
        const policy = new LogLinearPolicy(theta);
        policy.forward(batch);
        policy.backward(Float64Array.from(cotangents), Int32Array.of(1, 0));
        policy.step(coefficients, { learningRate: 1 });
        const step = 1e-5;
        theta.forEach((centre, j) => {
          const moved = (by: number) => value(theta.map((entry, k) => (k === j ? entry + by : entry)));
          const slope = (moved(step) - moved(-step)) / (2 * step);
          expect(Math.abs(centre - policy.theta[j] - slope)).toBeLessThan(1e-8);
        });
      }),
      { numRuns: 30, seed: 1 },
    );
  });
});

describe('step', () => {
  const batch = [item([0.25, 0.6], 1, [0, 5])];
  const stepped = (cotangents: number[], settings: { learningRate: number; maxGradNorm?: number }, radius?: number) => {
    const policy = new LogLinearPolicy(theta, { radius });
    policy.forward(batch);
    policy.backward(Float64Array.from(cotangents), Int32Array.of(0));
    return { policy, report: policy.step(Float64Array.of(1), settings) };
  };
  const distance = (policy: LogLinearPolicy) => Math.hypot(...theta.map((value, j) => value - policy.theta[j]));

  test('reports the norm and cuts it', () => {
    const { policy, report } = stepped([3, -3], { learningRate: 0.5, maxGradNorm: 0.1 });
    expect(report.gradNorm).toBeGreaterThan(0.1);
    expect(distance(policy)).toBeCloseTo(0.05, 12);
  });

  test('stays in the ball', () => {
    const { policy } = stepped([3, -3], { learningRate: 5 }, 1.5);
    expect(Math.hypot(...policy.theta)).toBeCloseTo(1.5, 12);
  });

  test('a gradient that is not finite changes nothing and is forgotten', () => {
    const { policy, report } = stepped([Number.NaN, 0], { learningRate: 1 });
    expect(report.gradNorm).toBeNaN();
    expect([...policy.theta]).toEqual(theta);
    expect(policy.step(Float64Array.of(1), { learningRate: 1 }).gradNorm).toBe(0);
  });
});

test('projection leaves the inside alone', () => {
  const inside = Float64Array.of(0.3, -0.4);
  projectOnBall(inside, 1);
  expect([...inside]).toEqual([0.3, -0.4]);
  projectOnBall(inside, 0.05);
  expectClose(inside, [0.03, -0.04], 1e-16);
  // Sizes whose squares are infinite, or zero.
  for (const size of [1e200, 1e-200]) {
    const far = Float64Array.of(3 * size, 4 * size);
    projectOnBall(far, 2.5 * size);
    expect(far[0] / size).toBeCloseTo(1.5, 12);
    expect(far[1] / size).toBeCloseTo(2, 12);
  }
});

test('margins subtract the offset; differences add up', () => {
  const group = { count: 2, differences: Float64Array.of(1, 2, -3, 0.5), offsets: Float64Array.of(0.25, -1) };
  expectClose(margins(group, Float64Array.of(2, -1), new Float64Array(2)), [-0.25, -5.5], 1e-15);
  const sum = Float64Array.of(10, 20);
  addDifferences(group, Float64Array.of(2, -1), sum);
  expectClose(sum, [15, 23.5], 1e-15);
});

test('margins and sums of differences are those of the definition, for any number of rows and columns', () => {
  const entry = fc.double({ min: -3, max: 3, noNaN: true });
  const shape = fc.record({ rows: fc.integer({ min: 1, max: 7 }), d: fc.integer({ min: 1, max: 10 }) });
  fc.assert(
    fc.property(
      shape.chain(({ rows, d }) =>
        fc.record({
          matrix: fc.array(fc.array(entry, { minLength: d, maxLength: d }), { minLength: rows, maxLength: rows }),
          theta: fc.array(entry, { minLength: d, maxLength: d }),
          slopes: fc.array(entry, { minLength: rows, maxLength: rows }),
        }),
      ),
      ({ matrix, theta, slopes }) => {
        const group = { count: matrix.length, differences: Float64Array.from(matrix.flat()) };
        const found = margins(group, Float64Array.from(theta), new Float64Array(matrix.length).fill(7));
        expectClose(
          found,
          matrix.map((row) => row.reduce((sum, value, j) => sum + value * theta[j], 0)),
          1e-13,
        );
        const sum = Float64Array.from(theta);
        addDifferences(group, Float64Array.from(slopes), sum);
        expectClose(
          sum,
          theta.map((start, j) => matrix.reduce((total, row, i) => total + slopes[i] * row[j], start)),
          1e-13,
        );
      },
    ),
  );
});

describe('the policy and its margin form train alike', () => {
  const setting = { features: 'swapped', responses: 'even', data: 'imbalanced' } as const;
  const sizes = [7, 12];
  const referenceTheta = [1, 0.5, -0.5, 2];
  const pairs = sizes.map((size, g) => drawPairs(setting, g, size, Random.stream(9, 'test', g)));
  const batch = pairs.flatMap((group, g) => group.map((pair) => item(pair.state, g, [pair.chosen, pair.rejected])));
  const groupOf = Int32Array.from(sizes.flatMap((size, g) => new Array<number>(size).fill(g)));

  const difference = (pair: { state: Float64Array; chosen: number; rejected: number }, g: number) => {
    const loser = features('swapped', pair.state, pair.rejected, g);
    return features('swapped', pair.state, pair.chosen, g).map((value, j) => value - loser[j]);
  };
  const problem: LogLinearProblem = {
    dimension: 4,
    groups: pairs.map((group, g) => ({
      count: group.length,
      differences: Float64Array.from(group.flatMap((pair) => [...difference(pair, g)])),
      offsets: Float64Array.from(group, (pair) =>
        difference(pair, g).reduce((sum, value, j) => sum + value * referenceTheta[j], 0),
      ),
    })),
  };

  test.each([
    { loss: 'dpo', beta: 1 },
    { loss: 'dpo', beta: 0.5, labelSmoothing: 0.1 },
    { loss: 'ipo', beta: 0.1 },
    { loss: 'hinge', beta: 0.3 },
  ] as LossSettings[])('$loss, beta $beta', (loss) => {
    const weights = { weights: 'mirror-ascent', step: 0.5, chi: 0.8 } as const;
    const policy = new LogLinearPolicy(theta, { referenceTheta });
    const weighting = groupWeights(weights, sizes);
    const iterations = 5;
    for (let t = 0; t < iterations; t++) {
      const reference = policy.logProbabilities(batch, 'reference');
      const logps = policy.forward(batch);
      const chosen = (values: Float64Array) => values.filter((_, r) => r % 2 === 0);
      const rejected = (values: Float64Array) => values.filter((_, r) => r % 2 === 1);
      const terms = preferenceTerms(marginLoss(loss), 'sum', {
        chosen: chosen(logps),
        rejected: rejected(logps),
        referenceChosen: chosen(reference),
        referenceRejected: rejected(reference),
      });
      const totals = new GroupTotals(2);
      terms.losses.forEach((value, i) => {
        totals.add(groupOf[i], value);
      });
      const cotangents = logps.map((_, r) =>
        r % 2 === 0 ? terms.chosenCotangents[r / 2] : terms.rejectedCotangents[(r - 1) / 2],
      );
      policy.backward(cotangents, groupOf);
      const { coefficients } = robustStep(totals, weighting, [7 / 19, 12 / 19]);
      policy.step(coefficients, { learningRate: 0.4 });
    }
    const margin = train(problem, { solver: 'gradient', learningRate: 0.4, loss, weights, iterations }, theta);
    expectClose(margin.theta, policy.theta, 1e-12);
    expectClose(margin.alpha, weighting.alpha, 1e-12);
    expect(Math.hypot(...policy.theta.map((value, j) => value - theta[j]))).toBeGreaterThan(0.05);
  });
});
