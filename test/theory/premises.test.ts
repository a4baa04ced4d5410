import { describe, expect, it } from 'vitest';
import { trainingProblem } from '../../src/bandit/preferences.js';
import { marginLoss } from '../../src/objective/losses.js';
import type { SaddleSettings } from '../../src/theory/algorithm.js';
import { convergenceConstants, stepSizes } from '../../src/theory/constants.js';
import { checkPremises } from '../../src/theory/premises.js';
import { problemOf } from './problems.js';

const problem = problemOf(
  [
    [[1, 0.4]],
    [
      [-0.9, 1],
      [-0.7, 0.8],
      [0, 0],
    ],
    [
      [0.3, -2],
      [0.5, 0.1],
    ],
  ],
  [[0.3], [0, -0.2, 0.1], [0, 0]],
);
const horizons = [1e3, 1e4, 1e6];

it.each([
  { beta: 1, radius: 1e5 },
  { beta: 10, radius: 1e4 },
])('hold with steps so long that rounding soon makes chaos of them: beta $beta, radius $radius', ({ beta, radius }) => {
  const bandit = trainingProblem({ features: 'swapped', responses: 'uneven', data: 'imbalanced' }, 2021);
  const loss = { loss: 'dpo', beta } as const;
  const constants = convergenceConstants(bandit, marginLoss(loss), radius, 1);
  for (const order of ['alternating', 'simultaneous'] as const) {
    const settings = (T: number): SaddleSettings => ({
      loss,
      algorithm: 1,
      order,
      radius,
      steps: stepSizes(constants, T),
    });
    const { premises, reasons } = checkPremises(bandit, new Map([1e4, 3e6].map((T) => [T, settings(T)])), 2021);
    expect(reasons).toEqual([]);
    expect(premises.replay_distance).toBeLessThan(1e-9);
  }
});

describe.each([
  { loss: { loss: 'dpo', beta: 1 }, radius: 3 },
  { loss: { loss: 'ipo', beta: 0.1 }, radius: 5 },
  { loss: { loss: 'dpo', beta: 2, labelSmoothing: 0.3 }, radius: 3 },
  { loss: { loss: 'hinge', beta: 1 }, radius: 3 },
] as const)('premises of the check, $loss.loss', ({ loss, radius }) => {
  const constants = convergenceConstants(problem, marginLoss(loss), radius, 1);
  const asItIs = (T: number): SaddleSettings => ({ loss, algorithm: 1, radius, steps: stepSizes(constants, T) });
  const check = (change: (T: number) => Partial<SaddleSettings>) =>
    checkPremises(problem, new Map(horizons.map((T) => [T, { ...asItIs(T), ...change(T) }])), 1);
  const reasonsFor = (change: (T: number) => Partial<SaddleSettings>) => check(change).reasons;

  it('hold for the algorithm as it is, in both orders and for Algorithm 3', () => {
    for (const order of ['alternating', 'simultaneous'] as const)
      for (const algorithm of [1, 3] as const) {
        const { premises, reasons } = check(() => ({ order, algorithm }));
        expect(reasons).toEqual([]);
        expect(premises.step_rates?.theta).toBeCloseTo(-0.5, 2);
        expect(premises.step_rates?.alpha).toBeCloseTo(-0.5, 2);
        expect(premises.replay_distance).toBeLessThan(1e-12);
      }
  });

  it.each([1, 1e3, 1e6])('fail when the steps are frozen at those of T = %d', (T0) => {
    const frozen = stepSizes(constants, T0);
    expect(reasonsFor(() => ({ steps: frozen })).join()).toMatch(/the theta step falls as T\^.*the alpha step/);
    expect(reasonsFor((T) => ({ steps: { ...stepSizes(constants, T), theta: frozen.theta } })).join()).toMatch(/theta/);
    expect(reasonsFor((T) => ({ steps: { ...stepSizes(constants, T), alpha: frozen.alpha } })).join()).toMatch(/alpha/);
  });

  it('fail when a step goes the wrong way', () => {
    for (const name of ['theta', 'alpha'] as const) {
      const reasons = reasonsFor((T) => ({
        steps: { ...stepSizes(constants, T), [name]: -stepSizes(constants, T)[name] },
      }));
      expect(reasons.join()).toMatch(`the ${name} step is negative`);
    }
  });

  it('fail when the loop leaves out the factor N/N_g, which the replay has', () => {
    expect(reasonsFor(() => ({ factors: Float64Array.of(1, 1, 1) })).join()).toMatch(/the loop differs by/);
  });
});
