import { csvOfRecords } from '../files/csv.js';
import { type Check, checkLine } from '../terminal/checks.js';
import { formatNumber } from '../terminal/format.js';
import { textTable } from '../terminal/text-table.js';
import { burnInShare } from './check.js';
import type { AlgorithmComparison } from './comparison.js';
import type { PerSampleAlgorithm } from './objective-run.js';
import {
  averageColumns,
  constantsText,
  formatInterval,
  type MinimaxReport,
  measuredOf,
  minimaxReport,
  minimaxText,
} from './report.js';

/** What `converge --json` prints of a comparison, and `comparison.json` holds. */
export interface ComparisonReport extends Omit<AlgorithmComparison, 'minimax'> {
  minimax: MinimaxReport;
}

export function comparisonReport(result: AlgorithmComparison): ComparisonReport {
  return { ...result, minimax: minimaxReport(result.minimax) };
}

export const algorithmTitles: Readonly<Record<PerSampleAlgorithm, string>> = {
  1: 'Algorithm 1',
  3: 'Algorithm 3',
  'every-group': 'Every group',
  optimistic: 'Optimistic',
  exp3: 'EXP3',
};

/** What holds whatever the algorithm, and so tells of the code. */
export function comparisonChecks({ algorithms }: Pick<ComparisonReport, 'algorithms'>): Check[] {
  return algorithms.map(({ algorithm, horizons, outcome, reasons }) => ({
    claim:
      `${algorithmTitles[algorithm]}: no error is below 0 or above the duality gap of its run` +
      (horizons.some(({ bound }) => bound !== null) ? ', and the mean error is below its bound' : ''),
    outcome,
    detail: reasons.join('; '),
  }));
}

/** Constants, certificate, the algorithms at each number of samples, and their rates, for the terminal. */
export function comparisonText(report: ComparisonReport): string {
  const lines = inOrderOfSamples(report).map(({ algorithm, horizon }) => [
    horizon.samples.toExponential().replace('+', ''),
    algorithmTitles[algorithm],
    horizon.steps.toExponential().replace('+', ''),
    formatNumber(horizon.error),
    formatInterval(horizon.error_interval),
    formatNumber(horizon.duality_gap),
    formatInterval(horizon.duality_gap_interval),
    formatNumber(horizon.last_error),
    formatInterval(horizon.last_error_interval),
    horizon.bound === null ? '–' : formatNumber(horizon.bound),
    horizon.past_burn_in ? 'yes' : 'no',
  ]);
  const rates = report.algorithms.map(({ algorithm, rate }) => [
    algorithmTitles[algorithm],
    ...(rate === null ? ['–', '–'] : [formatNumber(rate.slope, 3), formatInterval(rate.interval, 3)]),
  ]);
  const interval = '95 % interval';
  return [
    constantsText(report.constants),
    minimaxText(report.minimax),
    '',
    textTable(
      [
        'samples',
        'algorithm',
        'steps',
        ...['mean error', interval, 'duality gap', interval, 'last iterate', interval],
        'bound',
        'counts',
      ],
      lines,
    ),
    '',
    textTable(['algorithm', 'rate s', interval], rates),
    '',
    `(mean error ∝ samples^s; a horizon counts once the mean error is at most ${burnInShare} of the start's ${formatNumber(report.start_error)})`,
    ...(report.algorithms.some(({ rate }) => rate === null)
      ? ['No rate where fewer than two horizons count: give more samples to --horizons.']
      : []),
    '',
    ...comparisonChecks(report).map(checkLine),
  ].join('\n');
}

/** One line per number of samples and algorithm; the fitted rate, which is one of all horizons, is repeated on each. */
export function comparisonCsv(report: ComparisonReport): string {
  return csvOfRecords(
    inOrderOfSamples(report).map(({ algorithm, horizon, rate }) => ({
      samples: horizon.samples,
      algorithm: String(algorithm),
      steps: horizon.steps,
      ...averageColumns(horizon),
      last_error: horizon.last_error,
      last_error_low: horizon.last_error_interval[0],
      last_error_high: horizon.last_error_interval[1],
      bound: horizon.bound,
      past_burn_in: horizon.past_burn_in,
      rate: rate?.slope,
      rate_low: rate?.interval[0],
      rate_high: rate?.interval[1],
      ...measuredOf(report),
    })),
  );
}

/** Beside each other what is compared: the algorithms at one number of samples. */
function inOrderOfSamples({ algorithms }: ComparisonReport) {
  return algorithms
    .flatMap(({ algorithm, horizons, rate }) => horizons.map((horizon) => ({ algorithm, horizon, rate })))
    .sort((a, b) => a.horizon.samples - b.horizon.samples);
}
