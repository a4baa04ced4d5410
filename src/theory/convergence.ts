import { InputError } from '../errors.js';
import { type LossSettings, type MarginLoss, marginLoss } from '../objective/losses.js';
import { groupLosses, norm, worst } from '../policy/group-losses.js';
import type { LogLinearProblem } from '../policy/log-linear-problem.js';
import type { SaddleRun, SaddleSettings } from './algorithm.js';
import { errorTolerance, type Finding, type HorizonMeasurement, judge, type Verdict } from './check.js';
import { type Algorithm, type Constants, convergenceConstants, errorBound, stepSizes } from './constants.js';
import { leastMixture, type Minimax, minimax } from './minimax.js';
import { checkPremises, type Premises } from './premises.js';
import { runSaddles, type SaddleJob, type SaddleOptions } from './saddle-jobs.js';

export interface ConvergenceSettings {
  loss: LossSettings;
  algorithm: Algorithm;
  /** The one order to measure, see {@link SaddleSettings}. Default: both, each with its own verdict. */
  order?: Order;
  /** B_Θ, the radius of the ball. */
  radius: number;
  /** Numbers of steps T. */
  horizons: readonly number[];
  /** Independent runs at each horizon. */
  runs: number;
  seed: number;
}

/** `simultaneous` is the algorithm that the proof covers; `alternating` the one that the paper lists, and both repositories run. */
export type Order = NonNullable<SaddleSettings['order']>;

/** What was measured of one order, and the verdict on it. */
export interface OrderConvergence extends Verdict {
  algorithm: Algorithm;
  order: Order;
  premises: Premises;
}

/**
 * Everything `group-robust converge` reports. Of its own: the order that was asked for, or else the simultaneous one, whose
 * verdict is that on Proposition 4.1.
 */
export interface Convergence extends OrderConvergence {
  loss: LossSettings;
  /** Of all draws. */
  seed: number;
  constants: Constants;
  minimax: Minimax;
  /** max_g L_g(θ⁰) − v at θ⁰ = 0. */
  start_error: number;
  /** The other order beside it: the same claim, but of an algorithm that no proof covers. Absent where one order was asked for. */
  alternating?: OrderConvergence;
}

/** Settings under which the claim can be judged in seconds: the horizons go past burn-in. */
export const convergenceDefaults = {
  algorithm: 1,
  horizons: [1e4, 1e5, 3e5, 1e6, 3e6],
  runs: 10,
  radius: 10,
  seed: 2021,
  /** The paper's β (Table 1). */
  beta: { dpo: 1, ipo: 0.1, hinge: 1, rdpo: 1 },
} as const;

/** The orders that are measured; the main verdict is on the first. */
function ordersOf({ order }: Pick<ConvergenceSettings, 'order'>): Order[] {
  return order === undefined ? ['simultaneous', 'alternating'] : [order];
}

/** All the steps that {@link measureConvergence} takes, for a progress bar. */
export function convergenceSteps(settings: Pick<ConvergenceSettings, 'order' | 'horizons' | 'runs'>): number {
  return ordersOf(settings).length * settings.runs * [...new Set(settings.horizons)].reduce((sum, T) => sum + T, 0);
}

/**
 * Measures Proposition 4.1 on `problem`: `runs` runs at each horizon with that horizon's own step sizes, across cores, against
 * the exact minimax value; then judges, its premises first. The result depends on the seed only.
 *
 * @throws InputError on a bad radius, horizon or number of runs, or a loss whose exact minimax value is not known.
 * @example Too short a run to tell, so the claim is neither confirmed nor refuted.
 * ```ts
 * import { measureConvergence, trainingProblem } from 'group-robust-po';
 *
 * const problem = trainingProblem({ features: 'swapped', responses: 'uneven', data: 'imbalanced' }, 2021);
 * const loss = { loss: 'dpo', beta: 1 } as const;
 * const settings = { loss, algorithm: 1, radius: 10, horizons: [100, 1000], runs: 4, seed: 1 } as const;
 * const { outcome, horizons, alternating } = await measureConvergence(problem, settings);
 * outcome; // → 'unclear'
 * horizons.every(({ error, bound }) => error < bound); // → true
 * alternating?.outcome; // → 'unclear'
 * ```
 */
export async function measureConvergence(
  problem: LogLinearProblem,
  settings: ConvergenceSettings,
  options: SaddleOptions = {},
): Promise<Convergence> {
  const { radius, algorithm, runs, seed } = settings;
  const horizons = ascending(settings);
  const loss = marginLoss(settings.loss);
  const constants = convergenceConstants(problem, loss, radius, algorithm);
  const { saddle, start } = startingPoint(problem, loss, radius);

  const settingsOf = (order: Order, T: number): SaddleSettings => ({
    loss: settings.loss,
    algorithm,
    order,
    radius,
    steps: stepSizes(constants, T),
  });
  const orders = ordersOf(settings);
  // The longest first, so that the cores finish together.
  const jobs = horizons
    .toReversed()
    .flatMap((T) =>
      orders.flatMap((order) =>
        Array.from(
          { length: runs },
          (_, run): SaddleJob => ({ problem, settings: settingsOf(order, T), count: T, seed, run }),
        ),
      ),
    );
  const results = await runSaddles(jobs, options);

  const [first, second] = orders.map((order): OrderConvergence => {
    const measured = new Map(horizons.map((T) => [T, settingsOf(order, T)]));
    const { premises, reasons } = checkPremises(problem, measured, seed);
    const runsAt = (T: number) => results.filter((_, n) => jobs[n].count === T && jobs[n].settings.order === order);
    const furthest = Math.max(
      ...horizons.flatMap(runsAt).flatMap(({ averageTheta, lastTheta }) => [norm(averageTheta), norm(lastTheta)]),
    );
    if (!(furthest <= radius * (1 + 1e-12)))
      reasons.push(`a run ends at ‖θ‖ = ${furthest.toPrecision(6)}, outside the ball of radius ${radius}`);
    const measurements = horizons.map((T): HorizonMeasurement => {
      return { T, ...assessRuns(problem, settings, saddle, runsAt(T)), bound: errorBound(constants, T) };
    });
    const findings = reasons.map((reason): Finding => ({ outcome: 'fails', reason }));
    return {
      algorithm,
      order,
      premises,
      ...judge(measurements, start, findings),
    };
  });
  return {
    loss: settings.loss,
    seed,
    ...first,
    constants,
    minimax: saddle,
    start_error: start.error,
    ...(second && { alternating: second }),
  };
}

/** The numbers of steps, each once. @throws InputError for none, or too few runs */
export function ascending({ horizons, runs }: Pick<ConvergenceSettings, 'horizons' | 'runs'>): number[] {
  if (!(Number.isSafeInteger(runs) && runs >= 2))
    throw new InputError(`${runs} runs give no interval`, {
      at: { field: 'runs' },
      fix: 'use 2 or more, 10 by default',
    });
  if (horizons.length === 0)
    throw new InputError('there is no number of steps to measure at', {
      at: { field: 'horizons' },
      fix: `name some, such as ${convergenceDefaults.horizons.join(', ')}`,
    });
  return [...new Set(horizons)].sort((a, b) => a - b);
}

/** The exact minimax value, and max_g L_g(0) − v with what rounding makes of it. */
export function startingPoint(problem: LogLinearProblem, loss: MarginLoss, radius: number) {
  const saddle = minimax(problem, loss, radius);
  const error = worst(groupLosses(problem, loss, new Float64Array(problem.dimension))) - saddle.value;
  return { saddle, start: { error, tolerance: errorTolerance(saddle) } };
}

/** {@link assessRun} of each of `runs`. */
export function assessRuns(
  problem: LogLinearProblem,
  settings: { loss: LossSettings; radius: number },
  saddle: Minimax,
  runs: readonly SaddleRun[],
): Pick<HorizonMeasurement, 'errors' | 'gaps' | 'lastErrors'> {
  const assessed = runs.map((run) => assessRun(problem, settings, saddle, run));
  return {
    errors: assessed.map(({ error }) => error),
    gaps: assessed.map(({ gap }) => gap),
    lastErrors: assessed.map(({ lastError }) => lastError),
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
    gap: reached - leastMixture(problem, loss, run.averageAlpha, radius),
    lastError: worst(groupLosses(problem, loss, run.lastTheta)) - value,
  };
}
