import { csvOfRecords } from '../files/csv.js';
import { type Check, checkLine } from '../terminal/checks.js';
import { formatNumber } from '../terminal/format.js';
import { textTable } from '../terminal/text-table.js';
import { burnInShare, type HorizonSummary } from './check.js';
import type { Algorithm, Constants } from './constants.js';
import type { Convergence, Order, OrderConvergence } from './convergence.js';
import type { Minimax } from './minimax.js';
import type { Interval, RateFit } from './rate-fit.js';

/** {@link Minimax} as JSON has it: arrays for typed arrays. */
export interface MinimaxReport {
  value: number;
  theta: number[];
  alpha: number[];
  lower: number;
  upper: number;
}

export function minimaxReport({ value, theta, alpha, lower, upper }: Minimax): MinimaxReport {
  return { value, theta: [...theta], alpha: [...alpha], lower, upper };
}

/** The minimax value and its certificate. */
export function minimaxText({ value, theta, alpha, lower, upper }: MinimaxReport): string {
  return [
    `minimax value  ${value}`,
    `  proven by    ${lower} ≤ value ≤ ${upper}  (bracket ${(upper - lower).toExponential(1)})`,
    `  theta        ${theta.map((entry) => formatNumber(entry, 6)).join(', ')}`,
    `  alpha        ${alpha.map((entry) => formatNumber(entry, 6)).join(', ')}`,
  ].join('\n');
}

export interface ConvergenceReport extends Omit<Convergence, 'minimax'> {
  minimax: MinimaxReport;
}

/** What `converge --json` prints and `convergence.json` holds. */
export function convergenceReport(result: Convergence): ConvergenceReport {
  return { ...result, minimax: minimaxReport(result.minimax) };
}

/** What is claimed of each order, and the outcome: for the terminal, the exit code and the page. */
export function convergenceChecks(result: Omit<Convergence, 'minimax'>): Check[] {
  return ordersIn(result).map(({ algorithm, order, outcome, rate, reasons }) => ({
    claim: claims[order](algorithm),
    outcome,
    detail: [rateText(rate), ...reasons].join('; '),
  }));
}

const claims: Readonly<Record<Order, (algorithm: Algorithm) => string>> = {
  simultaneous: (algorithm) =>
    `${algorithm === 3 ? 'Proposition E.2 (Algorithm 3)' : 'Proposition 4.1'}, of the simultaneous order that its proof covers: the mean ` +
    'error stays under the bound at every T and falls like 1/√T or faster',
  alternating: (algorithm) =>
    `The alternating order, the paper's listing${algorithm === 3 ? ' of Algorithm 3' : ''}, which no proof covers, keeps the same bound and rate`,
};

function ordersIn(result: OrderConvergence & { alternating?: OrderConvergence }): OrderConvergence[] {
  return result.alternating === undefined ? [result] : [result, result.alternating];
}

function rateText(rate: RateFit | null): string {
  return rate === null
    ? 'no rate could be fitted'
    : `error ∝ T^${formatNumber(rate.slope, 3)}, 95 % interval ${formatInterval(rate.interval, 3)}`;
}

/** Constants, certificate, one line per horizon, rate and verdict of each order, for the terminal. */
export function convergenceText(report: ConvergenceReport): string {
  return [
    constantsText(report.constants),
    minimaxText(report.minimax),
    '',
    ...ordersIn(report).flatMap((result) => [orderText(result), '']),
    `(a horizon counts for the rate once the mean error is at most ${burnInShare} of the start's ${formatNumber(report.start_error)})`,
    '',
    ...convergenceChecks(report).map(checkLine),
  ].join('\n');
}

function orderText({ order, horizons, premises: { step_rates, replay_distance } }: OrderConvergence): string {
  const rows = horizons.map((horizon) => [
    horizon.T.toExponential().replace('+', ''),
    formatNumber(horizon.error),
    formatInterval(horizon.error_interval),
    formatNumber(horizon.duality_gap),
    formatInterval(horizon.duality_gap_interval),
    formatNumber(horizon.last_error),
    formatNumber(horizon.bound),
    horizon.past_burn_in ? 'yes' : 'no',
  ]);
  return [
    `${order} order`,
    textTable(
      ['T', 'mean error', '95 % interval', 'duality gap', '95 % interval', 'last iterate', 'bound', 'counts'],
      rows,
    ),
    step_rates === null
      ? 'steps: one horizon, so no rate'
      : `steps: η_θ ∝ T^${formatNumber(step_rates.theta, 3)}, η_α ∝ T^${formatNumber(step_rates.alpha, 3)}, as seen in the loop`,
    `loop: within ${replay_distance.toExponential(1)} of its replay by the objective code`,
  ].join('\n');
}

/** What a CSV has of the averaged iterate. */
export function averageColumns({
  error,
  error_interval,
  duality_gap,
  duality_gap_interval,
}: Pick<HorizonSummary, 'error' | 'error_interval' | 'duality_gap' | 'duality_gap_interval'>) {
  return {
    error,
    error_low: error_interval[0],
    error_high: error_interval[1],
    duality_gap,
    duality_gap_low: duality_gap_interval[0],
    duality_gap_high: duality_gap_interval[1],
  };
}

/** One line per order and horizon. */
export function convergenceCsv(report: ConvergenceReport): string {
  return csvOfRecords(
    ordersIn(report).flatMap(({ order, horizons }) =>
      horizons.map((horizon) => ({
        T: horizon.T,
        ...averageColumns(horizon),
        last_error: horizon.last_error,
        bound: horizon.bound,
        past_burn_in: horizon.past_burn_in,
        order,
        ...measuredOf(report),
      })),
    ),
  );
}

/** What a table was measured of, the same on every line of it. */
export function measuredOf({ loss: { loss, beta, labelSmoothing }, seed }: Pick<Convergence, 'loss' | 'seed'>) {
  return { loss, beta, label_smoothing: labelSmoothing, seed };
}

export function constantsText({ B_phi, B_grad, B_l, B_theta, rho, groups, pairs }: Constants): string {
  const values = { B_φ: B_phi, 'B_∇': B_grad, B_l: B_l, B_Θ: B_theta, ρ: rho, K: groups, N: pairs };
  return `constants      ${Object.entries(values)
    .map(([name, value]) => `${name} ${formatNumber(value, 5)}`)
    .join(', ')}`;
}

export function formatInterval([low, high]: Interval, digits = 4): string {
  return `[${formatNumber(low, digits)}, ${formatNumber(high, digits)}]`;
}
