import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/errors.js';
import { marginLoss } from '../../src/objective/losses.js';
import {
  type Constants,
  convergenceConstants,
  errorBound,
  groupProbabilities,
  stepSizes,
} from '../../src/theory/constants.js';
import { minimax } from '../../src/theory/minimax.js';
import { arbitraryProblem, problemOf, rowsOf, smoothLosses } from './problems.js';

const dpo = marginLoss({ loss: 'dpo', beta: 1 });

describe('constants of Proposition 4.1', () => {
  it('reproduce the table of the reference measurement', () => {
    // B_φ = 0.70395, B_Θ = 10, N = (60, 240): ρ = 5.
    const rows = (n: number) => Array.from({ length: n }, (_, i) => [i === 0 ? 0.70395 : 0.1, 0]);
    const constants = convergenceConstants(problemOf([rows(60), rows(240)]), dpo, 10, 1);
    expect(constants).toMatchObject({ B_phi: 0.70395, B_grad: 0.70395, B_theta: 10, rho: 5, groups: 2, pairs: 300 });
    expect(constants.B_l).toBeCloseTo(7.0404, 4);
    const expected = [
      [1e3, 0.16449, 1.1402e-3, 4.864],
      [1e4, 0.052016, 3.6055e-4, 1.538],
      [1e5, 0.016449, 1.1402e-4, 0.4864],
    ];
    for (const [T, theta, alpha, bound] of expected) {
      const steps = stepSizes(constants, T);
      expect(Math.abs(steps.theta / theta - 1)).toBeLessThan(5e-5);
      expect(Math.abs(steps.alpha / alpha - 1)).toBeLessThan(5e-5);
      expect(Math.abs(errorBound(constants, T) / bound - 1)).toBeLessThan(2e-4);
    }
  });

  it('need a convex loss and nothing else, the minimax value of one that is no ramp a second derivative too', () => {
    const hinge = marginLoss({ loss: 'hinge', beta: 2 });
    expect(convergenceConstants(problemOf([[[1]]]), hinge, 10, 1)).toMatchObject({ B_grad: 2, B_l: 21 });
    expect(() => convergenceConstants(problemOf([[[1]]]), { ...hinge, convexity: undefined }, 10, 1)).toThrow(
      /Proposition 4\.1 needs a convex loss, which hinge is not/,
    );
    expect(() => minimax(problemOf([[[1]]]), { ...hinge, ramp: undefined }, 1)).toThrow(
      /exact minimax value needs a twice differentiable loss, which hinge is not[\s\S]*use dpo or ipo/,
    );
  });

  it('know the smoothing of the labels', () => {
    const smoothed = marginLoss({ loss: 'dpo', beta: 1, labelSmoothing: 0.25 });
    const constants = convergenceConstants(problemOf([[[2]]]), smoothed, 3, 1);
    expect(constants.B_grad).toBeCloseTo(1.5, 12);
    expect(constants.B_l).toBeCloseTo(0.75 * Math.log1p(Math.exp(6)) + 0.25 * Math.log1p(Math.exp(-6)), 12);
  });

  it('give Algorithm 3 the factors K that its statement lacks', () => {
    const problem = problemOf([[[1]], [[2], [2]], [[0.5]]]);
    const constants = convergenceConstants(problem, dpo, 2, 3);
    const { B_l, B_grad } = constants;
    const byHand = 2 * Math.sqrt((10 * (3 * 4 * B_grad ** 2 + 9 * B_l ** 2 * Math.log(3))) / 100);
    expect(errorBound(constants, 100)).toBeCloseTo(byHand, 12);
    expect(Array.from(groupProbabilities(problem, 1))).toEqual([0.25, 0.5, 0.25]);
  });

  it('make bound and steps shrink as 1/√T', () => {
    const constants: Constants = { B_phi: 1, B_grad: 1, B_l: 2, B_theta: 3, rho: 4, groups: 3, pairs: 12 };
    expect(errorBound(constants, 400) / errorBound(constants, 100)).toBeCloseTo(0.5, 12);
    expect(stepSizes(constants, 400).theta / stepSizes(constants, 100).theta).toBeCloseTo(0.5, 12);
    expect(stepSizes(constants, 400).alpha / stepSizes(constants, 100).alpha).toBeCloseTo(0.5, 12);
  });

  it('bound the loss and its gradient everywhere on the ball, and are reached', () => {
    fc.assert(
      fc.property(
        arbitraryProblem(),
        fc.constantFrom(
          ...smoothLosses,
          { loss: 'hinge' as const, beta: 0.7 },
          { loss: 'rdpo' as const, beta: 1, labelSmoothing: 0.2 },
          { loss: 'rdpo' as const, beta: 0.5, labelSmoothing: 0.45 },
        ),
        fc.constantFrom(0.1, 1, 3),
        fc.array(fc.double({ min: -1, max: 1, noNaN: true }), { minLength: 5, maxLength: 5 }),
        (problem, settings, beta, direction) => {
          const loss = marginLoss({ ...settings, beta });
          const radius = 2;
          const { B_l, B_grad, B_phi } = convergenceConstants(problem, loss, radius, 1);
          const point = direction.slice(0, problem.dimension);
          const length = Math.max(1, Math.hypot(...point));
          for (const { d, o } of rowsOf(problem).flat()) {
            const h = d.reduce((sum, entry, j) => sum + (entry * radius * point[j]) / length, -o);
            expect(Math.hypot(...d)).toBeLessThanOrEqual(B_phi + 1e-12);
            // rdpo has losses below 0: the second moments are those of |l|.
            expect(Math.abs(loss.value(h))).toBeLessThanOrEqual(B_l + 1e-9);
            expect(Math.abs(loss.derivative(h)) * Math.hypot(...d)).toBeLessThanOrEqual(B_grad + 1e-9);
          }
        },
      ),
    );
    const single = problemOf([[[2]]]);
    const ipo = marginLoss({ loss: 'ipo', beta: 0.5 });
    expect(convergenceConstants(single, ipo, 3, 1)).toMatchObject({ B_l: ipo.value(-6), B_grad: 28 });
    expect(convergenceConstants(single, dpo, 3, 1).B_l).toBeCloseTo(dpo.value(-6), 12);
  });

  it('need a finite ball', () => {
    for (const radius of [0, -1, Number.POSITIVE_INFINITY])
      expect(() => convergenceConstants(problemOf([[[1]]]), dpo, radius, 1)).toThrow(InputError);
  });
});
