import { estimate } from '../numbers/statistics.js';
import { marginLoss } from '../objective/losses.js';
import { groupLosses } from '../policy/group-losses.js';
import { margins } from '../policy/log-linear.js';
import { type ParallelOptions, parallelMap } from '../processes/parallel.js';
import type { MethodSettings } from './methods.js';
import { TestSet } from './metrics.js';
import { type BanditSetting, initialTheta, testStates, trainingProblem, validationProblem } from './preferences.js';
import { type TrainingState, train } from './training.js';

/** All that one seed of one setting needs; plain data, so that it can go to a worker thread. */
export interface SeedJob {
  setting: BanditSetting;
  seed: number;
  /** Each is trained from the same θ⁰ on the same pairs. */
  methods: MethodSettings[];
  /** Also measure at iteration 0 and about so many times on the way to the end; absent: only at the end. */
  historyPoints?: number;
}

/** What is measured at one θ (paper-spec §e.4); a maximum is over groups. */
export interface Measurement {
  /** Mean loss of each group on the validation pairs, in the method's own loss. */
  validationLosses: number[];
  /** Share of each group's validation pairs whose margin is above 0, so that the policy prefers as the group does. */
  validationAccuracies: number[];
  maxValidationLoss: number;
  maxRelativeRewardError: number;
  maxAbsoluteRewardError: number;
  maxDivergence: number;
  alpha: number[];
  /** The θ-weights that α gives. */
  weights: number[];
}

/** What the paper's figures and tables show of a measurement. */
export const quantities = {
  'max validation loss': ({ maxValidationLoss }) => maxValidationLoss,
  'mean validation loss': ({ validationLosses }) => estimate(validationLosses).mean,
  'relative max reward error': ({ maxRelativeRewardError }) => maxRelativeRewardError,
  'alpha of group 0': ({ alpha }) => alpha[0],
} as const satisfies Record<string, (measurement: Measurement) => number>;
export type Quantity = keyof typeof quantities;

export interface HistoryEntry extends Measurement {
  iteration: number;
}

/** The outcome of one method on one seed. */
export interface MethodRun extends Measurement {
  theta: number[];
  /** Present where the job asked for it. */
  history?: HistoryEntry[];
}

export interface SeedResult {
  setting: BanditSetting;
  seed: number;
  /** In the order of the job's methods. */
  runs: MethodRun[];
}

/** Generates the data of one seed and trains every method of the job on it. */
export function runSeed({ setting, seed, methods, historyPoints }: SeedJob): SeedResult {
  const training = trainingProblem(setting, seed);
  const validation = validationProblem(setting, seed);
  const test = new TestSet(setting.features, testStates(seed, setting.dimension), setting.groups);
  const start = initialTheta(seed, setting.dimension);
  const runs = methods.map((settings): MethodRun => {
    const measure = ({ theta, alpha, weights }: TrainingState): Measurement => {
      const validationLosses = [...groupLosses(validation, marginLoss(settings.loss), theta)];
      const rewards = test.evaluate(theta);
      return {
        validationLosses,
        validationAccuracies: validation.groups.map(
          (group) =>
            margins(group, theta, new Float64Array(group.count)).filter((margin) => margin > 0).length / group.count,
        ),
        maxValidationLoss: Math.max(...validationLosses),
        maxRelativeRewardError: Math.max(...rewards.map((group) => group.relativeError)),
        maxAbsoluteRewardError: Math.max(...rewards.map((group) => group.absoluteError)),
        maxDivergence: Math.max(...rewards.map((group) => group.divergence)),
        alpha: [...alpha],
        weights: [...weights],
      };
    };
    const history: HistoryEntry[] = [];
    const interval = historyPoints && Math.ceil(settings.iterations / historyPoints);
    const observe = (state: TrainingState) => {
      if (interval && (state.iteration % interval === 0 || state.iteration === settings.iterations))
        history.push({ iteration: state.iteration, ...measure(state) });
    };
    const end = train(training, { ...settings, seed }, start, observe);
    return { ...measure(end), theta: [...end.theta], ...(historyPoints && { history }) };
  });
  return { setting, seed, runs };
}

/**
 * Runs the jobs across cores; results in the order of the jobs, the same whatever the number of workers.
 * @example IPO and GR-IPO on the paper's main setting: the worse group is better off with GR-IPO.
 * ```ts
 * import { methodSettings, runSeeds } from 'group-robust-po';
 *
 * const setting = { features: 'swapped', responses: 'uneven', data: 'imbalanced' } as const;
 * const methods = [methodSettings('ipo'), methodSettings('gr-ipo', { iterations: 20 })];
 * const [{ runs: [ipo, robust] }] = await runSeeds([{ setting, seed: 2021, methods }]);
 * robust.maxValidationLoss < ipo.maxValidationLoss; // → true
 * ```
 */
export function runSeeds(jobs: readonly SeedJob[], options?: ParallelOptions): Promise<SeedResult[]> {
  return parallelMap<SeedJob, SeedResult>(import.meta.url, runSeed.name, jobs, options);
}
