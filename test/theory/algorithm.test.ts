import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/errors.js';
import { Random } from '../../src/numbers/random.js';
import { type LossSettings, marginLoss } from '../../src/objective/losses.js';
import { runSaddle, type SaddleSettings } from '../../src/theory/algorithm.js';
import { runByObjective } from '../../src/theory/objective-run.js';
import { runSaddleBatch, runSaddles, type SaddleJob } from '../../src/theory/saddle-jobs.js';
import { arbitraryProblem, plainLosses, problemOf, smoothLosses } from './problems.js';

const dpo: LossSettings = { loss: 'dpo', beta: 1 };

describe('one step of Algorithm 1', () => {
  // O9: N = (1, 4); all pairs of a group are alike, so only the group drawn matters.
  const problem = problemOf([[[1]], [[-2], [-2], [-2], [-2]]]);
  const settings: SaddleSettings = { loss: dpo, algorithm: 1, steps: { theta: 0.2, alpha: 0.1 } };
  const stepOf = (group: number, order: SaddleSettings['order']) => {
    for (let seed = 0; ; seed++) {
      const drawn = Random.stream(seed, 'o9').integer(5) === 0 ? 0 : 1;
      if (drawn === group) return runSaddle(problem, { ...settings, order }, 1, Random.stream(seed, 'o9'));
    }
  };

  it('O9: draw of group 0', () => {
    const { lastAlpha, lastTheta } = stepOf(0, 'alternating');
    expect(lastAlpha[0]).toBeCloseTo(0.585786437627, 11);
    expect(lastAlpha[1]).toBeCloseTo(0.414213562373, 11);
    expect(lastTheta[0]).toBeCloseTo(0.2928932188134525, 14);
    expect(stepOf(0, 'simultaneous').lastTheta[0]).toBeCloseTo(0.25, 14);
  });

  it('O9: draw of group 1', () => {
    const { lastAlpha, lastTheta } = stepOf(1, 'alternating');
    expect(lastAlpha[0]).toBeCloseTo(0.47835269125, 11);
    expect(lastAlpha[1]).toBeCloseTo(0.52164730875, 11);
    expect(lastTheta[0]).toBeCloseTo(-0.13041182718742364, 14);
  });
});

describe('sampling', () => {
  it('O10: the estimates that a step goes by are unbiased, by enumeration of every draw', () => {
    fc.assert(
      fc.property(arbitraryProblem(), fc.constantFrom(1 as const, 3 as const), (problem, algorithm) => {
        const loss = { loss: 'ipo', beta: 0.5 } as const;
        const steps = { theta: 0.5, alpha: 0.25 };
        const settings: SaddleSettings = { loss, algorithm, steps, order: 'simultaneous' };
        const K = problem.groups.length;
        const sizes = problem.groups.map(({ count }) => count);
        const draws =
          algorithm === 1
            ? Array.from({ length: sizes.reduce((a, b) => a + b) }, (_, pair) => [pair])
            : sizes.flatMap((size, g) => Array.from({ length: size }, (_, pair) => [g, pair]));
        // From θ = 0 and uniform α: a step of θ is −η_θ/K, of log α up to a constant η_α, times the estimate.
        const gradient = new Array<number>(problem.dimension).fill(0);
        const values = new Array<number>(K).fill(0);
        let all = 0;
        for (const draw of draws) {
          let chance = 1;
          const integer = (n: number) => {
            chance /= n;
            return draw.shift();
          };
          const { lastTheta, lastAlpha } = runSaddle(problem, settings, 1, { integer } as unknown as Random);
          expect(draw).toEqual([]);
          all += chance;
          for (let j = 0; j < gradient.length; j++) gradient[j] -= (chance * K * lastTheta[j]) / steps.theta;
          for (let g = 0; g < K; g++) values[g] += (chance * Math.log(lastAlpha[g] / lastAlpha[0])) / steps.alpha;
        }
        expect(all).toBeCloseTo(1, 12);
        const exact = plainLosses(problem, marginLoss(loss), new Float64Array(problem.dimension));
        for (let j = 0; j < gradient.length; j++)
          expect(gradient[j]).toBeCloseTo(
            exact.reduce((sum, group) => sum + group.gradient[j], 0),
            8,
          );
        for (let g = 0; g < K; g++) expect(values[g]).toBeCloseTo(exact[g].value - exact[0].value, 8);
      }),
      { numRuns: 60 },
    );
  });

  it('visits groups with the probabilities of its algorithm', () => {
    // α stays uniform; θ_g counts the visits of group g, since ∇l = −1 at a margin that never moves far.
    const problem = problemOf([
      [[1, 0]],
      [
        [0, 1],
        [0, 1],
        [0, 1],
        [0, 1],
      ],
    ]);
    const visits = (algorithm: 1 | 3) => {
      const settings = { loss: { loss: 'ipo', beta: 0.5 }, algorithm, steps: { theta: 1e-9, alpha: 0 } } as const;
      const { lastTheta } = runSaddle(
        problem,
        { ...settings, factors: Float64Array.of(1, 1) },
        40_000,
        Random.stream(1, 'v'),
      );
      return lastTheta[0] / (lastTheta[0] + lastTheta[1]);
    };
    expect(Math.abs(visits(1) - 0.2)).toBeLessThan(0.01);
    expect(Math.abs(visits(3) - 0.5)).toBeLessThan(0.012);
  });
});

describe('the loop', () => {
  it('is MirrorAscent and marginLoss of src/objective, pair by pair', () => {
    fc.assert(
      fc.property(
        arbitraryProblem(),
        fc.record({
          loss: fc.constantFrom<LossSettings>(...smoothLosses, { loss: 'hinge', beta: 0.7 }),
          algorithm: fc.constantFrom(1 as const, 3 as const),
          order: fc.constantFrom('alternating' as const, 'simultaneous' as const),
          radius: fc.constantFrom(undefined, 0.4, 3),
          steps: fc.constant({ theta: 0.02, alpha: 0.03 }),
        }),
        fc.integer(),
        (problem, settings, seed) => {
          const fast = runSaddle(problem, settings, 200, Random.stream(seed, 'loop'));
          const slow = runByObjective(problem, settings, 200, Random.stream(seed, 'loop'));
          for (const key of ['lastTheta', 'lastAlpha', 'averageTheta', 'averageAlpha'] as const)
            for (let n = 0; n < slow[key].length; n++)
              expect(Math.abs(fast[key][n] - slow[key][n])).toBeLessThan(1e-10 * (1 + Math.abs(slow[key][n])));
        },
      ),
      { numRuns: 150 },
    );
  });

  it('keeps every iterate in the ball and α on the simplex, also where losses are huge', () => {
    const problem = problemOf([
      [[3, 1]],
      [
        [-2, 5],
        [1, 1],
      ],
    ]);
    const settings = {
      loss: { loss: 'ipo', beta: 0.001 },
      algorithm: 1,
      steps: { theta: 10, alpha: 10 },
      radius: 0.5,
    } as const;
    for (const count of [1, 2, 3, 50]) {
      const { lastTheta, lastAlpha } = runSaddle(problem, settings, count, Random.stream(3, 'huge'));
      expect(Math.hypot(...lastTheta)).toBeLessThanOrEqual(0.5 * (1 + 1e-12));
      expect(lastAlpha[0] + lastAlpha[1]).toBeCloseTo(1, 12);
    }
  });

  it('is plain stochastic gradient descent with one group', () => {
    const { averageAlpha } = runSaddle(
      problemOf([[[1], [2]]]),
      { loss: dpo, algorithm: 1, steps: { theta: 0.1, alpha: 5 } },
      50,
      Random.stream(1, 'one'),
    );
    expect(averageAlpha[0]).toBe(1);
  });

  it('refuses a number of steps that is not one', () => {
    const settings = { loss: dpo, algorithm: 1, steps: { theta: 0.1, alpha: 0.1 } } as const;
    for (const count of [0, -1, 1.5, Number.NaN])
      expect(() => runSaddle(problemOf([[[1]]]), settings, count, Random.stream(1, 'x'))).toThrow(InputError);
  });

  it('gives the same numbers whatever the number of workers', async () => {
    const problem = problemOf([
      [[1, 2]],
      [
        [-1, 0.5],
        [0.3, 1],
      ],
    ]);
    const settings: SaddleSettings = { loss: dpo, algorithm: 1, steps: { theta: 0.1, alpha: 0.05 }, radius: 2 };
    // More than are done at once, and of two lengths in turn.
    const jobs = Array.from(
      { length: 40 },
      (_, run): SaddleJob => ({ problem, settings, count: run % 2 === 0 ? 500 : 300, seed: 7, run }),
    );
    const here = jobs.flatMap((job) => runSaddleBatch({ jobs: [job] }));
    expect(await runSaddles(jobs, { workers: 1 })).toEqual(here);
    expect(await runSaddles(jobs, { workers: 2 })).toEqual(here);
    expect(here[0].lastTheta).not.toEqual(here[2].lastTheta);
  });
});
