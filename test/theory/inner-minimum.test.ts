import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { lossWith, marginLoss } from '../../src/objective/losses.js';
import { groupDerivatives, groupLosses } from '../../src/policy/group-losses.js';
import { innerMinimum } from '../../src/theory/inner-minimum.js';
import { findSeparation } from '../../src/theory/separability.js';
import { arbitraryProblem, leastOnBall, plainLosses, problemOf, rowsOf, smoothLosses } from './problems.js';

const norm = (v: ArrayLike<number>) => Math.hypot(...Array.from(v));
const losses = fc
  .constantFrom(...smoothLosses)
  .map((settings) => lossWith(['convexity', 'curvature'], marginLoss(settings), 'a test'));

describe('group losses', () => {
  it('are the group means, with gradients and Hessians that central differences confirm', () => {
    fc.assert(
      fc.property(arbitraryProblem(), losses, fc.double({ min: -1, max: 1, noNaN: true }), (problem, loss, spread) => {
        const theta = Float64Array.from(
          { length: problem.dimension },
          (_, j) => spread * (j + 1) * (j % 2 ? -0.3 : 0.2),
        );
        const plain = plainLosses(problem, loss, theta);
        const exact = groupDerivatives(problem, loss, theta);
        for (const [g, value] of groupLosses(problem, loss, theta).entries()) {
          expect(value).toBeCloseTo(plain[g].value, 11);
          expect(exact[g].loss).toBeCloseTo(plain[g].value, 11);
        }
        const e = 1e-5;
        for (let j = 0; j < theta.length; j++) {
          const shifted = (by: number) => plainLosses(problem, loss, theta.with(j, theta[j] + by));
          const [up, down] = [shifted(e), shifted(-e)];
          for (let g = 0; g < exact.length; g++) {
            expect(exact[g].gradient[j]).toBeCloseTo((up[g].value - down[g].value) / (2 * e), 5);
            for (let k = 0; k < theta.length; k++)
              expect(exact[g].hessian[j][k]).toBeCloseTo((up[g].gradient[k] - down[g].gradient[k]) / (2 * e), 5);
          }
        }
      }),
      { numRuns: 50 },
    );
  });
});

describe('inner minimum', () => {
  it('brackets q(α) tightly, inside the ball, and no other point of the ball is better', () => {
    fc.assert(
      fc.property(
        arbitraryProblem({ groups: [1, 4], dimension: [1, 4] }),
        losses,
        fc.constantFrom(0.3, 2, 10),
        fc.array(fc.double({ min: 0.01, max: 1, noNaN: true }), { minLength: 4, maxLength: 4 }),
        fc.array(fc.double({ min: -1, max: 1, noNaN: true }), { minLength: 4, maxLength: 4 }),
        (problem, loss, radius, raw, direction) => {
          const weights = raw.slice(0, problem.groups.length);
          const total = weights.reduce((sum, weight) => sum + weight, 0);
          const alpha = weights.map((weight) => weight / total);
          const { theta, value, lower } = innerMinimum(problem, loss, alpha, radius);
          expect(norm(theta)).toBeLessThanOrEqual(radius * (1 + 1e-12));
          const at = (point: ArrayLike<number>) =>
            plainLosses(problem, loss, point).reduce((sum, group, g) => sum + alpha[g] * group.value, 0);
          expect(value).toBeCloseTo(at(theta), 10);
          expect(value - lower).toBeLessThan(1e-10 * Math.max(1, value));
          const point = direction.slice(0, problem.dimension);
          const other = point.map((entry) => (radius * entry) / Math.max(1, norm(point)));
          expect(at(other)).toBeGreaterThanOrEqual(lower - 1e-10);
        },
      ),
      { numRuns: 150 },
    );
  });

  it('never lies above the least value that golden sections find, from any start, whatever the loss', () => {
    fc.assert(
      fc.property(
        arbitraryProblem({ groups: [1, 3], dimension: [1, 2] }).filter(({ groups }) => groups[0].offsets !== undefined),
        losses,
        fc.constantFrom(undefined, 0.5, 3),
        fc.constantFrom(1, 3, 7),
        fc.array(fc.double({ min: -1, max: 1, noNaN: true }), { minLength: 2, maxLength: 2 }),
        (given, loss, radius, spread, direction) => {
          const groups = given.groups.map((group) => ({
            ...group,
            offsets: group.offsets?.map((offset) => spread * offset),
          }));
          const problem = { ...given, groups };
          const alpha = groups.map(() => 1 / groups.length);
          const reach = (radius ?? 5) / 2;
          const start = direction.slice(0, problem.dimension).map((entry) => reach * entry);
          const at = (point: number[]) =>
            plainLosses(problem, loss, point).reduce((sum, group, g) => sum + alpha[g] * group.value, 0);
          const least = leastOnBall(at, problem.dimension as 1 | 2, radius ?? 300);
          const { value, lower } = innerMinimum(problem, loss, alpha, radius, start);
          const rounding = 1e-11 * Math.max(1, least);
          expect(lower).toBeLessThanOrEqual(least + rounding);
          expect(lower).toBeLessThanOrEqual(value + rounding);
        },
      ),
      { numRuns: 300 },
    );
  });

  it('does not take the line that smoothing adds to the loss for curvature', () => {
    // Two opposite pairs, both as good as lost: hardly any curvature, and the minimum is at θ = 0 by symmetry.
    const problem = problemOf([[[1], [-1]]], [[10, 10]]);
    const loss = marginLoss({ loss: 'dpo', beta: 1, labelSmoothing: 0.25 });
    const [{ value: least }] = plainLosses(problem, loss, [0]);
    for (const start of [-1, 0.1, 1])
      expect(innerMinimum(problem, loss, [1], undefined, [start]).lower).toBeLessThanOrEqual(least + 1e-13);
  });

  it('refuses a loss without a second derivative, by its name', () => {
    const hinge = marginLoss({ loss: 'hinge', beta: 1 });
    expect(() => innerMinimum(problemOf([[[1]]]), hinge, [1], 1)).toThrow(
      /twice differentiable loss, which hinge is not/,
    );
  });

  it('never claims more than is true where curvature fades on the way to the minimum', () => {
    // One group is all but settled at θ = 4, the other still falls slowly up to the ball's edge.
    const rows = (first: number, count: number) => Array.from({ length: count }, (_, i) => [i === 0 ? first : 0]);
    const problem = problemOf([rows(2.32, 7), rows(0.01, 8)]);
    const loss = marginLoss({ loss: 'dpo', beta: 0.7 });
    for (const share of [0.01, 0.1, 0.5, 0.9]) {
      const { value, lower } = innerMinimum(problem, loss, [share, 1 - share], 10);
      const [first, second] = plainLosses(problem, loss, [10]);
      expect(value).toBeCloseTo(share * first.value + (1 - share) * second.value, 11);
      expect(value - lower).toBeLessThan(1e-10);
    }
  });

  it('solves unbounded IPO as weighted regression (O15)', () => {
    const problem = problemOf([
      [
        [1, 0],
        [0, 1],
      ],
      [
        [1, 1],
        [2, -1],
      ],
    ]);
    const { theta } = innerMinimum(problem, marginLoss({ loss: 'ipo', beta: 0.25 }), [0.3, 0.7]);
    expect(theta[0]).toBeCloseTo(1.437185929648, 10);
    expect(theta[1]).toBeCloseTo(0.94472361809, 10);
  });

  it('says with its lower bound that separable DPO on R^d has no minimiser worth the name', () => {
    const { lower } = innerMinimum(problemOf([[[1]]]), marginLoss({ loss: 'dpo', beta: 1 }), [1]);
    expect(lower).toBeLessThanOrEqual(0);
  });
});

describe('separation', () => {
  it('finds a direction along which no margin falls, and separates every pair that can be', () => {
    fc.assert(
      fc.property(arbitraryProblem({ groups: [1, 3], dimension: [1, 4] }), (problem) => {
        const found = findSeparation(problem);
        if (found === undefined) return;
        for (const [g, rows] of rowsOf(problem).entries())
          for (const [i, { d }] of rows.entries()) {
            const margin = d.reduce((sum, entry, j) => sum + entry * found.direction[j], 0);
            if (found.separated[g][i] === 1) expect(margin).toBeGreaterThan(0);
            else expect(Math.abs(margin)).toBeLessThan(1e-6 * Math.max(1, norm(d)));
          }
      }),
      { numRuns: 200 },
    );
  });

  it('is found whenever it was built in, and never when every pair has its opposite', () => {
    fc.assert(
      fc.property(arbitraryProblem({ groups: [1, 3], dimension: [2, 4] }), (problem) => {
        const rows = rowsOf(problem).map((group) => group.map(({ d }) => d));
        const leaning = rows.map((group) => group.map((d) => [0.5 + Math.abs(d[0]), ...d.slice(1)]));
        expect(findSeparation(problemOf(leaning))?.separated.every((flags) => flags.every((flag) => flag === 1))).toBe(
          true,
        );
        const opposed = rows.map((group) => group.flatMap((d) => [d, d.map((entry) => -entry)]));
        expect(findSeparation(problemOf(opposed))).toBeUndefined();
      }),
      { numRuns: 100 },
    );
  });

  it('separates in stages: a pair that only a lesser direction can separate', () => {
    // u = (1, 0) separates the first; the second needs the second axis too; the last two block nothing but the third axis.
    const found = findSeparation(
      problemOf([
        [
          [1, -5, 0],
          [0, 1, 0],
          [0, 0, 1],
          [0, 0, -1],
        ],
      ]),
    );
    expect(Array.from(found!.separated[0])).toEqual([1, 1, 0, 0]);
  });

  it('ends where rows are all but opposite', () => {
    // Only u = (0, 0, 0, −1) separates: the nearly parallel rows hold the first three coordinates at zero.
    const rows = [
      [-0.0001, -2.1099, 0, 0],
      [0, 0, 0.0016, 0],
      [0, 0.802, 0, 0],
      [0.0454, -0.9997, -0.0159, 0],
    ];
    const found = findSeparation(problemOf([rows, [[0, 0.3883, 0, -0.0006]]]));
    expect(found?.direction[3]).toBeCloseTo(-1, 6);
    expect(Array.from(found!.separated[1])).toEqual([1]);
    // Without the last pair nothing is left to separate along the fourth coordinate.
    expect(
      findSeparation(
        problemOf([
          [
            [1, 1e-4],
            [-1, 0],
            [0, -1],
          ],
        ]),
      ),
    ).toBeUndefined();
  });
});
