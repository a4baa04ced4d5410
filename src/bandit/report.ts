import { type CsvRow, csvOfRecords } from '../files/csv.js';
import { type Estimate, estimate } from '../numbers/statistics.js';
import { formatEstimate, formatNumber } from '../terminal/format.js';
import { textTable } from '../terminal/text-table.js';
import type { ComparisonRow } from './comparison.js';
import type { MethodSettings } from './methods.js';
import type { BanditSetting } from './preferences.js';
import type { Measurement, MethodRun, SeedResult } from './run.js';

/** The outcome of one setting over its seeds: what `bandit --json` prints and `results.json` holds. */
export interface BanditReport {
  setting: BanditSetting;
  seeds: number[];
  /** By name of the method, or of the arm of a figure. */
  methods: Record<string, MethodReport>;
}

/** Maxima are over the groups of one seed, estimates over the seeds. */
export interface MethodReport {
  settings: MethodSettings;
  /** In the method's own loss: DPO losses and IPO losses do not compare. */
  max_validation_loss: Estimate;
  /** Mean over seeds for each group; accuracies are shares of pairs whose margin is above 0. */
  validation_losses: number[];
  validation_accuracies: number[];
  /** Share of the best mean reward that the greedy policy misses. */
  relative_max_reward_error: Estimate;
  absolute_max_reward_error: Estimate;
  max_kl: Estimate;
  /** Final α, the mean over seeds for each group. */
  alpha: number[];
  /** Final θ-weights (1−χ)/K + χ α, likewise. */
  weights: number[];
  /** Final θ of each seed. */
  theta: number[][];
}

/** Gathers the results of one setting, one per seed, each with one run per method in the order of `methods`. */
export function banditReport(
  setting: BanditSetting,
  methods: readonly { name: string; settings: MethodSettings }[],
  results: readonly SeedResult[],
): BanditReport {
  const entries = methods.map(({ name, settings }, m): [string, MethodReport] => {
    const runs = results.map((result) => result.runs[m]);
    const over = (value: (run: MethodRun) => number) => estimate(runs.map(value));
    return [
      name,
      {
        settings,
        max_validation_loss: over((run) => run.maxValidationLoss),
        validation_losses: runs[0].validationLosses.map((_, g) => over((run) => run.validationLosses[g]).mean),
        validation_accuracies: runs[0].validationLosses.map((_, g) => over((run) => run.validationAccuracies[g]).mean),
        relative_max_reward_error: over((run) => run.maxRelativeRewardError),
        absolute_max_reward_error: over((run) => run.maxAbsoluteRewardError),
        max_kl: over((run) => run.maxDivergence),
        alpha: runs[0].alpha.map((_, g) => over((run) => run.alpha[g]).mean),
        weights: runs[0].weights.map((_, g) => over((run) => run.weights[g]).mean),
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
export function banditCsv(names: readonly string[], results: readonly SeedResult[]): string {
  return csvOfRecords(
    results.flatMap(({ setting, seed, runs }) =>
      runs.map((run, m) => ({
        ...settingColumns(setting),
        method: names[m],
        seed,
        ...measurementColumns(run),
        ...numbered('theta', run.theta),
      })),
    ),
  );
}

/** One line per seed, method and recorded iteration, at full precision. */
export function historyCsv(names: readonly string[], results: readonly SeedResult[]): string {
  return csvOfRecords(
    results.flatMap(({ seed, runs }) =>
      runs.flatMap(({ history = [] }, m) =>
        history.map((entry) => ({
          method: names[m],
          seed,
          iteration: entry.iteration,
          ...measurementColumns(entry),
        })),
      ),
    ),
  );
}

/** One line per row; empty where there is no expected value. */
export function comparisonCsv(rows: readonly ComparisonRow[]): string {
  return csvOfRecords(
    rows.map((row) => ({
      method: row.arm,
      quantity: row.quantity,
      expected: row.expected,
      expected_standard_error: row.expectedError,
      measured: row.measured,
      measured_standard_error: row.measuredError,
      tolerance: row.tolerance,
      outcome: row.outcome,
    })),
  );
}

/** A list within one cell is parted by spaces. */
function settingColumns(setting: BanditSetting): CsvRow {
  return Object.fromEntries(
    Object.entries(setting).map(([name, value]) => [name, Array.isArray(value) ? value.join(' ') : value]),
  );
}

function measurementColumns(measured: Measurement): CsvRow {
  return {
    max_validation_loss: measured.maxValidationLoss,
    relative_max_reward_error: measured.maxRelativeRewardError,
    absolute_max_reward_error: measured.maxAbsoluteRewardError,
    max_kl: measured.maxDivergence,
    ...numbered('validation_loss', measured.validationLosses),
    ...numbered('alpha', measured.alpha),
    ...numbered('weight', measured.weights),
  };
}

function numbered(name: string, values: readonly number[]): CsvRow {
  return Object.fromEntries(values.map((value, i) => [`${name}_${i}`, value]));
}
