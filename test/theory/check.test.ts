import { describe, expect, it } from 'vitest';
import { trainingProblem } from '../../src/bandit/preferences.js';
import { Random } from '../../src/numbers/random.js';
import { marginLoss } from '../../src/objective/losses.js';
import { runSaddle, type SaddleSettings } from '../../src/theory/algorithm.js';
import { errorTolerance, type HorizonMeasurement, judge } from '../../src/theory/check.js';
import { convergenceConstants, errorBound, stepSizes } from '../../src/theory/constants.js';
import { assessRun, measureConvergence } from '../../src/theory/convergence.js';
import { minimax } from '../../src/theory/minimax.js';
import { fitRate, meanInterval } from '../../src/theory/rate-fit.js';
import { plainLosses, problemOf } from './problems.js';

/** Errors C·T^rate with relative noise. */
function powerLaw(rate: number, noise = 0.05, horizons = [1e3, 1e4, 1e5, 1e6]): HorizonMeasurement[] {
  const draw = Random.stream(11, 'power-law');
  return horizons.map((T) => {
    const errors = Array.from({ length: 10 }, () => T ** rate * (1 + noise * draw.normal()));
    return { T, errors, gaps: errors.map((error) => 1.5 * error), lastErrors: errors, bound: 10 / Math.sqrt(T) };
  });
}

const farBelow = (measurements: HorizonMeasurement[]) => measurements.map((one) => ({ ...one, bound: 1 }));

/** The starting point of runs whose losses are about 1. */
const from = (error: number) => ({ error, tolerance: 1e-9 });

describe('rate fit', () => {
  it('is exact on a power law, with an interval that covers the rate when there is noise', () => {
    const exact = fitRate(powerLaw(-0.5, 0));
    expect(exact.slope).toBeCloseTo(-0.5, 12);
    expect(exact.interval[0]).toBeCloseTo(-0.5, 12);
    const noisy = fitRate(powerLaw(-0.5, 0.3));
    expect(noisy.interval[0]).toBeLessThan(-0.5);
    expect(noisy.interval[1]).toBeGreaterThan(-0.5);
    expect(noisy.interval[1] - noisy.interval[0]).toBeLessThan(0.15);
  });

  it.each([10, 4, 2])('has intervals that hold the truth as often as they say, with %d runs', (runs) => {
    const draw = Random.stream(1, 'coverage', runs);
    const errorsAt = (T: number) => Array.from({ length: runs }, () => T ** -0.5 * (1 + 0.1 * draw.normal()));
    const trials = 2000;
    let [means, slopes] = [0, 0];
    for (let trial = 0; trial < trials; trial++) {
      const [low, high] = meanInterval(errorsAt(100));
      if (low <= 0.1 && high >= 0.1) means++;
      const { interval } = fitRate([1e5, 3e5, 1e6, 3e6].map((T) => ({ T, errors: errorsAt(T) })));
      if (interval[0] <= -0.5 && interval[1] >= -0.5) slopes++;
    }
    for (const held of [means, slopes]) {
      expect(held / trials).toBeGreaterThan(0.935);
      // Of two runs a horizon, the degrees of freedom are rounded down.
      expect(held / trials).toBeLessThan(runs === 2 ? 0.995 : 0.965);
    }
  });

  it('refuses what has no rate', () => {
    expect(() => fitRate(powerLaw(-0.5).slice(0, 1))).toThrow(RangeError);
    const withErrors = (errors: number[]) => () => fitRate([100, 200].map((T) => ({ T, errors })));
    expect(withErrors([-1, -1])).toThrow('positive mean errors');
    expect(withErrors([1])).toThrow('one run');
    expect(() => meanInterval([1])).toThrow('single run');
  });
});

describe('verdict', () => {
  it('holds for T^-1/2, and for what falls faster', () => {
    expect(judge(powerLaw(-0.5), from(1))).toMatchObject({ holds: true, reasons: [] });
    expect(judge(powerLaw(-0.9), from(1)).holds).toBe(true);
  });

  it.each([
    ['a shallow rate', powerLaw(-0.3), 1, /the rate -0\.30/],
    [
      'a shallow rate over a factor of 30',
      farBelow(powerLaw(-0.3, 0.05, [1e5, 3e6])),
      1,
      /^the rate -0\.3.* is clearly above -0\.4$/,
    ],
    ['no fall at all', powerLaw(0), 10, /the rate/],
    ['an error above the bound', powerLaw(-0.5).map((m) => ({ ...m, bound: 1e-9 })), 1, /above the bound/],
    [
      'an error below zero',
      powerLaw(-0.5).map((m) => ({ ...m, errors: m.errors.with(3, -2e-9) })),
      1,
      /beats the minimax value/,
    ],
    ['an error above its gap', powerLaw(-0.5).map((m) => ({ ...m, gaps: m.gaps.with(0, 0) })), 1, /duality gap/],
    ['NaN', powerLaw(-0.5).map((m) => ({ ...m, errors: m.errors.with(0, Number.NaN) })), 1, /NaN/],
    [
      'a floor behind a fast fall',
      [...powerLaw(-1.5, 0.05, [1e3, 1e4, 1e5]), ...powerLaw(-1.3, 0.05, [3e5])],
      1,
      /stops falling: from T = 100000 to 300000/,
    ],
  ])('fails for %s', (_, measurements, start, reason) => {
    const { outcome, holds, reasons } = judge(measurements, from(start));
    expect(outcome).toBe('fails');
    expect(holds).toBe(false);
    expect(reasons.join('\n')).toMatch(reason);
  });

  it.each([
    ['a wide interval', powerLaw(-0.42, 0.3), 1, /not clearly/],
    [
      'a shallow rate over less than a factor of 30',
      farBelow(powerLaw(-0.3, 0.05, [1e5, 1e6, 2.9e6])),
      1,
      /the rate -0\.30.*is clearly above -0\.4; but.*span only a factor of 29,[\s\S]*stops falling.*; but the horizons/,
    ],
    ['too few horizons past burn-in', powerLaw(-0.5), 0.005, /only 1 of the 4 horizons/],
    ['no horizon past burn-in', powerLaw(-0.5), 1e-6, /only 0 of the 4 horizons/],
    ['one horizon', powerLaw(-0.5, 0.05, [1e6]), 1, /only 1 of the 1 horizons/],
    [
      'a mean error that is above the bound by chance',
      powerLaw(-0.5, 0.3).map((m) => ({ ...m, bound: 0.98 / Math.sqrt(m.T) })),
      1,
      /contains the bound/,
    ],
    [
      'errors that are all rounding',
      powerLaw(-0.5).map((m) => ({ ...m, errors: m.errors.map(() => -1e-10), gaps: m.gaps.map(() => 0) })),
      1,
      /not positive/,
    ],
  ])('is unclear for %s', (_, measurements, start, reason) => {
    const { outcome, holds, reasons } = judge(measurements, from(start));
    expect(outcome).toBe('unclear');
    expect(holds).toBe(false);
    expect(reasons.join('\n')).toMatch(reason);
  });

  it.each([1e-9, 1, 1e9])('is the same for losses %d times as large', (scale) => {
    const scaled = (measurements: HorizonMeasurement[]) =>
      measurements.map(({ T, ...numbers }) => ({
        T,
        errors: numbers.errors.map((error) => scale * error),
        gaps: numbers.gaps.map((gap) => scale * gap),
        lastErrors: numbers.lastErrors.map((error) => scale * error),
        bound: scale * numbers.bound,
      }));
    const outcomeOf = (first: number, gap: number) => {
      const law = powerLaw(-0.5).map((m) => ({ ...m, errors: m.errors.with(3, first), gaps: m.gaps.with(3, gap) }));
      return judge(scaled(law), { error: scale, tolerance: scale * 1e-9 }).outcome;
    };
    expect(outcomeOf(1e-4, 1e-4)).toBe('holds');
    expect(outcomeOf(-5e-10, 1)).toBe('holds');
    expect(outcomeOf(1e-4, 1e-4 - 5e-10)).toBe('holds');
    expect(outcomeOf(-2e-9, 1)).toBe('fails');
    expect(outcomeOf(1e-4, 1e-4 - 2e-9)).toBe('fails');
  });

  it('fails by what was known before, whatever the errors, and says that first', () => {
    const before = [{ outcome: 'fails', reason: 'a step is negative' }] as const;
    expect(judge(powerLaw(-0.5), from(1), before)).toMatchObject({
      outcome: 'fails',
      reasons: ['a step is negative'],
    });
    expect(judge(powerLaw(-0.5), from(1e-6), before).reasons[0]).toBe('a step is negative');
  });

  it('keeps horizons before burn-in out of the rate', () => {
    const early = powerLaw(0, 0, [10, 100]).map((m) => ({
      ...m,
      errors: m.errors.map(() => 0.9),
      gaps: m.gaps.map(() => 1),
    }));
    const { rate, horizons, holds } = judge([...early, ...powerLaw(-0.5)], from(1));
    expect(horizons.map((horizon) => horizon.past_burn_in)).toEqual([false, false, true, true, true, true]);
    expect(Math.abs(rate!.slope + 0.5)).toBeLessThan(0.02);
    expect(holds).toBe(true);
  });
});

// Two groups of 2 and 8 pairs that pull the first coordinate apart; both want the second one large, so the ball binds.
const problem = problemOf([
  [
    [1, 0.4],
    [0.8, 0.2],
  ],
  [
    [-0.9, 1],
    [-0.7, 0.8],
    [-0.8, 1.1],
    [-1, 0.9],
    [-0.6, 0.7],
    [-0.8, 0.6],
    [-0.9, 1.2],
    [-0.5, 0.9],
  ],
]);
const cases = [
  { loss: { loss: 'dpo', beta: 1 }, radius: 3 },
  { loss: { loss: 'ipo', beta: 0.5 }, radius: 0.8 },
] as const;
const horizons = [1e3, 3e3, 1e4, 3e4, 1e5];

it.each([1e-6, 1e-3, 0.5, 30])('the saddle point itself passes, with IPO at β = %d', (beta) => {
  const settings = { loss: { loss: 'ipo', beta }, radius: 0.8 } as const;
  const saddle = minimax(problem, marginLoss(settings.loss), settings.radius);
  const { theta, alpha } = saddle;
  const run = { averageTheta: theta, averageAlpha: alpha, lastTheta: theta, lastAlpha: alpha };
  const { error, gap } = assessRun(problem, settings, saddle, run);
  const tolerance = errorTolerance(saddle);
  expect(error).toBeGreaterThanOrEqual(-tolerance);
  expect(error).toBeLessThanOrEqual(gap + tolerance);
  // Yet it is small beside what a run can gain.
  expect(tolerance).toBeLessThan(1e-9 * Math.max(1, saddle.value));
});

describe.each(cases)('the check on $loss.loss', ({ loss: lossSettings, radius }) => {
  const loss = marginLoss(lossSettings);
  const constants = convergenceConstants(problem, loss, radius, 1);
  const saddle = minimax(problem, loss, radius);
  const startError = Math.max(...plainLosses(problem, loss, [0, 0]).map(({ value }) => value)) - saddle.value;

  /** The verdict on the algorithm with some of its settings replaced. */
  function verdictOn(change: (T: number) => Partial<SaddleSettings>) {
    const measurements = horizons.map((T): HorizonMeasurement => {
      const settings: SaddleSettings = {
        loss: lossSettings,
        algorithm: 1,
        radius,
        steps: stepSizes(constants, T),
        ...change(T),
      };
      const runs = Array.from({ length: 6 }, (_, run) =>
        assessRun(
          problem,
          { loss: lossSettings, radius },
          saddle,
          runSaddle(problem, settings, T, Random.stream(run, 'teeth', T)),
        ),
      );
      return {
        T,
        errors: runs.map(({ error }) => error),
        gaps: runs.map(({ gap }) => gap),
        lastErrors: runs.map(({ lastError }) => lastError),
        bound: errorBound(constants, T),
      };
    });
    return judge(measurements, { error: startError, tolerance: errorTolerance(saddle) });
  }

  it.each(['alternating', 'simultaneous'] as const)('holds for the algorithm as it is, %s', (order) => {
    expect(verdictOn(() => ({ order }))).toMatchObject({ holds: true, reasons: [] });
  });

  it('holds for Algorithm 3 with its own constants', () => {
    const own = convergenceConstants(problem, loss, radius, 3);
    expect(verdictOn((T) => ({ algorithm: 3, steps: stepSizes(own, T) })).reasons).toEqual([]);
  });

  it.each<[string, (T: number) => Partial<SaddleSettings>]>([
    ['the factor N/N_g is dropped', () => ({ factors: Float64Array.of(1, 1) })],
    [
      "alpha's sign is flipped",
      (T) => {
        const { theta, alpha } = stepSizes(constants, T);
        return { steps: { theta, alpha: -alpha } };
      },
    ],
    ['the step does not shrink with T', () => ({ steps: stepSizes(constants, 1) })],
    ['the projection is missing', () => ({ radius: undefined })],
  ])('does not hold when %s', (_, change) => {
    // Errors that stay large refute nothing before the bound has fallen to them; checkPremises sees these faults in the loop itself.
    const { holds, reasons } = verdictOn(change);
    expect(holds).toBe(false);
    expect(reasons.length).toBeGreaterThan(0);
  });
});

describe('measureConvergence', () => {
  it('judges the simultaneous order, which the proof covers, with the alternating one beside it', async () => {
    const settings = {
      loss: { loss: 'dpo', beta: 1 },
      algorithm: 1,
      radius: 3,
      runs: 2,
      seed: 3,
      horizons: [300],
    } as const;
    const both = await measureConvergence(problem, settings);
    expect([both.order, both.alternating?.order]).toEqual(['simultaneous', 'alternating']);
    expect(both.alternating?.horizons[0].error).not.toBe(both.horizons[0].error);
    for (const order of ['simultaneous', 'alternating'] as const) {
      const { loss, seed, constants, minimax, start_error, ...alone } = await measureConvergence(problem, {
        ...settings,
        order,
      });
      const { alternating, ...first } = both;
      expect(order === 'simultaneous' ? first : alternating).toMatchObject(alone);
    }
    expect(both.outcome).toBe('unclear');
  });

  it('refutes nothing by the slope of three near horizons, whose errors are far below their bounds', async () => {
    const same = trainingProblem({ features: 'same', responses: 'even', data: 'imbalanced' }, 2021);
    const settings = { algorithm: 1, radius: 10, runs: 10, seed: 2021, horizons: [5e4, 1e5, 2e5] } as const;
    const { rate, outcome, horizons } = await measureConvergence(same, {
      ...settings,
      loss: { loss: 'ipo', beta: 0.1 },
      order: 'simultaneous',
    });
    expect(horizons.every(({ error, bound, past_burn_in }) => 20 * error < bound && past_burn_in)).toBe(true);
    expect(rate!.interval[0]).toBeGreaterThan(-0.4);
    expect(outcome).toBe('unclear');
  });

  it('refuses to measure at no horizon, or with a group that has no pairs', async () => {
    const settings = { loss: { loss: 'dpo', beta: 1 }, algorithm: 1, radius: 3, runs: 2, seed: 3 } as const;
    await expect(measureConvergence(problem, { ...settings, horizons: [] })).rejects.toThrow(
      /field "horizons": there is no number of steps to measure at\n {2}fix: name some/,
    );
    const [group] = problem.groups;
    const empty = { count: 0, differences: new Float64Array(0) };
    await expect(
      measureConvergence({ ...problem, groups: [group, empty] }, { ...settings, horizons: [10] }),
    ).rejects.toThrow(/field "groups": every group needs at least one pair; sizes are \[2, 0\]/);
  });

  it('does not depend on the number of workers, nor on the order of the horizons', async () => {
    const settings = { loss: { loss: 'dpo', beta: 1 }, algorithm: 1, radius: 3, runs: 2, seed: 3 } as const;
    const one = await measureConvergence(problem, { ...settings, horizons: [1000, 300] }, { workers: 1 });
    const two = await measureConvergence(problem, { ...settings, horizons: [300, 1000, 300] }, { workers: 2 });
    expect(two).toEqual(one);
    expect(one.horizons.map(({ T }) => T)).toEqual([300, 1000]);
    for (const { error, duality_gap, bound, error_interval } of one.horizons) {
      expect(error).toBeGreaterThan(0);
      expect(error).toBeLessThanOrEqual(duality_gap);
      expect(error).toBeLessThan(bound);
      expect(error_interval[0]).toBeLessThanOrEqual(error);
      expect(error_interval[1]).toBeGreaterThanOrEqual(error);
    }
  });
});
