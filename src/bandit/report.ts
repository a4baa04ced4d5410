import { formatEstimate, formatNumber } from '../report/format.js';
import { textTable } from '../report/text-table.js';
import { type Estimate, estimate } from '../statistics.js';
import type { MethodName, MethodSettings } from './methods.js';
import type { BanditSetting } from './preferences.js';
import type { MethodRun, SeedResult } from './run.js';

/** The outcome of one setting over its seeds: what `bandit --json` prints and `results.json` holds. */
export interface BanditReport {
  setting: BanditSetting;
  seeds: number[];
  methods: Partial<Record<MethodName, MethodReport>>;
}

/** Maxima are over the groups of one seed, estimates over the seeds. */
export interface MethodReport {
  settings: MethodSettings;
  /** In the method's own loss: DPO losses and IPO losses do not compare. */
  max_validation_loss: Estimate;
  /** Share of the best mean reward that the greedy policy misses. */
  relative_max_reward_error: Estimate;
  absolute_max_reward_error: Estimate;
  max_kl: Estimate;
  /** Final α, the mean over seeds for each group. */
  alpha: number[];
  /** Final θ of each seed. */
  theta: number[][];
}

/** Gathers the results of one setting, one per seed, each with one run per method in the order of `methods`. */
export function banditReport(
  setting: BanditSetting,
  methods: readonly { name: MethodName; settings: MethodSettings }[],
  results: readonly SeedResult[],
): BanditReport {
  const entries = methods.map(({ name, settings }, m): [MethodName, MethodReport] => {
    const runs = results.map((result) => result.runs[m]);
    const over = (value: (run: MethodRun) => number) => estimate(runs.map(value));
    return [
      name,
      {
        settings,
        max_validation_loss: over((run) => run.maxValidationLoss),
        relative_max_reward_error: over((run) => run.maxRelativeRewardError),
        absolute_max_reward_error: over((run) => run.maxAbsoluteRewardError),
        max_kl: over((run) => run.maxDivergence),
        alpha: runs[0].alpha.map((_, g) => over((run) => run.alpha[g]).mean),
        theta: runs.map((run) => run.theta),
      },
    ];
  });
  return { setting, seeds: results.map((result) => result.seed), methods: Object.fromEntries(entries) };
}

/** One line per method, for the terminal. */
export function banditTable(report: BanditReport): string {
  return textTable(
    ['method', 'max validation loss', 'relative max reward error', 'alpha'],
    Object.entries(report.methods).map(([name, method]) => [
      name,
      `${formatEstimate(method.max_validation_loss)} (${method.settings.loss.loss})`,
      formatEstimate(method.relative_max_reward_error),
      method.alpha.map((alpha) => formatNumber(alpha)).join('  '),
    ]),
  );
}

/** One line per seed and method, at full precision. */
export function banditCsv(methods: readonly MethodName[], results: readonly SeedResult[]): string {
  const lines = results.flatMap(({ setting, seed, runs }) =>
    runs.map((run, m) =>
      Object.entries({
        ...setting,
        method: methods[m],
        seed,
        max_validation_loss: run.maxValidationLoss,
        relative_max_reward_error: run.maxRelativeRewardError,
        absolute_max_reward_error: run.maxAbsoluteRewardError,
        max_kl: run.maxDivergence,
        ...numbered('alpha', run.alpha),
        ...numbered('theta', run.theta),
      }),
    ),
  );
  const header = lines[0].map(([column]) => column);
  return `${[header, ...lines.map((line) => line.map(([, value]) => value))].map((cells) => cells.join(',')).join('\n')}\n`;
}

function numbered(name: string, values: readonly number[]): Record<string, number> {
  return Object.fromEntries(values.map((value, i) => [`${name}_${i}`, value]));
}
