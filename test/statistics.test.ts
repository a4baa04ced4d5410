import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { estimate, pairedDifference } from '../src/statistics.js';

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
