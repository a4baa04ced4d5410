import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Calibration } from '../../src/numbers/calibration.js';

function of(...pairs: [predicted: number, observed: number][]): Calibration {
  const calibration = new Calibration();
  for (const [predicted, observed] of pairs) calibration.add(predicted, observed);
  return calibration;
}

it('by hand: bins of 0.05 from ½ on, and the error as the mean over pairs of the bins’ gaps', () => {
  const calibration = of([0.6, 0.5], [0.62, 0.9], [0.97, 0.57], [1, 0.8]);
  const closeTo = (value: number) => expect.closeTo(value, 12);
  expect(calibration.table()).toEqual([
    { from: 0.6, to: 0.65, count: 2, predicted: closeTo(0.61), observed: closeTo(0.7) },
    { from: 0.95, to: 1, count: 2, predicted: closeTo(0.985), observed: closeTo(0.685) },
  ]);
  expect(calibration.error()).toBeCloseTo((0.09 + 0.3) / 2, 12);
});

it('has no error where every prediction comes true, nor where all are ties, and none of nothing', () => {
  expect(of([0.71, 0.71], [0.2, 0.2], [0, 0]).error()).toBeCloseTo(0, 12);
  expect(of([0.5, 0.9], [0.5, 1]).error()).toBe(0);
  expect(new Calibration().error()).toBeUndefined();
});

it('does not depend on which option of a pair is called the first', () => {
  const share = fc.integer({ min: 0, max: 1024 }).map((n) => n / 1024);
  fc.assert(
    fc.property(fc.array(fc.tuple(share, share), { minLength: 1 }), (pairs) => {
      const swapped = pairs.map(([predicted, observed]): [number, number] => [1 - predicted, 1 - observed]);
      expect(of(...swapped).table()).toEqual(of(...pairs).table());
    }),
  );
});
