import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { referenceFreeTerms } from '../../src/objective/pairs.js';
import { referenceFreeLoss, referenceFreeLossNames } from '../../src/objective/reference-free.js';

const lengths = { chosenLengths: Int32Array.of(2), rejectedLengths: Int32Array.of(5) };
const logps = (chosen: number, rejected: number) => ({
  chosen: Float64Array.of(chosen),
  rejected: Float64Array.of(rejected),
  ...lengths,
});

describe('losses without a reference', () => {
  it('simpo and orpo as their papers write them', () => {
    // a = −0.5, b = −0.4
    const simpo = referenceFreeTerms(referenceFreeLoss({ loss: 'simpo', beta: 2, gamma: 0.3 }), logps(-1, -2));
    expect(simpo.losses[0]).toBeCloseTo(-Math.log(1 / (1 + Math.exp(-(2 * -0.5 - 2 * -0.4 - 0.3)))), 12);
    const odds = (p: number) => p / (1 - p);
    const ratio = odds(Math.exp(-0.5)) / odds(Math.exp(-0.4));
    const orpo = referenceFreeTerms(referenceFreeLoss({ loss: 'orpo', beta: 0.1 }), logps(-1, -2));
    expect(orpo.losses[0]).toBeCloseTo(0.5 - 0.1 * Math.log(1 / (1 + 1 / ratio)), 12);
    expect([orpo.chosenLogRatios[0], orpo.rejectedLogRatios[0]]).toEqual([-0.5, -0.4]);
  });

  it.each(referenceFreeLossNames)('%s: cotangents are its derivatives, also of a soft label', (loss) => {
    const logp = fc.double({ min: -40, max: -0.01, noNaN: true });
    const share = fc.constantFrom(1, 0.7, 0.5, 0);
    fc.assert(
      fc.property(logp, logp, share, fc.double({ min: 0.1, max: 3, noNaN: true }), (chosen, rejected, p, beta) => {
        const own = referenceFreeLoss({ loss, beta, ...(loss === 'simpo' && { gamma: 0.5 }) });
        const at = (w: number, l: number) => referenceFreeTerms(own, logps(w, l), [p]);
        const { chosenCotangents, rejectedCotangents, losses } = at(chosen, rejected);
        const step = 1e-6;
        const by = (w: number, l: number) =>
          (at(chosen + w, rejected + l).losses[0] - at(chosen - w, rejected - l).losses[0]) / (2 * step);
        const digits = (slope: number) => 1e-4 * Math.max(1, Math.abs(slope));
        expect(Math.abs(by(step, 0) - chosenCotangents[0])).toBeLessThan(digits(chosenCotangents[0]));
        expect(Math.abs(by(0, step) - rejectedCotangents[0])).toBeLessThan(digits(rejectedCotangents[0]));
        // Half of each label: exchanging texts and lengths changes nothing.
        if (p !== 0.5) return;
        const exchanged = referenceFreeTerms(
          own,
          {
            chosen: Float64Array.of(rejected),
            rejected: Float64Array.of(chosen),
            chosenLengths: lengths.rejectedLengths,
            rejectedLengths: lengths.chosenLengths,
          },
          [p],
        );
        expect(exchanged.losses[0]).toBeCloseTo(losses[0], 12);
      }),
    );
  });

  it('orpo of a chosen response that is certain has the slopes of its limit, −1 − λ odds(b) and 0', () => {
    const beta = 0.7;
    const { terms } = referenceFreeLoss({ loss: 'orpo', beta });
    for (const b of [-1e-3, -1, -50]) {
      const { value, chosenSlope, rejectedSlope } = terms(0, b);
      const odds = Math.exp(b) / (1 - Math.exp(b));
      expect(chosenSlope / (-1 - beta * odds)).toBeCloseTo(1, 12);
      expect([value, rejectedSlope].map(Math.abs)).toEqual([expect.closeTo(0, 12), expect.closeTo(0, 12)]);
    }
    // Of a rejected response that is certain the loss goes to infinity, but never to no number.
    for (const a of [0, -1]) for (const term of Object.values(terms(a, 0))) expect(term).not.toBeNaN();
    expect(terms(-1, 0).value).toBeGreaterThan(100);
  });

  it('orpo is finite for responses that are all but certain, or all but impossible', () => {
    const { terms } = referenceFreeLoss({ loss: 'orpo', beta: 0.1 });
    for (const [a, b] of [
      [-1e-12, -30],
      [-800, -1e-12],
      [-900, -900],
    ])
      for (const value of Object.values(terms(a, b))) expect(Number.isFinite(value)).toBe(true);
  });
});
