import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { tiltedTerms } from '../../src/objective/tilt.js';

const list = fc.array(fc.double({ min: 0, max: 6, noNaN: true }), { minLength: 2, maxLength: 2 });
const together = [0, 0];

/** Σ q_i l_i − τ KL(q‖w) over two pairs, for every share q of the first. */
function best(losses: number[], weights: number[], temperature: number): number {
  const w = weights[0] / (weights[0] + weights[1]);
  const log = (q: number, share: number) => (q === 0 ? 0 : q * Math.log(q / share));
  let found = temperature > 0 ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  for (let q = 0; q <= 1; q += 1e-4) {
    const value = q * losses[0] + (1 - q) * losses[1] - temperature * (log(q, w) + log(1 - q, 1 - w));
    found = temperature > 0 ? Math.max(found, value) : Math.min(found, value);
  }
  return found;
}

describe('the tilted loss', () => {
  it.each([0.5, 3, -0.5, -2])(
    'τ = %d: the worst or best reweighting under a KL penalty, by brute force',
    (temperature) => {
      fc.assert(
        fc.property(list, fc.double({ min: 0.2, max: 3, noNaN: true }), (losses, weight) => {
          const { losses: tilted } = tiltedTerms(losses, [weight, 1], together, temperature);
          expect(tilted[0]).toBeCloseTo(best(losses, [weight, 1], temperature), 4);
          expect(tilted[1]).toBe(tilted[0]);
        }),
        { numRuns: 30 },
      );
    },
  );

  it('Dr.DPO as its paper writes it: −β′ log E exp(log σ(βh)/β′)', () => {
    const probabilities = [0.9, 0.2, 0.6];
    const losses = probabilities.map((p) => -Math.log(p));
    const expected = -0.5 * Math.log(probabilities.reduce((sum, p) => sum + p ** (1 / 0.5) / 3, 0));
    expect(tiltedTerms(losses, [1, 1, 1], [0, 0, 0], -0.5).losses[0]).toBeCloseTo(expected, 12);
  });

  it.each([0.3, 5, -0.3, -5])('τ = %d: factors are its derivatives, set by set', (temperature) => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({
            loss: fc.double({ min: 0, max: 4, noNaN: true }),
            weight: fc.constantFrom(0, 0.5, 1, 2),
            set: fc.constantFrom(0, 1),
          }),
          { minLength: 1, maxLength: 6 },
        ),
        (pairs) => {
          const weights = pairs.map(({ weight }) => weight);
          const sets = pairs.map(({ set }) => set);
          const at = (losses: number[]) => tiltedTerms(losses, weights, sets, temperature);
          const losses = pairs.map(({ loss }) => loss);
          const { factors } = at(losses);
          pairs.forEach(({ weight, set }, i) => {
            if (weight === 0) {
              expect(factors[i]).toBe(0);
              return;
            }
            const total = pairs.reduce((sum, pair) => sum + (pair.set === set ? pair.weight : 0), 0);
            const moved = (by: number) => at(losses.map((loss, j) => (i === j ? loss + by : loss))).losses[i];
            const numeric = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            expect((weight * factors[i]) / total).toBeCloseTo(numeric, 6);
          });
        },
      ),
    );
  });

  it('is finite on losses far apart, and goes to the mean as |τ| grows', () => {
    for (const temperature of [1e-3, -1e-3]) {
      const { losses, factors } = tiltedTerms([2500, 0], [1, 1], together, temperature);
      expect(losses[0]).toBeCloseTo(temperature > 0 ? 2500 : 0, 2);
      expect([...factors]).toEqual(temperature > 0 ? [2, 0] : [0, 2]);
    }
    for (const temperature of [1e6, -1e6])
      expect(tiltedTerms([1, 3], [3, 1], together, temperature).losses[0]).toBeCloseTo(1.5, 5);
    for (const temperature of [1e9, -1e12, 1e15, -1e40])
      expect(tiltedTerms([1, 3], [3, 1], together, temperature).losses[0]).toBeCloseTo(1.5, 8);
  });

  it('to first order in 1/τ is the mean plus the variance over 2τ', () => {
    // Mean 1.5, variance 0.75.
    for (const temperature of [1e4, -1e4, 1e6])
      expect((tiltedTerms([1, 3], [3, 1], together, temperature).losses[0] - 1.5) * temperature).toBeCloseTo(0.375, 3);
  });

  it('of a set in which no pair has weight is 0, and so are its factors', () => {
    const { losses, factors } = tiltedTerms([5, 2, 3], [0, 0, 1], [0, 0, 1], 0.5);
    expect([...losses]).toEqual([0, 0, 3]);
    expect([...factors]).toEqual([0, 0, 1]);
  });
});
