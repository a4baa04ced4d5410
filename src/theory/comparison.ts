import { InputError } from '../errors.js';
import { type LossSettings, marginLoss } from '../objective/losses.js';
import type { LogLinearProblem } from '../policy/log-linear-problem.js';
import type { Outcome } from '../terminal/checks.js';
import { checkSteps } from './algorithm.js';
import { concluded, contradictions, type HorizonMeasurement, type HorizonSummary, summarise } from './check.js';
import { type Constants, convergenceConstants } from './constants.js';
import { ascending, assessRuns, type ConvergenceSettings, startingPoint } from './convergence.js';
import type { Minimax } from './minimax.js';
import type { PerSampleAlgorithm } from './objective-run.js';
import { type Interval, meanInterval, type RateFit } from './rate-fit.js';
import { runSaddles, type SaddleJob, type SaddleOptions } from './saddle-jobs.js';
import { scheduleOf } from './schedules.js';

export interface ComparisonSettings extends Pick<ConvergenceSettings, 'radius' | 'runs' | 'seed'> {
  loss: LossSettings;
  /** Each once. */
  algorithms: readonly PerSampleAlgorithm[];
  /** Numbers of samples. */
  horizons: readonly number[];
}

/** What was measured of one algorithm at one number of samples; errors as in {@link HorizonSummary}. */
export interface ComparedHorizon extends Omit<HorizonSummary, 'T' | 'bound'> {
  samples: number;
  /** T: steps of `every-group` take K samples each, so there are ⌊samples/K⌋. */
  steps: number;
  /** 95 % interval of the mean ε of the last iterate. */
  last_error_interval: Interval;
  /** On the mean error; null where none is proven. */
  bound: number | null;
}

export interface ComparedAlgorithm {
  algorithm: PerSampleAlgorithm;
  horizons: ComparedHorizon[];
  /** Of the mean error against samples past burn-in, as in the verdict on Proposition 4.1; null where there are too few horizons. */
  rate: RateFit | null;
  /** Whether the errors are in [0, duality gap] and, where there is a bound, below it; an error outside is a fault of the code. */
  outcome: Outcome;
  reasons: string[];
}

export interface AlgorithmComparison {
  loss: LossSettings;
  /** Of all draws. */
  seed: number;
  /** Of Algorithm 1: ρ = N / min N_g. */
  constants: Constants;
  minimax: Minimax;
  /** max_g L_g(θ⁰) − v at θ⁰ = 0. */
  start_error: number;
  /** In the order in which they were asked for. */
  algorithms: ComparedAlgorithm[];
}

/** All jobs of a comparison, the longest first, so that the cores finish together. @throws InputError */
function jobsOf(problem: LogLinearProblem, settings: ComparisonSettings) {
  const { algorithms, radius, runs, seed } = settings;
  const horizons = ascending(settings);
  horizons.forEach(checkSteps);
  const loss = marginLoss(settings.loss);
  const twice = algorithms.find((algorithm, n) => algorithms.indexOf(algorithm) !== n);
  if (twice !== undefined)
    throw new InputError(`${twice} is there twice`, { at: { field: 'algorithms' }, fix: 'name each algorithm once' });
  const jobs = algorithms.flatMap((algorithm) => {
    const constants = convergenceConstants(problem, loss, radius, algorithm === 3 ? 3 : 1);
    return horizons.map((samples) => {
      const { count, steps, exploration, bound } = scheduleOf(algorithm, constants, samples);
      const run = { loss: settings.loss, algorithm, radius, order: 'simultaneous', steps, exploration } as const;
      return {
        algorithm,
        samples,
        bound,
        saddles: Array.from({ length: runs }, (_, n): SaddleJob => ({ problem, settings: run, count, seed, run: n })),
      };
    });
  });
  return jobs.sort((a, b) => b.saddles[0].count - a.saddles[0].count);
}

/** All the steps that {@link compareAlgorithms} takes, for a progress bar. @throws InputError */
export function comparisonSteps(problem: LogLinearProblem, settings: ComparisonSettings): number {
  return jobsOf(problem, settings).reduce((sum, { saddles }) => sum + saddles.length * saddles[0].count, 0);
}

/**
 * Per-sample algorithms on one problem at equal numbers of samples, each with the steps of its own theory (`scheduleOf`) and θ and α moving at
 * once, as all those theories have it: `runs` runs at each horizon, each with the steps of that horizon, against the exact minimax
 * value. Runs of different algorithms that take equally many steps have the same stream of random numbers. The result depends on the seed only.
 *
 * @throws InputError on a bad radius, horizon or number of runs, an algorithm that is named twice, horizons too small for `every-group`, or a
 * loss whose exact minimax value is not known.
 * @example With a sample of every group in each step, half as many steps.
 * ```ts
 * import { compareAlgorithms, trainingProblem } from 'group-robust-po';
 *
 * const problem = trainingProblem({ features: 'swapped', responses: 'uneven', data: 'imbalanced' }, 2021);
 * const loss = { loss: 'dpo', beta: 1 } as const;
 * const settings = { loss, algorithms: [1, 'every-group'], radius: 10, horizons: [100, 1000], runs: 2, seed: 1 } as const;
 * const { algorithms } = await compareAlgorithms(problem, settings);
 * algorithms.map(({ horizons }) => horizons[1].steps); // → [1000, 500]
 * algorithms[1].horizons[1].error < algorithms[0].horizons[1].error; // → true
 * ```
 */
export async function compareAlgorithms(
  problem: LogLinearProblem,
  settings: ComparisonSettings,
  options: SaddleOptions = {},
): Promise<AlgorithmComparison> {
  const { algorithms, radius, seed } = settings;
  const loss = marginLoss(settings.loss);
  const jobs = jobsOf(problem, settings);
  const { saddle, start } = startingPoint(problem, loss, radius);
  const results = await runSaddles(
    jobs.flatMap(({ saddles }) => saddles),
    options,
  );
  const measured = jobs.map(({ algorithm, samples, bound, saddles }, n) => {
    const runs = results.slice(n * settings.runs, (n + 1) * settings.runs);
    const measurement: HorizonMeasurement = {
      T: samples,
      ...assessRuns(problem, settings, saddle, runs),
      bound: bound ?? Number.POSITIVE_INFINITY,
    };
    return { algorithm, samples, steps: saddles[0].count, bound, measurement };
  });
  return {
    loss: settings.loss,
    seed,
    constants: convergenceConstants(problem, loss, radius, 1),
    minimax: saddle,
    start_error: start.error,
    algorithms: algorithms.map((algorithm): ComparedAlgorithm => {
      const own = measured.filter((one) => one.algorithm === algorithm).sort((a, b) => a.samples - b.samples);
      const measurements = own.map(({ measurement }) => measurement);
      const { horizons, rate } = summarise(measurements, start.error);
      return {
        algorithm,
        horizons: own.map(({ samples, steps, bound, measurement }, n): ComparedHorizon => {
          const { T: _, ...summary } = horizons[n];
          const last_error_interval = meanInterval(measurement.lastErrors);
          return { samples, steps, ...summary, last_error_interval, bound };
        }),
        rate,
        ...concluded(contradictions(measurements, horizons, start.tolerance)),
      };
    }),
  };
}
