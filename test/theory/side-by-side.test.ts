import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { trainingProblem } from '../../src/bandit/preferences.js';
import { InputError } from '../../src/errors.js';
import { loadSimulator } from '../../src/native/simulator.js';
import { Random } from '../../src/numbers/random.js';
import { type LossSettings, marginLoss } from '../../src/objective/losses.js';
import { runSaddle, type SaddleRun, type SaddleSettings } from '../../src/theory/algorithm.js';
import { convergenceConstants, stepSizes } from '../../src/theory/constants.js';
import { runSideBySide } from '../../src/theory/side-by-side.js';
import { arbitraryProblem, problemOf, smoothLosses } from './problems.js';

const simulator = loadSimulator();
if (!simulator)
  console.warn("runs side by side are done one by one: the simulator's addon is not built (npm run build)");

function expectSame(actual: SaddleRun, expected: SaddleRun, tolerance: number): void {
  for (const key of ['lastTheta', 'lastAlpha', 'averageTheta', 'averageAlpha'] as const) {
    expect(actual[key].length).toBe(expected[key].length);
    expected[key].forEach((value, n) => {
      expect(Math.abs(actual[key][n] - value)).toBeLessThanOrEqual(tolerance * (1 + Math.abs(value)));
    });
  }
}

const paper = trainingProblem({ features: 'swapped', responses: 'uneven', data: 'imbalanced' }, 2021);
const dpo: LossSettings = { loss: 'dpo', beta: 1 };

describe.skipIf(!simulator).each(simulator?.widths ?? [])('in vectors of %i, runs', (width) => {
  it('are those of the loop in TypeScript, whatever loss, shape, order and number of runs', () => {
    fc.assert(
      fc.property(
        arbitraryProblem(),
        fc.constantFrom<LossSettings>(...smoothLosses, { loss: 'hinge', beta: 0.7 }),
        fc.constantFrom(1 as const, 3 as const),
        fc.integer({ min: 1, max: 35 }),
        fc.integer(),
        (problem, loss, algorithm, runs, seed) => {
          const starts = Array.from({ length: runs }, (_, run) => ({
            settings: {
              loss,
              algorithm,
              order: (['alternating', 'simultaneous'] as const)[run % 2],
              radius: [undefined, 0.4, 3][run % 3],
              steps: { theta: 0.02 / (1 + run), alpha: 0.03 / (1 + run) },
            },
            random: Random.stream(seed, 'side by side', run),
          }));
          const found = runSideBySide(problem, starts, 150, () => {}, simulator, width);
          expect(found).toHaveLength(runs);
          for (const [run, { settings }] of starts.entries()) {
            const alone = runSaddle(problem, settings, 150, Random.stream(seed, 'side by side', run));
            expectSame(found[run], alone, 1e-10);
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  it.each([
    ['dpo', dpo],
    ['smoothed dpo', { loss: 'dpo', beta: 1, labelSmoothing: 0.1 }],
    ['ipo', { loss: 'ipo', beta: 0.1 }],
  ] as const)('agree to 1e-9 after 200,000 steps of %s on the paper’s pairs', (_, loss) => {
    const steps = stepSizes(convergenceConstants(paper, marginLoss(loss), 10, 1), 1e5);
    const settings: SaddleSettings = { loss, algorithm: 1, radius: 10, steps };
    const start = (run: number) => ({ settings, random: Random.stream(run, 'long') });
    const found = runSideBySide(paper, [start(0), start(1)], 200_000, () => {}, simulator, width);
    for (const run of [0, 1])
      expectSame(found[run], runSaddle(paper, settings, 200_000, Random.stream(run, 'long')), 1e-9);
  });

  it('draw again where a number would be biased', () => {
    // The first number of this state is the largest there is: it lies in the incomplete last block unless that many pairs divide 2³².
    const state = [0, 0x7fffffff, 0, 0];
    const rejected = Random.restore(state);
    expect(rejected.integer(2 ** 32 - 1)).not.toBe(Random.restore(state).integer(2 ** 31));
    for (const algorithm of [1, 3] as const) {
      const settings: SaddleSettings = { loss: dpo, algorithm, steps: { theta: 0.1, alpha: 0.1 } };
      const random = [Random.stream(1, 'x'), Random.restore(state), Random.stream(2, 'x')];
      const found = runSideBySide(
        paper,
        random.map((random) => ({ settings, random })),
        70,
        () => {},
        simulator,
        width,
      );
      const again = [Random.stream(1, 'x'), Random.restore(state), Random.stream(2, 'x')];
      for (const [run, random] of again.entries())
        expectSame(found[run], runSaddle(paper, settings, 70, random), 1e-12);
    }
  });

  it('do not depend on what is run beside them', () => {
    const settings: SaddleSettings = { loss: dpo, algorithm: 3, radius: 1, steps: { theta: 0.3, alpha: 0.1 } };
    const start = (run: number) => ({ settings, random: Random.stream(run, 'beside') });
    const together = runSideBySide(paper, [0, 1, 2, 3, 4].map(start), 300, () => {}, simulator, width);
    for (const run of [0, 4])
      expect(runSideBySide(paper, [start(run)], 300, () => {}, simulator, width)).toEqual([together[run]]);
  });

  it('hide no NaN, and survive margins beyond all bounds', () => {
    const settings: SaddleSettings = { loss: dpo, algorithm: 1, steps: { theta: 0.1, alpha: 0.1 } };
    const runOf = (difference: number) =>
      runSideBySide(
        problemOf([[[difference]], [[1]]]),
        [{ settings, random: Random.stream(1, 'nan') }],
        50,
        () => {},
        simulator,
        width,
      )[0];
    expect([...runOf(Number.NaN).lastTheta, ...runOf(Number.NaN).lastAlpha]).toEqual([NaN, NaN, NaN]);
    const far = runSaddle(problemOf([[[1e6]], [[1]]]), settings, 50, Random.stream(1, 'nan'));
    expectSame(runOf(1e6), far, 1e-9);
  });
});

it('tells of all steps of all runs, with and without the addon', () => {
  const settings: SaddleSettings = { loss: dpo, algorithm: 1, steps: { theta: 0.1, alpha: 0.1 } };
  for (const addon of new Set([simulator, null])) {
    let told = 0;
    const starts = [0, 1, 2].map((run) => ({ settings, random: Random.stream(run, 'told') }));
    const found = runSideBySide(paper, starts, 70_000, (steps) => (told += steps), addon);
    expect(told).toBe(210_000);
    for (const run of [0, 1, 2])
      expectSame(found[run], runSaddle(paper, settings, 70_000, Random.stream(run, 'told')), 1e-9);
    expect(() => runSideBySide(paper, starts, 0.5, () => {}, addon)).toThrow(InputError);
  }
});
