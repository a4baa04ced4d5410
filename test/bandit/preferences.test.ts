import { describe, expect, test } from 'vitest';
import { reward, trueTheta } from '../../src/bandit/environment.js';
import { actionCount, featureMapNames, features } from '../../src/bandit/features.js';
import {
  type BanditSetting,
  dataBalances,
  drawActions,
  drawPairs,
  initialTheta,
  responseRules,
  testStates,
  trainingProblem,
  trainingSizes,
  validationProblem,
} from '../../src/bandit/preferences.js';
import { InputError } from '../../src/errors.js';
import { Random } from '../../src/numbers/random.js';
import { logSoftmax, margins } from '../../src/policy/log-linear.js';

const settings: BanditSetting[] = featureMapNames.flatMap((features) =>
  responseRules.flatMap((responses) => dataBalances.map((data) => ({ features, responses, data }))),
);
const main: BanditSetting = { features: 'swapped', responses: 'uneven', data: 'imbalanced' };

/** Counts of (first, second) action over many draws. */
function histogram(rule: 'even' | 'uneven', group: number): number[][] {
  const random = Random.stream(1, 'test', rule, group);
  const counts = Array.from({ length: 8 }, () => new Array<number>(8).fill(0));
  for (let i = 0; i < 16_000; i++) {
    const [first, second] = drawActions(rule, group, random);
    counts[first][second]++;
  }
  return counts;
}

describe('the two actions of a pair (oracle O23)', () => {
  test('even: two different actions, all 56 equally likely', () => {
    histogram('even', 0).forEach((row, first) => {
      row.forEach((count, second) => {
        // 16000/56 = 286 expected, standard deviation 17.
        if (first === second) expect(count).toBe(0);
        else expect(Math.abs(count - 286)).toBeLessThan(85);
      });
    });
  });

  test('uneven, group 0: neighbours, each side half the time, reflected at the ends', () => {
    histogram('uneven', 0).forEach((row, first) => {
      const total = row.reduce((sum, count) => sum + count, 0);
      row.forEach((count, second) => {
        if (Math.abs(first - second) !== 1) expect(count).toBe(0);
        else if (first === 0 || first === 7) expect(count).toBe(total);
        else expect(Math.abs(count / total - 0.5)).toBeLessThan(0.06);
      });
    });
  });

  test('uneven, group 1: four apart', () => {
    histogram('uneven', 1).forEach((row, first) => {
      row.forEach((count, second) => {
        expect(count > 0).toBe(second === (first + 4) % 8);
      });
    });
  });
});

test.each(settings)('$features/$responses/$data: sizes, labels and lengths of differences', (setting) => {
  const training = trainingProblem(setting, 7);
  const validation = validationProblem(setting, 7);
  expect(training.groups.map((group) => group.count)).toEqual(setting.data === 'balanced' ? [150, 150] : [60, 240]);
  expect(validation.groups.map((group) => group.count)).toEqual([500, 500]);
  for (const problem of [training, validation])
    problem.groups.forEach(({ differences, count, offsets }, g) => {
      // √2·|k − k'| at most: 7/8, or 1/8 for neighbours, or 1/2 for actions four apart.
      const longest = Math.SQRT2 * (setting.responses === 'even' ? 7 / 8 : [1 / 8, 1 / 2][g]);
      expect(differences.length).toBe(4 * count);
      expect(offsets).toBeUndefined();
      for (let i = 0; i < count; i++) {
        const d = differences.subarray(4 * i, 4 * i + 4);
        expect(Math.hypot(...d)).toBeLessThanOrEqual(longest + 1e-12);
        expect(d.reduce((sum, value, j) => sum + value * trueTheta(g)[j], 0)).toBeGreaterThanOrEqual(0);
      }
    });
});

test('the winner has the higher true reward', () => {
  for (const group of [0, 1])
    for (const { state, chosen, rejected } of drawPairs(main, group, 200, Random.stream(3, 'test')))
      expect(reward('swapped', state, chosen, group)).toBeGreaterThanOrEqual(reward('swapped', state, rejected, group));
});

test('a seed fixes everything; another seed, purpose or group changes it', () => {
  expect(trainingProblem(main, 5)).toEqual(trainingProblem(main, 5));
  expect(trainingProblem(main, 5)).not.toEqual(trainingProblem(main, 6));
  const training = trainingProblem({ ...main, data: 'balanced' }, 5).groups;
  const validation = validationProblem(main, 5).groups;
  expect(training[0].differences.slice(0, 8)).not.toEqual(validation[0].differences.slice(0, 8));
  expect(initialTheta(5)).toEqual(initialTheta(5));
  expect(initialTheta(5)).not.toEqual(initialTheta(6));
});

test('the size of one group does not shift the pairs of another', () => {
  const balanced = trainingProblem({ ...main, data: 'balanced' }, 5).groups;
  const imbalanced = trainingProblem(main, 5).groups;
  expect(balanced[0].differences.slice(0, 240)).toEqual(imbalanced[0].differences);
  expect(imbalanced[1].differences.slice(0, 600)).toEqual(balanced[1].differences);
});

test('test states fill the unit square, initial parameters [0, 5]^4', () => {
  const states = testStates(2021);
  expect(states).toHaveLength(1000);
  for (const axis of [0, 1]) {
    const values = states.map((state) => state[axis]);
    expect(Math.min(...values)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...values)).toBeLessThan(1);
    expect(Math.abs(values.reduce((sum, value) => sum + value, 0) / 1000 - 0.5)).toBeLessThan(0.04);
  }
  const thetas = Array.from({ length: 100 }, (_, seed) => [...initialTheta(seed)]).flat();
  expect(Math.min(...thetas)).toBeGreaterThanOrEqual(0);
  expect(Math.max(...thetas)).toBeLessThan(5);
  expect(Math.max(...thetas)).toBeGreaterThan(4.8);
});

describe('noisy labels', () => {
  const flips = (ratio: number | number[], group = 0) => {
    const [clean, noisy] = [main, { ...main, deterministicRatio: ratio }].map((setting) =>
      drawPairs({ ...setting, responses: 'even' }, group, 20_000, Random.stream(4, 'test'), Random.stream(4, 'labels')),
    );
    expect(noisy.map(({ state }) => state)).toEqual(clean.map(({ state }) => state));
    return noisy.filter(({ chosen }, i) => chosen !== clean[i].chosen).length;
  };

  test('never deterministic: as many labels flip as the Bradley-Terry model says, in proportion as q falls', () => {
    // E min(s(r), s(−r)) over the same pairs; the standard deviation of the count is below √(20000/4) = 71.
    const pairs = drawPairs({ ...main, responses: 'even' }, 0, 20_000, Random.stream(4, 'test'));
    const expected = pairs.reduce((sum, { state, chosen, rejected }) => {
      const gain = reward('swapped', state, chosen, 0) - reward('swapped', state, rejected, 0);
      return sum + 1 / (1 + Math.exp(gain));
    }, 0);
    expect(Math.abs(flips(0) - expected)).toBeLessThan(4 * 71);
    expect(Math.abs(flips(0.6) - 0.4 * expected)).toBeLessThan(4 * 71);
    expect(expected).toBeGreaterThan(4000);
    expect(flips(1)).toBe(0);
  });

  test('one ratio per group', () => {
    expect(flips([1, 0], 0)).toBe(0);
    expect(flips([1, 0], 1)).toBeGreaterThan(4000);
    const clean = trainingProblem(main, 5).groups;
    const noisy = trainingProblem({ ...main, deterministicRatio: [1, 0.2] }, 5).groups;
    expect(noisy[0]).toEqual(clean[0]);
    expect(noisy[1]).not.toEqual(clean[1]);
    // A flipped label turns the difference round, and does nothing else.
    for (const [i, value] of noisy[1].differences.entries())
      expect(Math.abs(value)).toBe(Math.abs(clean[1].differences[i]));
  });
});

test('a reference of the policy class: the margin of the reference itself is zero', () => {
  const referenceTheta = [0.5, -1, 2, 0.25];
  const plain = trainingProblem(main, 5);
  const problem = trainingProblem({ ...main, referenceTheta }, 5);
  problem.groups.forEach((group, g) => {
    expect(group.differences).toEqual(plain.groups[g].differences);
    const gaps = margins(group, Float64Array.from(referenceTheta), new Float64Array(group.count));
    expect(Math.max(...gaps.map(Math.abs))).toBe(0);
    // Oracle O5 of the log-ratio: log π(y_w|x) − log π(y_l|x) from the whole softmax over actions.
    const [{ state, chosen, rejected }] = drawPairs(main, g, 1, Random.stream(5, 'bandit', 'train', g));
    const rows = Float64Array.from(
      Array.from({ length: actionCount }, (_, y) => [...features('swapped', state, y, g)]).flat(),
    );
    const logps = logSoftmax(rows, Float64Array.from(referenceTheta));
    expect(group.offsets?.[0]).toBeCloseTo(logps[chosen] - logps[rejected], 12);
  });
});

describe('other numbers of groups and features', () => {
  test('sizes: parity decides, the total stays', () => {
    const sizes = (data: 'balanced' | 'imbalanced', groups: number) => trainingSizes({ ...main, data, groups });
    expect(sizes('balanced', 3)).toEqual([100, 100, 100]);
    expect(sizes('imbalanced', 3)).toEqual([50, 200, 50]);
    expect(sizes('imbalanced', 4)).toEqual([30, 120, 30, 120]);
    expect(sizes('imbalanced', 1)).toEqual([300]);
  });

  test.each([2, 6, 16])('d = %d', (dimension) => {
    const problem = trainingProblem({ ...main, groups: 3, dimension }, 5);
    expect(problem.dimension).toBe(dimension);
    problem.groups.forEach(({ differences, count }, g) => {
      expect(differences.length).toBe(count * dimension);
      for (let i = 0; i < count; i++) {
        const d = differences.subarray(dimension * i, dimension * (i + 1));
        expect(d.reduce((sum, value, j) => sum + value * trueTheta(g, dimension)[j], 0)).toBeGreaterThanOrEqual(0);
      }
    });
    expect(testStates(5, dimension)[0]).toHaveLength(dimension / 2);
    expect(initialTheta(5, dimension)).toHaveLength(dimension);
  });
});

test.each([
  [{ groups: 0 }, /groups/],
  [{ groups: 1.5 }, /groups/],
  [{ groups: 2000 }, /groups/],
  [{ dimension: 5 }, /dimension/],
  [{ dimension: 0 }, /dimension/],
  [{ deterministicRatio: 1.1 }, /deterministicRatio/],
  [{ deterministicRatio: [1, 1, 1] }, /deterministicRatio/],
  [{ referenceTheta: [1, 2] }, /referenceTheta/],
  [{ referenceTheta: [1, 2, 3, Number.NaN] }, /referenceTheta/],
])('%o is refused', (options, says) => {
  expect(() => trainingProblem({ ...main, ...options }, 1)).toThrow(InputError);
  expect(() => trainingProblem({ ...main, ...options }, 1)).toThrow(says);
});
