import { all, type BigNumber, create } from 'mathjs';
import { describe, expect, it } from 'vitest';
import { Random } from '../../src/numbers/random.js';
import { exp, log1p } from '../../src/objective/fast-math.js';

const exact = create(all, { number: 'BigNumber', precision: 60 });
/** All digits of the double: the shortest decimal that reads back as x is not x itself. */
const digits = (x: number) => exact.bignumber(x.toPrecision(60));

/** |found − expected| / expected in units of 2⁻⁵³. */
function relativeError(found: number, expected: BigNumber): number {
  return Number(exact.abs(exact.divide(exact.subtract(digits(found), expected), expected) as BigNumber)) * 2 ** 53;
}

describe('exp', () => {
  it('is within 3 · 2⁻⁵³ of the true value, near zero, across the range and around grid points', () => {
    const random = Random.stream(1, 'exp');
    let worst = 0;
    for (let i = 0; i < 3000; i++) {
      const wide = (random.uniform() - 0.5) * [0.001, 2, 80, 1400][i % 4];
      const boundary = ((Math.round((wide * 2048) / Math.LN2) + 0.5) * Math.LN2) / 2048;
      const x = i % 8 < 4 ? wide : Math.min(boundary, 699);
      worst = Math.max(worst, relativeError(exp(x), exact.exp(digits(x))));
    }
    expect(worst).toBeLessThanOrEqual(3);
    // The check can fail: the error is there.
    expect(worst).toBeGreaterThan(1);
    // The worst point known: the table's own rounding, the series and the last sum all on one side.
    expect(relativeError(exp(37.54654073226229), exact.exp(digits(37.54654073226229)))).toBeLessThanOrEqual(3);
  });

  it('never falls as x rises by more than its error', () => {
    let falls = 0;
    for (const [from, step] of [
      [-30, 0.00037],
      [-1, 1e-5],
      [-1e-9, 1e-14],
      [Math.LN2 / 4096 - 1e-10, 1e-15],
    ])
      for (let x = from, k = 0; k < 200_000; k++, x += step) if (exp(x + step) < exp(x) * (1 - 2 ** -51)) falls++;
    expect(falls).toBe(0);
  });

  it('is exact at 0 and Math.exp at the ends', () => {
    expect([exp(0), exp(-0)]).toEqual([1, 1]);
    for (const x of [700, 709.78, 710, 1e6, Infinity, -700, -744, -746, -1e6, -Infinity])
      expect(exp(x)).toBe(Math.exp(x));
    expect(exp(Number.NaN)).toBeNaN();
  });
});

describe('log1p', () => {
  it('is within 2⁻⁵¹ of the true value on [0, 1], relatively', () => {
    const random = Random.stream(1, 'log1p');
    let worst = 0;
    for (let i = 0; i < 3000; i++) {
      const uniform = random.uniform();
      const x = [uniform, uniform ** 4, uniform / 512, (Math.round(uniform * 511) + 0.5) / 512][i % 4];
      worst = Math.max(worst, relativeError(log1p(x), exact.log(exact.add(1, digits(x)) as BigNumber)));
    }
    expect(worst).toBeLessThanOrEqual(4);
    expect(worst).toBeGreaterThan(0.5);
  });

  it('is exact at 0, ln 2 at 1, and hides no NaN', () => {
    expect(log1p(0)).toBe(0);
    expect(log1p(1)).toBe(Math.LN2);
    for (const x of [1e-17, 1e-300, Number.MIN_VALUE]) expect(log1p(x)).toBe(x);
    expect(log1p(Number.NaN)).toBeNaN();
  });
});
