import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { GroupRobustError, InputError } from '../../src/errors.js';
import { marginLoss } from '../../src/objective/losses.js';
import { minimax } from '../../src/theory/minimax.js';
import { findSeparation } from '../../src/theory/separability.js';
import { arbitraryProblem, leastOnBall, plainLosses, problemOf, rowsOf, smoothLosses } from './problems.js';

const dpo = marginLoss({ loss: 'dpo', beta: 1 });
const norm = (v: ArrayLike<number>) => Math.hypot(...Array.from(v));

describe('minimax', () => {
  it('O11: two scalar IPO groups', () => {
    const solution = minimax(problemOf([[[1]], [[2]]]), marginLoss({ loss: 'ipo', beta: 0.5 }));
    expect(solution.theta[0]).toBeCloseTo(2 / 3, 9);
    expect(solution.value).toBeCloseTo(1 / 9, 10);
    expect(solution.alpha[0]).toBeCloseTo(2 / 3, 9);
    expect(solution.alpha[1]).toBeCloseTo(1 / 3, 9);
    expect(solution.upper - solution.lower).toBeLessThanOrEqual(1e-10);
  });

  it('agrees with the closed form of two scalar IPO groups, whatever their sizes', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.05, max: 5, noNaN: true }),
        fc.double({ min: 1.05, max: 20, noNaN: true }),
        fc.double({ min: 0.05, max: 5, noNaN: true }),
        fc.integer({ min: 1, max: 6 }),
        (a, ratio, beta, copies) => {
          const b = a * ratio;
          const c = 1 / (2 * beta);
          const { theta, value, alpha } = minimax(
            problemOf([new Array<number[]>(copies).fill([a]), [[b]]]),
            marginLoss({ loss: 'ipo', beta }),
          );
          const expected = (c * (b - a)) / (a + b);
          expect(Math.abs(theta[0] - (2 * c) / (a + b))).toBeLessThan(1e-8 * (1 + c / a));
          expect(Math.abs(value - expected ** 2)).toBeLessThan(1e-10 * Math.max(1, expected ** 2));
          expect(Math.abs(alpha[0] - b / (a + b))).toBeLessThan(1e-7);
        },
      ),
    );
  });

  it('finds the corner of a ball that the closed form would leave', () => {
    const { theta, value, alpha } = minimax(problemOf([[[1]], [[2]]]), marginLoss({ loss: 'ipo', beta: 0.5 }), 0.5);
    expect(theta[0]).toBeCloseTo(0.5, 9);
    expect(value).toBeCloseTo(0.25, 10);
    expect(alpha[0]).toBeCloseTo(1, 9);
  });

  it('encloses what golden sections find, for every smooth loss', () => {
    fc.assert(
      fc.property(
        arbitraryProblem({ groups: [1, 3], dimension: [1, 2] }),
        fc.constantFrom(...smoothLosses),
        fc.constantFrom(0.5, 3, 20),
        (problem, settings, radius) => {
          const loss = marginLoss(settings);
          const worstAt = (theta: number[]) => Math.max(...plainLosses(problem, loss, theta).map(({ value }) => value));
          const least = leastOnBall(worstAt, problem.dimension as 1 | 2, radius);
          const { lower, upper } = minimax(problem, loss, radius);
          expect(least).toBeGreaterThanOrEqual(lower - 1e-11 * Math.max(1, upper));
          expect(least - upper).toBeLessThan(1e-7 * Math.max(1, upper));
        },
      ),
      { numRuns: 60 },
    );
  });

  it('is attained on R^d with smoothed labels, even of separable pairs', () => {
    // The slope β(ε − p) of every pair is 0 at p = ε: that is where one pair by itself ends, and groups of equal pairs alike.
    const smoothed = marginLoss({ loss: 'dpo', beta: 2, labelSmoothing: 0.3 });
    const { theta, value } = minimax(problemOf([[[1], [1]], [[1]]]), smoothed);
    expect(theta[0]).toBeCloseTo(Math.log(0.7 / 0.3) / 2, 6);
    expect(value).toBeCloseTo(-0.7 * Math.log(0.7) - 0.3 * Math.log(0.3), 10);
  });

  it('is attained with smoothed labels however far beyond their target a step of Newton leads', () => {
    // From θ = 0 the model of such a pair has its minimum where the curvature is e^−36 or less; 8 problems of ten thousand at random were like it.
    fc.assert(
      fc.property(
        fc.double({ min: 1, max: 30, noNaN: true }),
        fc.constantFrom(0.3, 1, 3, 10),
        fc.constantFrom(1e-3, 0.05, 0.3),
        fc.boolean(),
        (start, beta, labelSmoothing, withOther) => {
          const rows = withOther
            ? [
                [0.01, 0],
                [0, 0.01],
              ]
            : [[0.01, 0]];
          const problem = problemOf([rows], [rows.map((_, n) => (n === 0 ? start / beta : 0))]);
          const { value } = minimax(problem, marginLoss({ loss: 'dpo', beta, labelSmoothing }));
          // Each pair has a coordinate of its own, so each ends at the least of its loss, the entropy of its label.
          const entropy =
            -labelSmoothing * Math.log(labelSmoothing) - (1 - labelSmoothing) * Math.log(1 - labelSmoothing);
          expect(value).toBeCloseTo(entropy, 9);
        },
      ),
    );
  });

  it('is 0 where every pair of an IPO problem is at its target from the start', () => {
    expect(minimax(problemOf([[[1]], [[2]]], [[-1], [-1]]), marginLoss({ loss: 'ipo', beta: 0.5 })).value).toBeLessThan(
      1e-20,
    );
  });

  it('agrees with a fine grid for DPO, d = 1, K = 2', () => {
    fc.assert(
      fc.property(
        arbitraryProblem({ groups: [2, 2], dimension: [1, 1] }),
        fc.constantFrom(0.3, 1, 2),
        (problem, beta) => {
          const loss = marginLoss({ loss: 'dpo', beta });
          const radius = 3;
          let best = Number.POSITIVE_INFINITY;
          let at = 0;
          const worstAt = (theta: number) => Math.max(...plainLosses(problem, loss, [theta]).map(({ value }) => value));
          for (const width of [radius, 0.1, 1e-3, 1e-5, 1e-7]) {
            const centre = at;
            for (let n = -100; n <= 100; n++) {
              const theta = Math.max(-radius, Math.min(radius, centre + (width * n) / 100));
              const value = worstAt(theta);
              if (value < best) {
                best = value;
                at = theta;
              }
            }
          }
          const { lower, upper } = minimax(problem, loss, radius);
          // A grid point of spacing 1e-9 can be worse than the minimum by slope times spacing, never better.
          expect(best).toBeGreaterThanOrEqual(lower - 1e-12);
          expect(best - upper).toBeLessThan(1e-7);
        },
      ),
      { numRuns: 40 },
    );
  });

  it('satisfies the KKT conditions with a bracket within 1e-10, K = 1..4, d = 1..5, ball or not', () => {
    let solved = 0;
    fc.assert(
      fc.property(
        arbitraryProblem(),
        fc.constantFrom(...smoothLosses),
        fc.constantFrom(0.1, 1, 3),
        fc.constantFrom(undefined, 0.5, 3, 20),
        (problem, settings, beta, radius) => {
          const loss = marginLoss({ ...settings, beta });
          // Separable DPO pairs on R^d are refused where the infimum is not attained; where it hardly is, at a θ so far out that
          // double precision proves nothing there, an error is right too. A number never is, unless proven.
          const separable = loss.vanishing && radius === undefined && findSeparation(problem) !== undefined;
          const solution = attempt(
            () => minimax(problem, loss, radius),
            separable ? ['NOT_ATTAINED', 'MINIMAX_BRACKET'] : [],
          );
          if (solution === undefined) return;
          solved++;
          const { theta, alpha, lower, upper, value } = solution;
          const groups = plainLosses(problem, loss, theta);
          const size = Math.max(1, value);
          expect(upper - lower).toBeLessThanOrEqual(1e-10 * size);
          expect(alpha.reduce((sum, weight) => sum + weight, 0)).toBeCloseTo(1, 12);
          for (const [g, group] of groups.entries()) {
            expect(alpha[g]).toBeGreaterThanOrEqual(0);
            expect(group.value).toBeLessThanOrEqual(value + 1e-10 * size);
            // L_g = v wherever α_g > 0.
            expect(alpha[g] * (value - group.value)).toBeLessThan(1e-9 * size);
          }
          const pull = Array.from(theta, (_, j) =>
            groups.reduce((sum, { gradient }, g) => sum + alpha[g] * gradient[j], 0),
          );
          // A convex f that is within δ of its least value, and whose slope changes by at most L a unit, has |∇f|² ≤ 2Lδ; and on a ball its
          // linearisation at θ falls by at most 2R √(2Lδ), or 2δ where that is more. The bracket proves δ, up to rounding.
          const gap = upper - lower + 1e-15 * size;
          const longest = Math.max(...rowsOf(problem).flatMap((rows) => rows.map(({ d }) => norm(d))));
          const curvature = loss.name === 'ipo' ? 2 : beta ** 2 / 4;
          const slope = longest * Math.sqrt(2 * curvature * gap);
          const rounding = 1e-12 * Math.max(1, ...groups.map(({ gradient }) => norm(gradient)));
          if (radius === undefined) expect(norm(pull)).toBeLessThanOrEqual(slope + rounding);
          else {
            expect(norm(theta)).toBeLessThanOrEqual(radius * (1 + 1e-12));
            // Σ α ∇L = −νθ with ν ≥ 0, and ν = 0 inside: then the pull is opposite to θ, or none.
            const inner = pull.reduce((sum, entry, j) => sum + entry * theta[j], 0);
            expect(radius * norm(pull) + inner).toBeLessThanOrEqual(radius * (2 * slope + rounding) + 2 * gap);
          }
        },
      ),
      { numRuns: 300 },
    );
    expect(solved).toBeGreaterThan(200);
  });

  it('never lies above the worst group of any other point of the ball', () => {
    fc.assert(
      fc.property(
        arbitraryProblem({ groups: [2, 4], dimension: [2, 4] }),
        fc.array(fc.double({ min: -1, max: 1, noNaN: true }), { minLength: 4, maxLength: 4 }),
        fc.constantFrom('dpo' as const, 'ipo' as const),
        (problem, direction, name) => {
          const loss = marginLoss({ loss: name, beta: 0.5 });
          const point = direction.slice(0, problem.dimension);
          const theta = point.map((entry) => (2 * entry) / Math.max(1, norm(point)));
          const worst = Math.max(...plainLosses(problem, loss, theta).map(({ value }) => value));
          expect(minimax(problem, loss, 2).lower).toBeLessThanOrEqual(worst + 1e-12);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('a loss without a lower bound needs a ball, in which no point is better', () => {
    const rdpo = marginLoss({ loss: 'rdpo', beta: 1, labelSmoothing: 0.2 });
    const problem = problemOf([[[1]], [[-0.5], [2]]]);
    expect(() => minimax(problem, rdpo)).toThrow(
      /"radius": the loss rdpo with labelSmoothing 0\.2 falls without limit/,
    );
    const { value } = minimax(problem, rdpo, 3);
    let least = Number.POSITIVE_INFINITY;
    for (let theta = -3; theta <= 3; theta += 1e-3)
      least = Math.min(least, Math.max(rdpo.value(theta), (rdpo.value(-0.5 * theta) + rdpo.value(2 * theta)) / 2));
    expect(Math.abs(value - least)).toBeLessThan(1e-3);
  });

  it('does not depend on the order of groups, nor on duplicated pairs', () => {
    const a = [
      [1, 0.5],
      [-0.2, 1],
      [0.3, -1],
    ];
    const b = [
      [-1, 2],
      [1.5, 0.1],
    ];
    const value = minimax(problemOf([a, b]), dpo, 4).value;
    expect(minimax(problemOf([b, a]), dpo, 4).value).toBeCloseTo(value, 10);
    expect(minimax(problemOf([a, [...b, ...b]]), dpo, 4).value).toBeCloseTo(value, 10);
  });

  it('solves data whose pairs see only some directions, and data of large or tiny scale', () => {
    const flat = problemOf([
      [
        [1, 0, 0],
        [-2, 0, 0],
      ],
      [[1, 1, 0]],
    ]);
    expect(minimax(flat, marginLoss({ loss: 'ipo', beta: 0.1 })).upper).toBeLessThan(100);
    for (const scale of [1e-4, 1e4]) {
      const scaled = problemOf([
        [[scale], [-2 * scale], [scale]],
        [[-scale], [scale]],
      ]);
      expect(minimax(scaled, dpo).value).toBeCloseTo(
        minimax(
          problemOf([
            [[1], [-2], [1]],
            [[-1], [1]],
          ]),
          dpo,
        ).value,
        10,
      );
    }
    expect(minimax(problemOf([[[0]], [[0]]]), dpo).value).toBeCloseTo(Math.LN2, 12);
  });

  it('solves badly scaled coordinates on R^d, and never gives a number it cannot prove', () => {
    const ipo = marginLoss({ loss: 'ipo', beta: 0.5 });
    // Both pairs reach margin 1 at θ = (0, 1/ε), whatever ε.
    for (const epsilon of [1e-9, 1e-12, 1e-300])
      expect(minimax(problemOf([[...[1, 2].map((x) => [x, epsilon])]]), ipo).value).toBeLessThan(1e-10);
    // Turned, no choice of units helps: v is still 0, but at θ of size 1/ε, which double precision cannot see for small ε.
    for (const epsilon of [1e-3, 1e-5, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11]) {
      const turned = problemOf([
        [
          [1, 1],
          [2, 2 + epsilon],
        ],
      ]);
      const value = attempt(() => minimax(turned, ipo).value, ['MINIMAX_BRACKET']);
      if (epsilon >= 1e-5 || value !== undefined) expect(value).toBeLessThan(1e-10);
    }
  });

  it('brackets to 1e-10 in tiny and huge balls, with duplicates, zero differences, single pairs, opposite pairs', () => {
    const shapes = {
      'one pair a group': [[[1, 2]], [[-2, 0.5]], [[0.3, -0.7]]],
      opposite: [[[1, -2, 0.5]], [[-0.7, 1.4, -0.35]]],
      identical: [[[1, 2]], [[1, 2]]],
      'zero group': [
        [
          [1, 2],
          [0.5, -1],
        ],
        [
          [0, 0],
          [0, 0],
        ],
      ],
      'zero pair': [
        [
          [0, 0],
          [0.5, -1],
        ],
        [[1, 0.1]],
      ],
      duplicates: [
        [
          [1, 2],
          [1, 2],
          [1, 2],
        ],
        [
          [-1, 0.2],
          [-1, 0.2],
        ],
      ],
      collinear: [
        [
          [1, 3],
          [-0.5, -1.5],
        ],
        [[2, 6]],
        [[-0.1, -0.3]],
      ],
    };
    for (const [name, groups] of Object.entries(shapes))
      for (const radius of [1e-6, 1e-3, 1, 1e3, 1e6])
        for (const loss of [dpo, marginLoss({ loss: 'ipo', beta: 0.1 })]) {
          const problem = problemOf(groups);
          const { lower, upper, theta, alpha } = minimax(problem, loss, radius);
          const where = `${name}, radius ${radius}, ${loss.name}`;
          expect(upper - lower, where).toBeLessThanOrEqual(1e-10);
          expect(norm(theta), where).toBeLessThanOrEqual(radius * (1 + 1e-12));
          expect(alpha.reduce((sum, weight) => sum + weight, 0)).toBeCloseTo(1, 12);
          expect(Math.max(...plainLosses(problem, loss, theta).map(({ value }) => value))).toBeCloseTo(upper, 10);
        }
    // Tiny ball: the loss is linear in it, and two opposite groups leave θ at the centre.
    expect(minimax(problemOf([[[1, 0]], [[-1, 0]]]), dpo, 1e-6).value).toBeCloseTo(Math.LN2, 12);
    expect(minimax(problemOf([[[3, 4]]]), dpo, 1e-6).value).toBeCloseTo(Math.log1p(Math.exp(-5e-6)), 12);
  });

  it('ends where many pairs lean to one side by less than the tolerance each, and more together', () => {
    const [lean, r] = [1e-10, Math.SQRT1_2];
    const rows = Array.from({ length: 100 }, (_, i) => (i % 2 ? 1 : -1)).map((x) => [r * (x - lean), r * (x + lean)]);
    expect(findSeparation(problemOf([rows]))).toBeUndefined();
    // Far out along (−1, 1) every pair's loss goes to 0.
    const { value, upper } = minimax(problemOf([rows]), dpo);
    expect(value).toBeCloseTo(0, 10);
    expect(upper).toBeLessThanOrEqual(1e-10);
  });

  it('refuses separable DPO data on all of R^d, and names the infimum', () => {
    const separable = problemOf([
      [
        [1, 0],
        [1, 1],
      ],
      [[0.5, -0.1]],
    ]);
    expect(() => minimax(separable, dpo)).toThrow(InputError);
    expect(() => minimax(separable, dpo)).toThrow(/infimum 0\.0+ .*not attained[\s\S]*radius/);
    // Group 0: a conflict along the first axis (mean of two ln 2 and one 0) and one pair free to go.
    const partly = problemOf([
      [
        [1, 0],
        [-1, 0],
        [0, 1],
      ],
      [[0, 1]],
    ]);
    expect(() => minimax(partly, dpo)).toThrow(`infimum ${((2 * Math.LN2) / 3).toPrecision(6)}`);
    expect(minimax(separable, dpo, 5).value).toBeGreaterThan(0);
    expect(minimax(separable, marginLoss({ loss: 'ipo', beta: 1 })).value).toBeGreaterThanOrEqual(0);
  });

  it('solves separable DPO data whose separable group is not the worst one', () => {
    const { value, theta, alpha } = minimax(
      problemOf([
        [
          [1, 0],
          [-1, 0],
        ],
        [[0, 1]],
      ]),
      dpo,
    );
    expect(value).toBeCloseTo(Math.LN2, 10);
    expect(Math.abs(theta[0])).toBeLessThan(1e-5);
    expect(alpha).toEqual(Float64Array.of(1, 0));
  });

  it.each([undefined, 1])('refuses groups without pairs, and no groups, radius %s', (radius) => {
    const { dimension, groups } = problemOf([[[1]]]);
    const none = { count: 0, differences: new Float64Array(0) };
    expect(() => minimax({ dimension, groups: [...groups, none] }, dpo, radius)).toThrow(
      'field "groups": every group needs at least one pair; sizes are [1, 0]',
    );
    expect(() => minimax({ dimension, groups: [] }, dpo, radius)).toThrow('field "groups": there is no group');
  });

  it('refuses a radius that is not positive', () => {
    for (const radius of [0, -1, Number.NaN, Number.POSITIVE_INFINITY])
      expect(() => minimax(problemOf([[[1]]]), dpo, radius)).toThrow(InputError);
  });
});

/** Undefined where that error says so. */
function attempt<T>(solve: () => T, codes: readonly string[]): T | undefined {
  try {
    return solve();
  } catch (error) {
    if (error instanceof GroupRobustError && codes.includes(error.code)) return undefined;
    throw error;
  }
}
