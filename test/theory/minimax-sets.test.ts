import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { AdversarySettings } from '../../src/objective/adversary.js';
import type { AmbiguitySettings } from '../../src/objective/ambiguity.js';
import { marginLoss } from '../../src/objective/losses.js';
import type { LogLinearProblem } from '../../src/policy/log-linear-problem.js';
import { leastMixture, minimax } from '../../src/theory/minimax.js';
import { arbitraryProblem, leastOnBall, plainLosses, problemOf, smoothLosses } from './problems.js';

const dpo = marginLoss({ loss: 'dpo', beta: 1 });
const ipo = marginLoss({ loss: 'ipo', beta: 0.5 });

const hinge = { loss: 'hinge', beta: 0.8 } as const;

const arbitrarySet: fc.Arbitrary<AmbiguitySettings> = fc.oneof(
  fc.constant({ set: 'simplex' as const }),
  fc.record({
    set: fc.constant('cvar' as const),
    level: fc.constantFrom(1, 0.999, 0.7, 0.3, 0.05),
    shares: fc.constantFrom('pairs' as const, 'uniform' as const),
  }),
  fc.record({
    set: fc.constantFrom('kl' as const, 'chi-square' as const),
    radius: fc.constantFrom(1e-6, 0.01, 0.3, Math.LN2, 1, 50),
    shares: fc.constantFrom('pairs' as const, 'uniform' as const),
  }),
);

const arbitraryAdversary = fc.record({
  ambiguity: arbitrarySet,
  chi: fc.constantFrom(1, 1, 0.5, 0),
  mixture: fc.constantFrom('pairs' as const, 'uniform' as const),
  adjustment: fc.constantFrom(0, 0, 1),
}) satisfies fc.Arbitrary<AdversarySettings>;

function sharesOf(problem: LogLinearProblem, shares: unknown): number[] {
  const counts = problem.groups.map(({ count }) => (shares === 'uniform' ? 1 : count));
  const total = counts.reduce((sum, count) => sum + count, 0);
  return counts.map((count) => count / total);
}

const sum = (values: number[]) => values.reduce((total, value) => total + value, 0);

/** How far outside of the set, by its definition; at most 0 inside. */
function excess(problem: LogLinearProblem, settings: AmbiguitySettings, alpha: ArrayLike<number>): number {
  const a = Array.from(alpha);
  const outside = Math.max(Math.abs(sum(a) - 1), ...a.map((weight) => -weight));
  if (settings.set === 'simplex') return outside;
  const p = sharesOf(problem, settings.shares);
  if (settings.set === 'cvar') return Math.max(outside, ...a.map((weight, g) => weight - p[g] / settings.level));
  const divergence =
    settings.set === 'kl'
      ? sum(a.map((weight, g) => (weight === 0 ? 0 : weight * Math.log(weight / p[g]))))
      : sum(a.map((weight, g) => p[g] * (weight / p[g] - 1) ** 2));
  return Math.max(outside, divergence - settings.radius);
}

/** The least value of a convex function between low and high, by golden sections. */
function least(f: (t: number) => number, low: number, high: number): number {
  const middle = (low + high) / 2;
  return leastOnBall(([t]) => f(middle + t), 1, (high - low) / 2);
}

/** max over the set of Σ α_g losses_g by its dual, which is a minimum over one number: nothing of best responses is in it. */
function support(problem: LogLinearProblem, settings: AmbiguitySettings, losses: number[]): number {
  const most = Math.max(...losses);
  if (settings.set === 'simplex') return most;
  const p = sharesOf(problem, settings.shares);
  const range = most - Math.min(...losses);
  if (range === 0) return most;
  if (settings.set === 'cvar') {
    // Rockafellar and Uryasev: min over t of t + E max(L − t, 0)/q, at one of the losses.
    const at = (t: number) => t + sum(losses.map((value, g) => p[g] * Math.max(0, value - t))) / settings.level;
    return Math.min(...losses.map(at));
  }
  if (settings.set === 'kl') {
    // Hu and Hong: inf over τ of τ r + τ log E e^(L/τ).
    const at = (tau: number) =>
      most + tau * (settings.radius + Math.log(sum(losses.map((value, g) => p[g] * Math.exp((value - most) / tau)))));
    const byScale = (scale: number) => at(range * Math.exp(scale));
    return least(byScale, -40, 15);
  }
  // Duchi and Namkoong: min over t of t + √((1 + r) E max(L − t, 0)²).
  const at = (t: number) =>
    t + Math.sqrt((1 + settings.radius) * sum(losses.map((value, g) => p[g] * Math.max(0, value - t) ** 2)));
  return least(at, most - 1e4 * range, most);
}

/** The robust objective at θ, by definition. */
function objective(
  problem: LogLinearProblem,
  loss: typeof dpo,
  { ambiguity = { set: 'simplex' }, chi = 1, mixture, adjustment = 0 }: AdversarySettings,
  theta: number[],
): number {
  const losses = plainLosses(problem, loss, theta).map(
    ({ value }, g) => value + (adjustment as number) / Math.sqrt(problem.groups[g].count),
  );
  const mean = sum(losses.map((value, g) => value * sharesOf(problem, mixture ?? 'uniform')[g]));
  return (1 - chi) * mean + (chi === 0 ? 0 : chi * support(problem, ambiguity, losses));
}

describe('minimax over ambiguity sets', () => {
  it('encloses what brute force over θ finds of the objective by its dual', () => {
    fc.assert(
      fc.property(
        arbitraryProblem({ groups: [2, 4], dimension: [1, 1] }),
        fc.constantFrom(...smoothLosses, hinge),
        fc.constantFrom(0.5, 3),
        arbitraryAdversary,
        (problem, settings, radius, adversary) => {
          const loss = marginLoss(settings);
          const found = leastOnBall((theta) => objective(problem, loss, adversary, theta), 1, radius);
          const { lower, upper } = minimax(problem, loss, radius, adversary);
          const size = Math.max(1, upper);
          expect(upper - lower).toBeLessThanOrEqual(1e-10 * size);
          // Golden sections in a chi-square dual as wide as 10⁴ ranges find it to 1e-9 or so.
          expect(found).toBeGreaterThanOrEqual(lower - 1e-8 * size);
          expect(found - upper).toBeLessThan(1e-6 * size);
        },
      ),
      { numRuns: 40 },
    );
  });

  it('gives what two groups on their caps leave to the third, which has all but no weight of its own', () => {
    const problem = problemOf([
      [[0.2], [0.1], [-0.3]],
      [[-0.5], [-0.1], [0.8]],
      [[0.6], [1], [-0.5]],
    ]);
    const loss = marginLoss({ loss: 'hinge', beta: 1 });
    const shares = [5001, 4990, 3485];
    const level = 0.741763;
    const caps = shares.map((share) => share / sum(shares) / level);
    // By definition of CVaR: from the worst group on, each takes all that it may.
    const cvar = (theta: number[]) => {
      let left = 1;
      return plainLosses(problem, loss, theta)
        .map(({ value }, g) => ({ value, cap: caps[g] }))
        .sort((a, b) => b.value - a.value)
        .reduce((total, { value, cap }) => {
          const part = Math.min(cap, left);
          left -= part;
          return total + part * value;
        }, 0);
    };
    const { value, lower, upper, alpha } = minimax(problem, loss, 5, { ambiguity: { set: 'cvar', level, shares } });
    expect(value).toBeCloseTo(leastOnBall(cvar, 1, 5), 9);
    expect(upper - lower).toBeLessThan(1e-10);
    expect(sum([...alpha])).toBeCloseTo(1, 12);
    expect(alpha[2]).toBeCloseTo(1 - caps[0] - caps[1], 12);
  });

  it('agrees with a grid over θ and α in two dimensions', () => {
    const problem = problemOf([
      [
        [1, 0.5],
        [-0.2, 1],
      ],
      [[-1, 2]],
      [
        [0.4, -1.5],
        [1, -0.3],
      ],
    ]);
    const sets: AmbiguitySettings[] = [
      { set: 'cvar', level: 0.6 },
      { set: 'kl', radius: 0.2, shares: 'uniform' },
      { set: 'chi-square', radius: 0.5, shares: [1, 2, 3] },
    ];
    for (const ambiguity of sets) {
      const shares = 'shares' in ambiguity && Array.isArray(ambiguity.shares) ? ambiguity.shares : undefined;
      const inside = (alpha: number[]) =>
        shares
          ? sum(alpha.map((a, g) => (shares[g] / 6) * ((6 * a) / shares[g] - 1) ** 2)) <= 0.5
          : excess(problem, ambiguity, alpha) <= 1e-12;
      const alphas: number[][] = [];
      for (let i = 0; i <= 25; i++)
        for (let j = 0; i + j <= 25; j++) {
          const alpha = [i / 25, j / 25, (25 - i - j) / 25];
          if (inside(alpha)) alphas.push(alpha);
        }
      let found = Number.POSITIVE_INFINITY;
      for (let x = -3; x <= 3; x += 0.1)
        for (let y = -3; y <= 3; y += 0.1) {
          if (x * x + y * y > 9) continue;
          const losses = plainLosses(problem, dpo, [x, y]).map(({ value }) => value);
          found = Math.min(found, Math.max(...alphas.map((alpha) => sum(alpha.map((a, g) => a * losses[g])))));
        }
      const { value, alpha } = minimax(problem, dpo, 3, { ambiguity });
      expect(Math.abs(value - found)).toBeLessThan(0.02);
      expect(inside(Array.from(alpha, (a) => a * (1 - 1e-9) + 1e-9 / 3))).toBe(true);
    }
  });

  it('is the closed form of two scalar IPO groups wherever α may be in [0.4, 0.6]', () => {
    // The free optimum has α_0 = 2/3, so α is (0.6, 0.4): θ minimises 0.6 (θ − 1)² + 0.4 (2θ − 1)².
    const theta = 1.4 / 2.2;
    const value = 0.6 * (theta - 1) ** 2 + 0.4 * (2 * theta - 1) ** 2;
    const divergence = 0.6 * Math.log(1.2) + 0.4 * Math.log(0.8);
    const settings: AdversarySettings[] = [
      { ambiguity: { set: 'cvar', level: 5 / 6 } },
      { ambiguity: { set: 'kl', radius: divergence } },
      { ambiguity: { set: 'chi-square', radius: 0.04 } },
      { chi: 0.2 },
      { floor: 0.4 },
    ];
    for (const adversary of settings) {
      const found = minimax(problemOf([[[1]], [[2]]]), ipo, undefined, adversary);
      expect(found.theta[0]).toBeCloseTo(theta, 8);
      expect(found.value).toBeCloseTo(value, 10);
      expect(found.alpha[0]).toBeCloseTo(adversary.chi === undefined ? 0.6 : 1, 8);
    }
  });

  it('goes from the pooled pairs to the worst group', () => {
    fc.assert(
      fc.property(
        arbitraryProblem({ groups: [2, 4], dimension: [1, 3] }),
        fc.constantFrom(...smoothLosses),
        (problem, settings) => {
          const loss = marginLoss(settings);
          const solved = (adversary: AdversarySettings) => minimax(problem, loss, 3, adversary).value;
          const rows = (take: (group: LogLinearProblem['groups'][number]) => Float64Array) =>
            Float64Array.from(problem.groups.flatMap((group) => Array.from(take(group))));
          const pairs = sum(problem.groups.map(({ count }) => count));
          const pool = {
            count: pairs,
            differences: rows(({ differences }) => differences),
            offsets: rows(({ offsets, count }) => offsets ?? new Float64Array(count)),
          };
          const pooled = minimax({ dimension: problem.dimension, groups: [pool] }, loss, 3).value;
          const worst = solved({});
          const smallest = Math.min(...problem.groups.map(({ count }) => count)) / pairs;
          const close = (a: number, b: number) => expect(Math.abs(a - b)).toBeLessThan(1e-9 * Math.max(1, Math.abs(b)));
          close(solved({ ambiguity: { set: 'cvar', level: 1 } }), pooled);
          close(solved({ chi: 0, mixture: 'pairs' }), pooled);
          // In a ball of radius r no weight differs from its share by more than √(2r).
          for (const set of ['kl', 'chi-square'] as const)
            expect(Math.abs(solved({ ambiguity: { set, radius: 1e-14 } }) - pooled)).toBeLessThan(
              1e-6 * Math.max(1, worst),
            );
          close(solved({ ambiguity: { set: 'cvar', level: smallest } }), worst);
          // From here on the ball holds the vertex of the smallest group: to the last bit, and well within.
          for (const factor of [1, 2]) {
            close(solved({ ambiguity: { set: 'kl', radius: -factor * Math.log(smallest) } }), worst);
            close(solved({ ambiguity: { set: 'chi-square', radius: factor * (1 / smallest - 1) } }), worst);
          }
        },
      ),
      { numRuns: 15 },
    );
  });

  it('is crossed by no α of the set and no θ of the ball', () => {
    fc.assert(
      fc.property(
        arbitraryProblem({ groups: [2, 6], dimension: [2, 4] }),
        fc.constantFrom(...smoothLosses, hinge),
        arbitraryAdversary,
        fc.array(fc.double({ min: -1, max: 1, noNaN: true }), { minLength: 10, maxLength: 10 }),
        (problem, settings, adversary, numbers) => {
          const loss = marginLoss(settings);
          const found = minimax(problem, loss, 2, adversary);
          const { ambiguity, chi, mixture, adjustment } = adversary;
          const size = Math.max(1, found.upper);
          expect(excess(problem, ambiguity, found.alpha)).toBeLessThan(1e-11);
          const theta = numbers.slice(0, problem.dimension).map((entry) => (2 * entry) / Math.hypot(...numbers, 1e-9));
          expect(objective(problem, loss, adversary, theta)).toBeGreaterThan(found.lower - 1e-8 * size);
          // From the shares towards some weights, as far as the set reaches.
          const K = problem.groups.length;
          const to = numbers.slice(-K).map((entry) => Math.exp(5 * entry));
          const p = 'shares' in ambiguity ? sharesOf(problem, ambiguity.shares) : sharesOf(problem, 'uniform');
          let reach = 1;
          const alpha = () => p.map((share, g) => (1 - reach) * share + (reach * to[g]) / sum(to));
          while (excess(problem, ambiguity, alpha()) > 1e-12 && reach > 1e-9) reach /= 1.1;
          const weights = alpha().map((a, g) => (1 - chi) * sharesOf(problem, mixture)[g] + chi * a);
          const added = sum(weights.map((w, g) => (w * adjustment) / Math.sqrt(problem.groups[g].count)));
          expect(leastMixture(problem, loss, Float64Array.from(weights), 2) + added).toBeLessThan(
            found.upper + 1e-9 * size,
          );
        },
      ),
      { numRuns: 60 },
    );
  });

  it('on R^d is attained where no worst case has weight on separable groups, and is refused elsewhere', () => {
    // Two groups of opposite pairs, which stay at ln 2, and one whose only pair can be won at no cost; p is uniform.
    const problem = problemOf([
      [
        [1, 0],
        [-1, 0],
      ],
      [
        [2, 0],
        [-2, 0],
      ],
      [
        [0, 1],
        [0, 2],
      ],
    ]);
    const attained: AmbiguitySettings[] = [
      { set: 'cvar', level: 0.6 },
      { set: 'kl', radius: 0.5 },
      { set: 'chi-square', radius: 0.6 },
    ];
    for (const ambiguity of attained) {
      const { value, alpha } = minimax(problem, dpo, undefined, { ambiguity });
      expect(value).toBeCloseTo(Math.LN2, 10);
      expect(alpha[2]).toBe(0);
      expect(() => minimax(problem, dpo, undefined, { ambiguity, chi: 0.9 })).toThrow(/is not attained/);
    }
    const refused: [AmbiguitySettings, number][] = [
      [{ set: 'cvar', level: 0.8 }, Math.LN2 / 1.2],
      [{ set: 'chi-square', radius: 0.3 }, Math.LN2 * ((2 + Math.sqrt(0.6)) / 3)],
    ];
    for (const [ambiguity, infimum] of refused)
      expect(() => minimax(problem, dpo, undefined, { ambiguity })).toThrow(
        `infimum ${infimum.toPrecision(6)} of the worst case's loss (dpo) is not attained`,
      );
    expect(() => minimax(problem, dpo, undefined, { ambiguity: { set: 'kl', radius: 0.3 } })).toThrow(
      expect.objectContaining({ code: 'NOT_ATTAINED' }),
    );
  });

  it('is exact where the best response is at a kink: all groups tie', () => {
    const tied = problemOf([[[1]], [[-1]], [[0]], [[2]], [[-2]]]);
    const sets: AmbiguitySettings[] = [
      { set: 'cvar', level: 0.4 },
      { set: 'cvar', level: 0.35 },
      { set: 'kl', radius: 0.3 },
      { set: 'chi-square', radius: 2 },
    ];
    for (const ambiguity of sets)
      for (const radius of [1e-3, 5, 1e4]) {
        const { lower, upper, theta } = minimax(tied, dpo, radius, { ambiguity });
        expect(Math.abs(theta[0])).toBeLessThan(1e-6);
        expect(lower).toBeGreaterThan(Math.LN2 - 1e-10);
        expect(upper).toBeLessThan(Math.LN2 + 1e-10);
      }
  });

  it('brackets groups of very different scale, and many groups', () => {
    const scaled = problemOf([
      [[1000, 1]],
      [[-0.001, 0.002]],
      [
        [3, -2],
        [1, 1],
      ],
      [[1e-4, 50]],
    ]);
    const entry = (n: number) => Math.sin(12.9898 * n) * 2;
    const many = problemOf(
      Array.from({ length: 30 }, (_, g) =>
        Array.from({ length: 1 + (g % 4) }, (_, i) => [entry(97 * g + 3 * i), entry(97 * g + 3 * i + 1)]),
      ),
    );
    const sets: AmbiguitySettings[] = [
      { set: 'simplex' },
      { set: 'cvar', level: 0.3 },
      { set: 'kl', radius: 0.2 },
      { set: 'chi-square', radius: 0.4 },
    ];
    for (const ambiguity of sets)
      for (const [problem, radius] of [
        [scaled, 5],
        [scaled, undefined],
        [many, 3],
      ] as const)
        for (const loss of radius === undefined ? [ipo] : [dpo, ipo]) {
          const { lower, upper } = minimax(problem, loss, radius, { ambiguity });
          expect(upper - lower).toBeLessThanOrEqual(1e-10 * Math.max(1, upper));
        }
  });

  it('bounds a mixture in which a group has no weight at all, of a ramp too', () => {
    const problem = problemOf([[[1]], [[-1]]]);
    // On |θ| ≤ 0.5 the group alone: max(0, 1 − 0.8 θ) and (θ − 1)².
    const alone = Float64Array.of(1, 0);
    expect(leastMixture(problem, marginLoss(hinge), alone, 0.5)).toBeCloseTo(0.6, 9);
    expect(leastMixture(problem, ipo, alone, 0.5)).toBeCloseTo(0.25, 9);
    expect(leastMixture(problem, marginLoss(hinge), Float64Array.of(0, 1), 0.5)).toBeCloseTo(0.6, 9);
  });

  it.each([1e-8, 1e-12, 1e-15, 1e-16, 1e-20])(
    'encloses to rounding the closed form of a ball of radius %s',
    (radius) => {
      // Losses that no θ changes, 2500 and 10000: mean + deviation x of α = (1 ± x)/2.
      const problem = {
        dimension: 1,
        groups: [0, 50].map((offset) => ({
          count: 1,
          differences: Float64Array.of(0),
          offsets: Float64Array.of(offset),
        })),
      };
      const loss = marginLoss({ loss: 'ipo', beta: 0.01 });
      for (const [set, x] of [
        ['kl', Math.sqrt(2 * radius * (1 - radius / 3))],
        ['chi-square', Math.sqrt(radius)],
      ] as const) {
        const { lower, value, upper } = minimax(problem, loss, 10, { ambiguity: { set, radius, shares: 'uniform' } });
        const exact = 6250 + 3750 * x;
        const rounding = 6250 * 1e-15;
        expect(lower).toBeLessThan(exact + rounding);
        expect(upper).toBeGreaterThan(exact - rounding);
        expect(Math.abs(value - exact)).toBeLessThan(rounding);
      }
    },
  );

  it('refuses what the objective refuses, by name', () => {
    const problem = problemOf([[[1]], [[2]]]);
    const wrong: [AdversarySettings, RegExp][] = [
      [{ ambiguity: { set: 'cvar', level: 0 } }, /"ambiguity\.level".*\(0, 1\]/],
      [{ ambiguity: { set: 'kl', radius: -1 } }, /"ambiguity\.radius"/],
      [{ ambiguity: { set: 'kl', radius: 1, shares: [1] } }, /"ambiguity\.shares".*1 entries for 2 groups/],
      [{ ambiguity: { set: 'kl', radius: 1 }, floor: 0.1 }, /"floor"/],
      [{ chi: 2 }, /"chi"/],
    ];
    for (const [adversary, message] of wrong) expect(() => minimax(problem, ipo, 1, adversary)).toThrow(message);
  });
});
