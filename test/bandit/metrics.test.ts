import { describe, expect, test } from 'vitest';
import { trueTheta } from '../../src/bandit/environment.js';
import { TestSet } from '../../src/bandit/metrics.js';
import { marginLoss } from '../../src/objective/losses.js';
import { groupLosses } from '../../src/policy/group-losses.js';

describe('metrics at one state (oracle O7)', () => {
  const test7 = new TestSet('swapped', [[0.25, 0.6]]);

  test('a wrong policy', () => {
    const [first, second] = test7.evaluate(Float64Array.of(0.5, -1, 2, 0.25));
    expect(first.absoluteError).toBeCloseTo(1.2073953915215876, 12);
    expect(first.relativeError).toBeCloseTo(0.22473289622549275, 12);
    expect(first.divergence).toBeCloseTo(0.22775155148314796, 12);
    expect(second.absoluteError).toBe(0);
    expect(second.relativeError).toBe(0);
    expect(second.divergence).toBeCloseTo(0.007671073394739866, 12);
  });

  test('the true parameters of a group leave it no error', () => {
    [0, 1]
      .map((g) => trueTheta(g))
      .forEach((theta, g) => {
        const metrics = test7.evaluate(theta)[g];
        expect(metrics.absoluteError).toBe(0);
        expect(Math.abs(metrics.divergence)).toBeLessThan(1e-15);
      });
  });
});

test('the relative error is a ratio of means over states, not a mean of ratios', () => {
  const states = [
    [0.25, 0.6],
    [0.9, 0.1],
    [0.5, 0.95],
  ];
  // The opposite of the truth, so that no state has zero error and each one's best reward can be read back.
  const theta = trueTheta(0).map((value) => -value);
  const alone = states.map((state) => new TestSet('swapped', [state]).evaluate(theta)[0]);
  const together = new TestSet('swapped', states).evaluate(theta)[0];
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const best = alone.map((one) => one.absoluteError / one.relativeError);
  expect(together.absoluteError).toBeCloseTo(mean(alone.map((one) => one.absoluteError)), 12);
  expect(together.divergence).toBeCloseTo(mean(alone.map((one) => one.divergence)), 12);
  expect(together.relativeError).toBeCloseTo(together.absoluteError / mean(best), 12);
  expect(Math.abs(together.relativeError - mean(alone.map((one) => one.relativeError)))).toBeGreaterThan(1e-3);
});

test('group losses are means within the group (oracle O11)', () => {
  const problem = {
    dimension: 1,
    groups: [
      { count: 1, differences: Float64Array.of(1) },
      { count: 4, differences: Float64Array.of(2, 2, 2, 2) },
    ],
  };
  const [first, second] = groupLosses(problem, marginLoss({ loss: 'ipo', beta: 0.5 }), Float64Array.of(0.6));
  expect(first).toBeCloseTo(0.16, 14);
  expect(second).toBeCloseTo(0.04, 14);
});
