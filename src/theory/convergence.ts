import { InputError } from '../errors.js';
import { Random } from '../numbers/random.js';
import { type LossSettings, marginLoss } from '../objective/losses.js';
import type { LogLinearProblem } from '../policy/log-linear-problem.js';
import { runSaddles, type SaddleJob, type SaddleOptions, type SaddleRun, type SaddleSettings } from './algorithm.js';
import { type HorizonMeasurement, judge, type Verdict } from './check.js';
import { type Algorithm, type Constants, convergenceConstants, errorBound, stepSizes } from './constants.js';
import { groupLosses, norm, worst } from './group-losses.js';
import { innerMinimum } from './inner-minimum.js';
import { type Minimax, minimax } from './minimax.js';
import { checkPremises, type Premises } from './premises.js';

export interface ConvergenceSettings {
  loss: LossSettings;
  algorithm: Algorithm;
  /** See {@link SaddleSettings}; default alternating. */
  order?: SaddleSettings['order'];
  /** B_Θ, the radius of the ball. */
  radius: number;
  /** Numbers of steps T. */
  horizons: readonly number[];
  /** Independent runs at each horizon. */
  runs: number;
  seed: number;
}

/** Everything `group-robust converge` reports. */
export interface Convergence extends Verdict {
  constants: Constants;
  minimax: Minimax;
  /** max_g L_g(θ⁰) − v at θ⁰ = 0. */
  start_error: number;
  premises: Premises;
}

/** Settings under which the claim can be judged in seconds: the horizons go past burn-in. */
export const convergenceDefaults = {
  algorithm: 1,
  horizons: [1e4, 1e5, 3e5, 1e6, 3e6],
  runs: 10,
  radius: 10,
  seed: 2021,
  /** The paper's β (Table 1). */
  beta: { dpo: 1, ipo: 0.1 },
} as const;

/**
 * Measures Proposition 4.1 on `problem`: `runs` runs at each horizon with that horizon's own step sizes, across cores, against
 * the exact minimax value; then judges, its premises first. The result depends on the seed only.
 *
 * @throws InputError on a bad radius, loss, horizon or number of runs.
 */
export async function measureConvergence(
  problem: LogLinearProblem,
  settings: ConvergenceSettings,
  options: SaddleOptions = {},
): Promise<Convergence> {
  const { radius, algorithm, order, runs, seed } = settings;
  const horizons = [...new Set(settings.horizons)].sort((a, b) => a - b);
  if (!(Number.isSafeInteger(runs) && runs >= 2))
    throw new InputError(`${runs} runs give no interval`, {
      at: { field: 'runs' },
      fix: 'use 2 or more, 10 by default',
    });
  const loss = marginLoss(settings.loss);
  const constants = convergenceConstants(problem, loss, radius, algorithm);
  const saddle = minimax(problem, loss, radius);
  const startError = worst(groupLosses(problem, loss, new Float64Array(problem.dimension))) - saddle.value;

  // The longest first, so that the cores finish together.
  const jobs = horizons.toReversed().flatMap((T) =>
    Array.from(
      { length: runs },
      (_, run): SaddleJob => ({
        problem,
        settings: { loss: settings.loss, algorithm, order, radius, steps: stepSizes(constants, T) },
        count: T,
        seed,
        run,
      }),
    ),
  );
  const measured = new Map(jobs.map(({ count, settings }) => [count, settings]));
  const { premises, reasons } = checkPremises(problem, measured, seed);
  const results = await runSaddles(jobs, options);
  const furthest = Math.max(...results.flatMap(({ averageTheta, lastTheta }) => [norm(averageTheta), norm(lastTheta)]));
  if (!(furthest <= radius * (1 + 1e-12)))
    reasons.push(`a run ends at ‖θ‖ = ${furthest.toPrecision(6)}, outside the ball of radius ${radius}`);
  const measurements = horizons.map((T): HorizonMeasurement => {
    const assessed = results
      .filter((_, n) => jobs[n].count === T)
      .map((run) => assessRun(problem, settings, saddle, run));
    return {
      T,
      errors: assessed.map(({ error }) => error),
      gaps: assessed.map(({ gap }) => gap),
      lastErrors: assessed.map(({ lastError }) => lastError),
      bound: errorBound(constants, T),
    };
  });
  const verdict = judge(measurements, startError, Random.stream(seed, 'theory', 'bootstrap'));
  reasons.push(...verdict.reasons);
  return {
    constants,
    minimax: saddle,
    start_error: startError,
    premises,
    ...verdict,
    holds: reasons.length === 0,
    reasons,
  };
}

/** Error, duality gap and last iterate's error of one run, against the exact minimax value. */
export function assessRun(
  problem: LogLinearProblem,
  { loss: lossSettings, radius }: { loss: LossSettings; radius: number },
  { value }: Minimax,
  run: SaddleRun,
): { error: number; gap: number; lastError: number } {
  const loss = marginLoss(lossSettings);
  const reached = worst(groupLosses(problem, loss, run.averageTheta));
  return {
    error: reached - value,
    gap: reached - innerMinimum(problem, loss, run.averageAlpha, radius).lower,
    lastError: worst(groupLosses(problem, loss, run.lastTheta)) - value,
  };
}
