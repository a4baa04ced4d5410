import { beforeAll, describe, expect, it } from 'vitest';
import { Random } from '../../src/numbers/random.js';
import { marginLoss } from '../../src/objective/losses.js';
import { summarise } from '../../src/theory/check.js';
import {
  type AlgorithmComparison,
  type ComparisonSettings,
  compareAlgorithms,
  comparisonSteps,
} from '../../src/theory/comparison.js';
import { convergenceConstants, errorBound, moment, stepSizes } from '../../src/theory/constants.js';
import { measureConvergence } from '../../src/theory/convergence.js';
import { runByObjective } from '../../src/theory/objective-run.js';
import { perSampleAlgorithms, scheduleOf } from '../../src/theory/schedules.js';
import { problemOf } from './problems.js';

// Two groups of 2 and 3 pairs on a line, that want θ apart: groups differ in size, so Algorithms 1 and 3 differ.
const problem = problemOf([
  [[1], [0.6]],
  [[-0.8], [-0.5], [0.1]],
]);
const loss = { loss: 'ipo', beta: 0.5 } as const;
const radius = 1.5;
const settings: ComparisonSettings = {
  loss,
  algorithms: perSampleAlgorithms,
  radius,
  horizons: [7, 300],
  runs: 3,
  seed: 4,
};

describe('schedules', () => {
  const constants = { B_phi: 0.7, B_grad: 0.9, B_l: 5, B_theta: 3, rho: 6, groups: 4, pairs: 60 };
  const [D, G, m] = [3, 0.9, 4];

  it('are those of the proposition for Algorithms 1 and 3', () => {
    for (const algorithm of [1, 3] as const)
      expect(scheduleOf(algorithm, constants, 1000)).toEqual({
        count: 1000,
        steps: stepSizes(constants, 1000),
        bound: errorBound(constants, 1000),
      });
  });

  it('are those of Zhang et al. 2023, Theorem 1, for every group, with losses in units of B_l', () => {
    const { count, steps, bound } = scheduleOf('every-group', constants, 1003);
    expect(count).toBe(250);
    // η_w = D² √(8 / (5T(D²G² + ln m))), η_q = ln m √(the same), and the bound 2√(10(D²G² + ln m)/T), of losses in [0, 1].
    const scaled = D ** 2 * (G / 5) ** 2 + Math.log(m);
    const root = Math.sqrt(8 / (5 * 250 * scaled));
    expect(steps.theta).toBeCloseTo((D ** 2 * root) / 5, 12);
    expect(steps.alpha).toBeCloseTo((Math.log(m) * root) / 5, 12);
    expect(bound).toBeCloseTo(5 * 2 * Math.sqrt((10 * scaled) / 250), 12);
    expect(() => scheduleOf('every-group', constants, 3)).toThrow(/3 samples are less than the 4 of one step/);
    expect(scheduleOf('every-group', constants, 4).count).toBe(1);
  });

  it('halve the steps of Algorithm 1 for the optimistic one', () => {
    const { steps, bound } = scheduleOf('optimistic', constants, 1000);
    expect(steps.theta).toBeCloseTo(stepSizes(constants, 1000).theta / 2, 12);
    expect(steps.alpha).toBeCloseTo(stepSizes(constants, 1000).alpha / 2, 12);
    expect(bound).toBeNull();
    expect(moment(constants)).toBeCloseTo(6 * (9 * 0.81 + 4 * 25 * Math.log(4)), 10);
  });

  it('minimise the two regret bounds for EXP3', () => {
    const T = 1000;
    const { steps, exploration = 0 } = scheduleOf('exp3', constants, T);
    const onTheta = (eta: number) => D ** 2 / (2 * eta) + (eta * G ** 2 * T) / 2;
    // Auer et al. 2002, Theorem 3.1, with the largest possible gain: (e − 1) γ T + K ln K / γ.
    const onAlpha = (gamma: number) => (Math.E - 1) * gamma * T + (m * Math.log(m)) / gamma;
    for (const factor of [0.99, 1.01]) {
      expect(onTheta(steps.theta)).toBeLessThan(onTheta(steps.theta * factor));
      expect(onAlpha(exploration)).toBeLessThan(onAlpha(exploration * factor));
    }
    // The rate on a gain l/B_l, divided by its chance, is γ/K.
    expect(steps.alpha * (1 - exploration) * 5).toBeCloseTo(exploration / m, 12);
    expect(scheduleOf('exp3', constants, 2)).toMatchObject({ exploration: 1, steps: { alpha: 0 } });
  });
});

describe('compareAlgorithms', () => {
  let whole: AlgorithmComparison;
  let told = 0;
  beforeAll(async () => {
    const onSteps = (done: number) => {
      told = done;
    };
    whole = await compareAlgorithms(problem, settings, { workers: 1, onSteps });
  });

  it('measures errors and gaps that a fine grid finds too, at equal numbers of samples', () => {
    const { minimax, start_error, algorithms } = whole;
    // L_g by the definition, (h − 1)², over θ in steps of 1e-5.
    const rows = [
      [1, 0.6],
      [-0.8, -0.5, 0.1],
    ];
    const losses = (theta: number) =>
      rows.map((row) => row.reduce((sum, d) => sum + (d * theta - 1) ** 2, 0) / row.length);
    const grid = Array.from({ length: 300_001 }, (_, n) => (n - 150_000) * 1e-5);
    const all = grid.map(losses);
    const least = (value: (losses: number[]) => number) =>
      all.reduce((most, one) => Math.min(most, value(one)), Infinity);
    const v = least((one) => Math.max(...one));
    expect(minimax.value).toBeCloseTo(v, 5);
    expect(start_error).toBeCloseTo(1 - v, 5);

    expect(algorithms.map(({ algorithm }) => algorithm)).toEqual([...perSampleAlgorithms]);
    for (const { algorithm, horizons, outcome, reasons } of algorithms) {
      expect(reasons).toEqual([]);
      expect(outcome).toBe('holds');
      expect(horizons.map(({ samples, steps }) => [samples, steps])).toEqual(
        algorithm === 'every-group'
          ? [
              [7, 3],
              [300, 150],
            ]
          : [
              [7, 7],
              [300, 300],
            ],
      );
      const constants = convergenceConstants(problem, marginLoss(loss), radius, algorithm === 3 ? 3 : 1);
      for (const { samples, steps: count, error, duality_gap, last_error } of horizons) {
        const { steps, exploration } = scheduleOf(algorithm, constants, samples);
        const mean = { error: 0, gap: 0, last: 0 };
        for (let run = 0; run < 3; run++) {
          const random = Random.stream(4, 'theory', 'saddle', count, run);
          const given = { loss, algorithm, radius, order: 'simultaneous', steps, exploration } as const;
          const { averageTheta, averageAlpha, lastTheta } = runByObjective(problem, given, count, random);
          const reached = Math.max(...losses(averageTheta[0]));
          mean.error += (reached - v) / 3;
          mean.gap += (reached - least(([a, b]) => averageAlpha[0] * a + averageAlpha[1] * b)) / 3;
          mean.last += (Math.max(...losses(lastTheta[0])) - v) / 3;
        }
        expect(error).toBeCloseTo(mean.error, 5);
        expect(duality_gap).toBeCloseTo(mean.gap, 5);
        expect(last_error).toBeCloseTo(mean.last, 5);
      }
    }
  });

  it("has of the paper's algorithms the numbers of the proposition's check", async () => {
    const short = { ...settings, horizons: [100, 3000] };
    const [{ horizons, rate }] = (await compareAlgorithms(problem, { ...short, algorithms: [3] }, { workers: 1 }))
      .algorithms;
    const alone = await measureConvergence(problem, { ...short, algorithm: 3, order: 'simultaneous' }, { workers: 1 });
    expect(rate).toEqual(alone.rate);
    for (const [n, { T, ...horizon }] of alone.horizons.entries())
      expect(horizons[n]).toMatchObject({ samples: T, steps: T, ...horizon });
  });

  it('depends on the seed alone, and tells of every step', async () => {
    expect(told).toBe(comparisonSteps(problem, settings));
    expect(told).toBe(3 * (4 * 307 + 153));
    const again = { ...settings, horizons: [300, 7, 300] };
    expect(await compareAlgorithms(problem, again, { workers: 2 })).toEqual(whole);
    // One algorithm's numbers do not depend on what it is compared with.
    const other = { ...settings, algorithms: ['exp3'] as const };
    const alone = await compareAlgorithms(problem, other, { workers: 1 });
    expect(alone.algorithms[0]).toEqual(whole.algorithms.at(-1));
    const reseeded = await compareAlgorithms(problem, { ...other, seed: 5 }, { workers: 1 });
    expect(reseeded.algorithms[0].horizons[1].error).not.toBe(alone.algorithms[0].horizons[1].error);
  });

  it('fits the rate of the horizons past burn-in', () => {
    const draw = Random.stream(3, 'series');
    const law = (T: number, rate: number) => {
      const errors = Array.from({ length: 12 }, () => T ** rate * (1 + 0.02 * draw.normal()));
      return { T, errors, gaps: errors, lastErrors: errors, bound: Number.POSITIVE_INFINITY };
    };
    const series = [10, 100, 1e3, 1e4, 1e5].map((T) => law(T, -0.7));
    const { rate, counted } = summarise(series, 4.1 * 100 ** -0.7);
    expect(counted.map(({ T }) => T)).toEqual([100, 1e3, 1e4, 1e5]);
    expect(rate!.slope).toBeCloseTo(-0.7, 2);
    expect(rate!.interval[0]).toBeLessThan(-0.7);
    expect(rate!.interval[1]).toBeGreaterThan(-0.7);
  });

  it('refuses what cannot be compared', async () => {
    const refused = (changed: Partial<ComparisonSettings>) => compareAlgorithms(problem, { ...settings, ...changed });
    await expect(refused({ algorithms: [1, 'exp3', 1] })).rejects.toThrow(/1 is there twice/);
    await expect(refused({ horizons: [1] })).rejects.toThrow(
      /1 samples are less than the 2 of one step of every-group/,
    );
    await expect(refused({ horizons: [0], algorithms: ['exp3'] })).rejects.toThrow(/positive whole number, not 0/);
    await expect(refused({ horizons: [] })).rejects.toThrow(/field "horizons": there is no number of steps/);
    await expect(refused({ runs: 1 })).rejects.toThrow(/1 runs give no interval/);
    await expect(refused({ radius: -1 })).rejects.toThrow(/radius/);
  });
});
