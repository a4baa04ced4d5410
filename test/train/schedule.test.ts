import { describe, expect, it } from 'vitest';
import { learningRateAt } from '../../src/train/schedule.js';

const rates = (warmupSteps: number, schedule: 'constant' | 'linear' | 'cosine', steps: number) =>
  Array.from({ length: steps }, (_, i) => learningRateAt({ learningRate: 1, warmupSteps, schedule }, i + 1, steps));

describe('learning-rate schedule', () => {
  it('warms up linearly to the full rate, and no warm-up starts there', () => {
    expect(rates(2, 'constant', 3)).toEqual([0.5, 1, 1]);
    expect(rates(0, 'constant', 3)).toEqual([1, 1, 1]);
  });

  it('falls along a line towards 0, as transformers has it', () =>
    expect(rates(0, 'linear', 4)).toEqual([1, 0.75, 0.5, 0.25]));

  it('takes the warm-up as a part of all steps, rounded up', () => {
    const rate = (step: number) =>
      learningRateAt({ learningRate: 1, warmupRatio: 0.21, schedule: 'constant' }, step, 10);
    expect([1, 2, 3, 4].map(rate)).toEqual([1 / 3, 2 / 3, 1, 1]);
  });

  it('falls along half a cosine from the full rate towards 0', () => {
    const [first, second, third] = rates(0, 'cosine', 3);
    expect([first, second]).toEqual([1, (1 + Math.cos(Math.PI / 3)) / 2]);
    expect(third).toBeCloseTo((1 + Math.cos((2 * Math.PI) / 3)) / 2, 12);
    const warmed = rates(10, 'cosine', 100);
    expect(Math.max(...warmed)).toBe(warmed[9]);
    for (let t = 10; t < 100; t++) expect(warmed[t]).toBeLessThan(warmed[t - 1]);
    expect(warmed[99]).toBeGreaterThan(0);
  });
});
