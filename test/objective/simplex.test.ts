import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { lowerToCaps, normaliseLog } from '../../src/objective/simplex.js';

/** log of n/d, each of any size. */
function logRatio(n: bigint, d: bigint): number {
  const log = (value: bigint) => {
    const bits = value.toString(2);
    const shift = Math.max(0, bits.length - 60);
    return Math.log(Number(value >> BigInt(shift))) + shift * Math.LN2;
  };
  return log(n) - log(d);
}

/**
 * log of the projection of w on Σ α = 1, α_g ≤ caps_g / unit, in exact rational arithmetic: of all sets of groups that may lie on their caps the
 * one that satisfies the conditions of the optimum, which is that the others are s w_g ≤ cap_g and those would be s w_g ≥ cap_g.
 */
function exactProjection(w: readonly bigint[], caps: readonly bigint[], unit: bigint): number[] {
  for (let on = 0; on < 1 << w.length; on++) {
    const isOn = (g: number) => ((on >> g) & 1) === 1;
    let free = unit;
    let kept = 0n;
    for (const [g, weight] of w.entries())
      if (isOn(g)) free -= caps[g];
      else kept += weight;
    // s = free / (unit kept)
    if (kept === 0n ? free !== 0n : free <= 0n) continue;
    const side = (g: number) => w[g] * free - caps[g] * kept;
    if (w.every((_, g) => kept === 0n || (isOn(g) ? side(g) >= 0n : side(g) <= 0n)))
      return w.map((weight, g) => (isOn(g) ? logRatio(caps[g], unit) : logRatio(weight * free, unit * kept)));
  }
  throw new Error('the caps leave no point');
}

const logOf = (values: number[]) => Float64Array.from(values, Math.log);

describe('lowering weights to their caps', () => {
  it('keeps the memory of groups that are all but gone, where the others are at their caps', () => {
    const log = [-0.185, -1.779, -43.308];
    const lowered = lowerToCaps(normaliseLog(Float64Array.from(log)), new Float64Array(3).fill(Math.log(0.5)));
    expect(lowered[0]).toBeCloseTo(Math.log(0.5), 12);
    expect(lowered[1]).toBeCloseTo(Math.log(0.5), 12);
    // The two others share what the first leaves, in proportion.
    expect(lowered[2]).toBeCloseTo(Math.log(0.5) + log[2] - log[1], 9);
  });

  it('gives groups whose logarithms are of any size what the caps of the others leave', () => {
    for (const nothing of [-1e4, -1e17, -1e300]) {
      const caps = [0.5, 0.4999, 0.4];
      const alone = lowerToCaps(Float64Array.of(Math.log(0.5), Math.log(0.5), nothing), logOf(caps)).map(Math.exp);
      expect(alone[2]).toBeCloseTo(1e-4, 12);
      expect(alone[0] + alone[1] + alone[2]).toBeCloseTo(1, 12);
    }
    // Two that are left share it in proportion.
    const rest = lowerToCaps(Float64Array.of(0, -1e300, -1e300), logOf([0.9, 0.5, 0.5])).map(Math.exp);
    expect([...rest].map((weight) => Number(weight.toFixed(12)))).toEqual([0.9, 0.05, 0.05]);
  });

  it('agrees with exact arithmetic on logarithms, also where caps of some groups sum to one', () => {
    const entry = fc.record({
      mantissa: fc.integer({ min: 1, max: 40 }),
      exponent: fc.constantFrom(0, 1, 3, 20, 60, 90, 300),
      cap: fc.integer({ min: 1, max: 6 }),
    });
    fc.assert(
      fc.property(fc.array(entry, { minLength: 2, maxLength: 6 }), fc.integer({ min: 2, max: 14 }), (entries, of) => {
        const total = entries.reduce((sum, { cap }) => sum + cap, 0);
        const unit = BigInt(Math.min(of, total));
        const w = entries.map(({ mantissa, exponent }) => BigInt(mantissa) << BigInt(300 - exponent));
        const expected = exactProjection(
          w,
          entries.map(({ cap }) => BigInt(cap)),
          unit,
        );
        const logs = Float64Array.from(entries, ({ mantissa, exponent }) => Math.log(mantissa) - exponent * Math.LN2);
        const logCaps = Float64Array.from(entries, ({ cap }) => Math.log(cap / Number(unit)));
        const lowered = lowerToCaps(normaliseLog(logs), logCaps);
        for (const [g, value] of expected.entries()) {
          expect(lowered[g]).toBeLessThanOrEqual(logCaps[g]);
          expect(Math.abs(lowered[g] - value)).toBeLessThan(1e-9);
        }
      }),
      { numRuns: 2000 },
    );
  });
});
