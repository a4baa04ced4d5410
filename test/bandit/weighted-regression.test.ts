import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { solveSymmetric, WeightedRegression } from '../../src/bandit/weighted-regression.js';
import { InputError } from '../../src/errors.js';
import type { LogLinearProblem } from '../../src/policy/log-linear-problem.js';

const rows = [
  [1, 0],
  [0, 1],
  [1, 1],
  [2, -1],
];
const ipo = { loss: 'ipo', beta: 0.25 } as const;

function problemOf(groups: number[][][]): LogLinearProblem {
  return {
    dimension: groups[0][0].length,
    groups: groups.map((pairs) => ({ count: pairs.length, differences: Float64Array.from(pairs.flat()) })),
  };
}

function expectClose(actual: ArrayLike<number>, expected: number[], tolerance: number): void {
  expect(actual.length).toBe(expected.length);
  expected.forEach((value, i) => {
    expect(Math.abs(actual[i] - value)).toBeLessThan(tolerance);
  });
}

describe('weighted regression (oracle O15)', () => {
  test('weights α_g/N_g', () => {
    const regression = new WeightedRegression(problemOf([rows.slice(0, 2), rows.slice(2)]), ipo);
    expectClose(regression.solve([0.3 / 2, 0.7 / 2]), [1.437185929648, 0.94472361809], 1e-11);
  });

  test('ridge', () => {
    const regression = new WeightedRegression(problemOf([rows.slice(0, 2), rows.slice(2)]), ipo, 0.1);
    expectClose(regression.solve([0.3 / 2, 0.7 / 2]), [1.341772151899, 0.810126582278], 1e-11);
  });

  test('unequal groups, and the unweighted solution', () => {
    const regression = new WeightedRegression(problemOf([rows.slice(0, 1), rows.slice(1)]), ipo);
    expectClose(regression.solve([1 / 2, 1 / 2 / 3]), [1.652173913043, 1.217391304348], 1e-11);
    expectClose(regression.solve([1, 1]), [1.529411764706, 1.176470588235], 1e-11);
  });

  test('offsets move the target: ⟨d,θ⟩ − o = 1/(2β)', () => {
    const problem = problemOf([rows.slice(0, 2)]);
    problem.groups[0].offsets = Float64Array.of(0.5, -3);
    expectClose(new WeightedRegression(problem, ipo).solve([1]), [2.5, -1], 1e-12);
  });

  test('scaling all weights leaves θ', () => {
    const regression = new WeightedRegression(problemOf([rows.slice(0, 2), rows.slice(2)]), ipo);
    fc.assert(
      fc.property(fc.double({ min: 1e-6, max: 1e6, noNaN: true }), (scale) => {
        expectClose(regression.solve([0.3 * scale, 0.7 * scale]), [...regression.solve([0.3, 0.7])], 1e-9);
      }),
    );
  });

  test('the loss must be quadratic', () => {
    expect(() => new WeightedRegression(problemOf([rows]), { loss: 'dpo', beta: 1 })).toThrow(InputError);
  });
});

describe('solveSymmetric', () => {
  test('rows must be exchanged', () => {
    expectClose(
      solveSymmetric(
        [
          [0, 1],
          [1, 0],
        ],
        [2, 3],
      ),
      [3, 2],
      1e-15,
    );
  });

  test('singular: the solution of least norm', () => {
    // x + 2y = 5 twice over: the point of that line nearest to 0 is (1, 2).
    expectClose(
      solveSymmetric(
        [
          [1, 2],
          [2, 4],
        ],
        [5, 10],
      ),
      [1, 2],
      1e-12,
    );
    expectClose(
      solveSymmetric(
        [
          [0, 0],
          [0, 0],
        ],
        [0, 0],
      ),
      [0, 0],
      1e-15,
    );
  });

  test('any symmetric positive semi-definite matrix of any rank', () => {
    const value = fc.double({ min: -3, max: 3, noNaN: true });
    const matrix = fc.array(fc.array(value, { minLength: 4, maxLength: 4 }), { minLength: 1, maxLength: 6 });
    fc.assert(
      fc.property(matrix, (pairs) => {
        const gram = [0, 1, 2, 3].map((j) => [0, 1, 2, 3].map((k) => pairs.reduce((s, d) => s + d[j] * d[k], 0)));
        const right = [0, 1, 2, 3].map((j) => pairs.reduce((sum, d) => sum + d[j], 0));
        const x = solveSymmetric(gram, right);
        const size = Math.max(...gram.flat(), 1e-300);
        // Squared singular values below 1e-12 of the largest are cut, so residuals up to 1e-6 in the rows remain.
        gram.forEach((row, j) => {
          const residual = row.reduce((sum, a, k) => sum + a * x[k], 0) - right[j];
          expect(Math.abs(residual)).toBeLessThan(1e-5 * Math.sqrt(size * pairs.length));
        });
      }),
      { numRuns: 300, seed: 1 },
    );
  });
});
