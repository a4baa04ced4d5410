import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type AmbiguitySettings, ambiguitySet } from '../../src/objective/ambiguity.js';
import { groupWeights } from '../../src/objective/group-weights.js';

const sizes = [20, 50, 130];
const p = sizes.map((n) => n / 200);

const sets: AmbiguitySettings[] = [
  { set: 'simplex' },
  { set: 'cvar', level: 0.5 },
  { set: 'cvar', level: 0.05 },
  { set: 'cvar', level: 1 },
  { set: 'cvar', level: 0.4, shares: 'uniform' },
  { set: 'kl', radius: 0.02 },
  { set: 'kl', radius: 0.3 },
  { set: 'kl', radius: 3 },
  { set: 'kl', radius: 0.2, shares: [3, 1, 1] },
  { set: 'chi-square', radius: 0.05 },
  { set: 'chi-square', radius: 0.5 },
  { set: 'chi-square', radius: 4 },
  { set: 'chi-square', radius: 0.3, shares: 'uniform' },
];

function sharesIn(settings: AmbiguitySettings): number[] {
  const { shares = 'pairs' } = settings.set === 'simplex' ? { shares: 'uniform' as const } : settings;
  if (shares === 'pairs') return p;
  if (shares === 'uniform') return [1, 1, 1].map((one) => one / 3);
  return shares.map((share) => share / 5);
}

/** What each set says of α, as its definition has it; positive outside. */
function excess(settings: AmbiguitySettings, alpha: ArrayLike<number>): number {
  const shares = sharesIn(settings);
  const terms = (of: (a: number, share: number) => number) => shares.map((share, g) => of(alpha[g], share));
  const sum = (values: number[]) => values.reduce((total, value) => total + value, 0);
  switch (settings.set) {
    case 'simplex':
      return 0;
    case 'cvar':
      return Math.max(...terms((a, share) => a - share / settings.level));
    case 'kl':
      return sum(terms((a, share) => (a === 0 ? 0 : a * Math.log(a / share)))) - settings.radius;
    case 'chi-square':
      return sum(terms((a, share) => share * (a / share - 1) ** 2)) - settings.radius;
  }
}

/** Points of the set: a grid over the simplex, what is outside of it pulled towards the shares as far as needed. */
function points(settings: AmbiguitySettings): number[][] {
  const shares = sharesIn(settings);
  const steps = 60;
  const found: number[][] = [];
  for (let i = 0; i <= steps; i++)
    for (let j = 0; i + j <= steps; j++) {
      const corner = [i / steps, j / steps, (steps - i - j) / steps];
      const at = (t: number) => corner.map((value, g) => shares[g] + t * (value - shares[g]));
      let [low, high] = excess(settings, corner) > 0 ? [0, 1] : [1, 1];
      for (let n = 0; n < 50 && low < high; n++) {
        const middle = (low + high) / 2;
        if (excess(settings, at(middle)) > 0) high = middle;
        else low = middle;
      }
      found.push(at(low));
    }
  return found;
}

const dot = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Array.from(a, (value, g) => value * b[g]).reduce((s, v) => s + v, 0);
const losses = fc.tuple(
  ...[1, 2, 3].map(() => fc.oneof(fc.double({ min: 0, max: 5, noNaN: true }), fc.constantFrom(1, 2))),
);

describe.each(sets)('the ambiguity set $set, $level$radius $shares', (settings) => {
  const set = ambiguitySet(settings, sizes);
  const all = points(settings);
  const inside = (alpha: ArrayLike<number>) => {
    expect(excess(settings, alpha)).toBeLessThan(1e-9);
    expect(Math.min(...Array.from(alpha))).toBeGreaterThanOrEqual(0);
    expect(dot(alpha, [1, 1, 1])).toBeCloseTo(1, 11);
  };

  it('starts within it', () => inside(set.logStart.map(Math.exp)));

  it('responds with a point of the set that no other beats', () => {
    fc.assert(
      fc.property(losses, (values) => {
        const alpha = set.respond(Float64Array.from(values));
        inside(alpha);
        expect(Math.max(...all.map((other) => dot(other, values)))).toBeLessThan(dot(alpha, values) + 1e-8);
      }),
      { numRuns: 60 },
    );
  });

  it('projects on the point of least KL(α‖w): from it the divergence falls towards no other', () => {
    fc.assert(
      fc.property(losses, fc.constantFrom(0.1, 1, 20), (values, scale) => {
        const logs = values.map((value) => scale * value);
        const alpha = set.project(Float64Array.from(logs));
        inside(alpha.map(Math.exp));
        const total = Math.log(logs.reduce((sum, log) => sum + Math.exp(log), 0));
        // ∇ KL(α‖w) = log α − log w + 1.
        const gradient = alpha.map((log, g) => log - (logs[g] - total));
        const here = dot(gradient, alpha.map(Math.exp));
        expect(Math.min(...all.map((other) => dot(gradient, other)))).toBeGreaterThan(here - 1e-7 * scale);
      }),
      { numRuns: 60 },
    );
  });

  it('leaves weights within it as they are', () => {
    for (const alpha of all.filter((alpha) => Math.min(...alpha) > 0 && excess(settings, alpha) < -1e-9)) {
      const projected = set.project(Float64Array.from(alpha, Math.log)).map(Math.exp);
      for (const [g, value] of alpha.entries()) expect(projected[g]).toBeCloseTo(value, 12);
    }
  });

  it('is finite on weights that differ by more than a double can hold, and hides none that are no numbers', () => {
    const alpha = set.project(Float64Array.of(25000, 0, -25000)).map(Math.exp);
    inside(alpha);
    const best = set.respond(Float64Array.of(2, 1, 0));
    for (let g = 0; g < 3; g++) expect(alpha[g]).toBeCloseTo(best[g], settings.set === 'chi-square' ? 1 : 3);
    inside(set.respond(Float64Array.of(1e300, 1, -1e300)));
    inside(set.respond(Float64Array.of(1e-300, 2e-300, 0)));
    expect(set.project(Float64Array.of(Number.NaN, 0, 0))[1]).toBeNaN();
  });
});

describe('best responses in closed form', () => {
  it('of the simplex is the worst group, equally of several, above the floor', () => {
    const respond = (values: number[], floor?: number) => [
      ...ambiguitySet({ set: 'simplex' }, sizes, floor).respond(Float64Array.from(values)),
    ];
    expect(respond([1, 3, 2])).toEqual([0, 1, 0]);
    expect(respond([3, 1, 3])).toEqual([0.5, 0, 0.5]);
    expect(respond([1, 3, 2], 0.1)).toEqual([0.1, expect.closeTo(0.8, 12), 0.1]);
  });

  it('of cvar is the mean over the worst share of pairs', () => {
    // Of 200 pairs the worst half: 20 of group 0, 50 of group 1, 30 of group 2.
    const alpha = ambiguitySet({ set: 'cvar', level: 0.5 }, sizes).respond(Float64Array.of(3, 2, 1));
    expect([...alpha].map((value) => Math.round(value * 1e9) / 1e9)).toEqual([0.2, 0.5, 0.3]);
  });

  it('of chi-square is mean + √r · standard deviation', () => {
    const values = Float64Array.of(1.2, 1.1, 1);
    const mean = dot(values, p);
    const deviation = Math.sqrt(
      dot(
        values.map((value) => (value - mean) ** 2),
        p,
      ),
    );
    const alpha = ambiguitySet({ set: 'chi-square', radius: 0.04 }, sizes).respond(values);
    expect(dot(alpha, values)).toBeCloseTo(mean + 0.2 * deviation, 12);
  });

  it('of kl has the dual value, min over τ of τ log Σ p exp(ℓ/τ) + τ r', () => {
    const values = Float64Array.of(3, 1, 2);
    const alpha = ambiguitySet({ set: 'kl', radius: 0.3 }, sizes).respond(values);
    let least = Number.POSITIVE_INFINITY;
    for (let tau = 0.05; tau < 20; tau *= 1.0005)
      least = Math.min(
        least,
        tau *
          Math.log(
            dot(
              p,
              values.map((value) => Math.exp(value / tau)),
            ),
          ) +
          tau * 0.3,
      );
    expect(dot(alpha, values)).toBeCloseTo(least, 6);
  });
});

it('the best response of a kl ball that ends a rounding error before the worst group alone is that group', () => {
  const given = [28, 6, 23, 44];
  const values = Float64Array.of(2, 0, 2, 2);
  const worst = 28 + 23 + 44;
  for (const radius of [0.06124362524071857, -Math.log(worst / 101), -Math.log(worst / 101) - 1e-16]) {
    const alpha = ambiguitySet({ set: 'kl', radius }, given).respond(values);
    expect(dot(alpha, values)).toBeCloseTo(2, 6);
    for (const g of [0, 2, 3]) expect(alpha[g]).toBeCloseTo(given[g] / worst, 6);
  }
});

describe.each(['kl', 'chi-square'] as const)('a tiny ball: %s', (name) => {
  // Two equal shares and α = (1 ± x)/2: chi-square is x², KL is Σ x^(2k)/(2k (2k − 1)).
  it.each([1e-6, 1e-8, 1e-10, 1e-12, 1e-15, 1e-16, 1e-20, 1e-30, 1e-40])(
    'of radius %s is reached to rounding',
    (radius) => {
      const x = Math.sqrt(name === 'kl' ? 2 * radius * (1 - radius / 3) : radius);
      const set = ambiguitySet({ set: name, radius, shares: 'uniform' }, [1, 1]);
      const near = (alpha: Float64Array) => {
        expect(Math.abs(alpha[1] - alpha[0] - x)).toBeLessThan(1e-14);
        expect(Math.abs(alpha[0] + alpha[1] - 1)).toBeLessThan(1e-14);
      };
      near(set.respond(Float64Array.of(2500, 10000)));
      near(set.project(Float64Array.of(-1, 2)).map(Math.exp));
    },
  );
});

describe('settings', () => {
  it.each<[object, string]>([
    [{ ambiguity: { set: 'cvar', level: 0 } }, 'ambiguity.level'],
    [{ ambiguity: { set: 'cvar', level: 1.5 } }, 'ambiguity.level'],
    [{ ambiguity: { set: 'kl', radius: 0 } }, 'ambiguity.radius'],
    [{ ambiguity: { set: 'chi-square', radius: Number.NaN } }, 'ambiguity.radius'],
    [{ ambiguity: { set: 'kl', radius: 1, shares: [1, 2] } }, 'ambiguity.shares'],
    [{ ambiguity: { set: 'kl', radius: 1, shares: [1, 2, 0] } }, 'ambiguity.shares'],
    [{ ambiguity: { set: 'ball' } }, 'ambiguity.set'],
    [{ ambiguity: { set: 'kl', radius: 1 }, floor: 0.1 }, 'floor'],
    [{ mixture: [1, 2] }, 'mixture'],
    [{ mixture: [1, 2, -1] }, 'mixture'],
  ])('%j is refused, naming the field', (settings, field) => {
    const all = { weights: 'mirror-ascent', step: 1, ...settings } as Parameters<typeof groupWeights>[0];
    expect(() => groupWeights(all, sizes)).toThrow(`"${field}"`);
  });
});
