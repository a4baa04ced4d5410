import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { confidenceInterval, estimate, pairedDifference, studentT } from '../../src/numbers/statistics.js';

describe('estimate', () => {
  it('is the mean and s/√n with n − 1', () => {
    // Deviations −2, −1, 3: variance 14/2 = 7.
    const { mean, standard_error } = estimate([1, 2, 6]);
    expect(mean).toBe(3);
    expect(standard_error).toBeCloseTo(Math.sqrt(7 / 3), 14);
  });

  it('has no error for a single value, and refuses none', () => {
    expect(estimate([4])).toEqual({ mean: 4, standard_error: null });
    expect(() => estimate([])).toThrow(RangeError);
  });
});

describe('pairedDifference', () => {
  it('uses common seeds only', () => {
    const first = new Map([
      [1, 10],
      [2, 20],
      [3, 99],
    ]);
    const second = new Map([
      [2, 17],
      [1, 9],
    ]);
    expect(pairedDifference(first, second)).toEqual({ mean: 2, standard_error: 1, pairs: 2 });
    expect(pairedDifference(first, new Map([[7, 1]]))).toBeNull();
  });

  it('does not feel what a seed adds to both', () => {
    const values = fc.array(fc.tuple(fc.integer(), fc.integer(), fc.integer()), { minLength: 2, maxLength: 8 });
    fc.assert(
      fc.property(values, (rows) => {
        const of = (value: (row: [number, number, number]) => number) => new Map(rows.map((row, s) => [s, value(row)]));
        const plain = pairedDifference(
          of(([a]) => a),
          of(([, b]) => b),
        );
        const shifted = pairedDifference(
          of(([a, , c]) => a + c),
          of(([, b, c]) => b + c),
        );
        expect(shifted).toEqual(plain);
      }),
    );
  });
});

describe('confidence interval', () => {
  it.each([2, 3, 5, 6, 11, 20, 25, 31])("covers 95 %% of Student's distribution for %d runs", (n) => {
    const [low, high] = confidenceInterval({ mean: 7, standard_error: 1 }, n) as [number, number];
    expect((low + high) / 2).toBeCloseTo(7, 12);
    const t = high - 7;
    // The density without its factor; t = tan gives the tails a finite range.
    const density = (x: number) => (1 + (x * x) / (n - 1)) ** (-n / 2);
    const integral = (end: number) => {
      const steps = 200_000;
      let sum = 0;
      for (let i = 0; i < steps; i++) {
        const angle = ((i + 0.5) / steps) * end;
        sum += density(Math.tan(angle)) / Math.cos(angle) ** 2;
      }
      return (sum * end) / steps;
    };
    expect(integral(Math.atan(t)) / integral(Math.PI / 2)).toBeCloseTo(0.95, 4);
  });

  it('is not known of one run, and no narrower than it should be for many', () => {
    expect(confidenceInterval({ mean: 7, standard_error: null }, 1)).toBeNull();
    expect(confidenceInterval({ mean: 0, standard_error: 1 }, 10_000)?.[1]).toBeGreaterThanOrEqual(1.96);
  });
});

describe('studentT', () => {
  // Printed tables of the distribution, two-sided.
  it.each([
    [0.95, 1, 12.706],
    [0.95, 2, 4.303],
    [0.95, 9, 2.262],
    [0.95, 30, 2.042],
    [0.99, 1, 63.657],
    [0.99, 4, 4.604],
    [0.99, 7.9, 3.499],
    [0.998, 10, 4.144],
    [0.95, Number.POSITIVE_INFINITY, 1.96],
  ])('holds %d of the distribution with %d degrees of freedom below %d', (chance, degrees, t) =>
    expect(studentT(chance, degrees)).toBeCloseTo(t, 3),
  );
});
