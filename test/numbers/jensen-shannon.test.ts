import fc from 'fast-check';
import { expect, it } from 'vitest';
import { jensenShannonSimilarity } from '../../src/numbers/jensen-shannon.js';

/** h(x) = −x log₂ x. */
const h = (x: number) => (x === 0 ? 0 : -x * Math.log2(x));
const entropy = (p: readonly number[]) => p.reduce((sum, x) => sum + h(x), 0);

it.each([
  ['equal', [0.2, 0.3, 0.5], [0.2, 0.3, 0.5], 1],
  ['disjoint', [1, 0], [0, 1], 0],
  ['disjoint, spread', [0.5, 0.5, 0, 0], [0, 0, 0.25, 0.75], 0],
  // JSD of (1, 0) and (½, ½): H(¾, ¼) − ½ · 1 = 0.8112781… − 0.5.
  ['certain and even', [1, 0], [0.5, 0.5], 1.5 - (0.75 * Math.log2(4 / 3) + 0.25 * 2)],
  // Mixed by a half on a third option: m = (½·, …), JSD = ½ exactly.
  ['half in common', [0.5, 0.5, 0], [0.5, 0, 0.5], 0.5],
])('of two that are %s', (_, p, q, similarity) => {
  expect(jensenShannonSimilarity(p, q)).toBeCloseTo(similarity, 14);
  expect(jensenShannonSimilarity(q, p)).toBeCloseTo(similarity, 14);
});

it('is 1 − [H((p + q)/2) − (H(p) + H(q))/2], within [0, 1], however near the two are', () => {
  const distribution = fc
    .array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 4, maxLength: 4 })
    .filter((masses) => masses.some((mass) => mass > 1e-3))
    .map((masses) => masses.map((mass) => mass / masses.reduce((sum, one) => sum + one, 0)));
  fc.assert(
    fc.property(distribution, distribution, fc.constantFrom(1, 1e-6, 1e-12), (p, other, distance) => {
      const q = p.map((mass, i) => mass + distance * (other[i] - mass));
      const middle = p.map((mass, i) => (mass + q[i]) / 2);
      const similarity = jensenShannonSimilarity(p, q);
      expect(similarity).toBeCloseTo(1 - (entropy(middle) - (entropy(p) + entropy(q)) / 2), 12);
      expect(similarity).toBeGreaterThanOrEqual(0);
      expect(similarity).toBeLessThanOrEqual(1);
    }),
  );
});

it('is 1 also where the smallest number there is stands beside nothing', () => {
  expect(jensenShannonSimilarity([1, Number.MIN_VALUE], [1, 0])).toBe(1);
});

it('refuses distributions over different options', () => {
  expect(() => jensenShannonSimilarity([1], [0.5, 0.5])).toThrow(RangeError);
});
