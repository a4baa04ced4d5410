import { present } from '../../errors.js';
import { keysOf } from '../../files/ordered-record.js';
import { formatCount, formatNumber } from '../../terminal/format.js';
import type { Convergence } from '../../theory/convergence.js';
import { convergenceChecks } from '../../theory/report.js';
import type { LineChart, Point } from '../charts.js';
import type { Section } from '../html.js';
import { GREY } from '../palette.js';

const CONSTANT_NAMES: Readonly<Record<keyof Convergence['constants'], string>> = {
  B_phi: 'B_φ, largest feature difference',
  B_grad: 'B_∇, Lipschitz constant of the loss',
  B_l: 'B_l, largest loss',
  B_theta: 'B_Θ, radius of the ball',
  rho: 'ρ, one over the least group probability',
  groups: 'K, groups',
  pairs: 'N, pairs',
};

/** The convergence check of Proposition 4.1: error against horizon, with the bound and a slope of −1/2 to compare with. */
export function convergenceSection(result: Convergence): Section {
  const { horizons, minimax, rate, alternating } = result;
  type Horizon = (typeof horizons)[number];
  const curve = (value: (horizon: Horizon) => number): Point[] =>
    horizons.map((horizon) => ({ x: horizon.T, y: value(horizon) }));
  const last = present(horizons.at(-1));
  const slope = rate
    ? `the fitted slope is ${formatNumber(rate.slope, 3)}, 95 % interval ${range(rate.interval, 3)}`
    : 'no slope could be fitted';
  const errors = (measured: typeof horizons): Point[] =>
    measured.map(({ T, error, error_interval: [low, high] }) => ({ x: T, y: error, low, high }));
  const chart: LineChart = {
    description: `Log-log chart of the error, the duality gap and the bound over the number of steps; ${slope}`,
    x: { title: 'Steps T', log: true },
    y: { title: 'Worst-group loss − minimax value', log: true },
    series: [
      { name: 'Error ε_T', colour: '#0072B2', points: errors(horizons) },
      ...(alternating
        ? [{ name: 'Error, alternating order', colour: '#CC79A7', points: errors(alternating.horizons) }]
        : []),
      { name: 'Duality gap', colour: '#009E73', points: curve((horizon) => horizon.duality_gap) },
      { name: 'Bound', colour: '#D55E00', dashed: true, points: curve((horizon) => horizon.bound) },
      // Through the last error, where the asymptotic rate should show first.
      { name: 'Slope −1/2', colour: GREY, dashed: true, points: curve(({ T }) => last.error * Math.sqrt(last.T / T)) },
    ],
  };
  return {
    title: 'Convergence',
    text: [
      `The exact minimax worst-group loss is ${formatNumber(minimax.value, 6)}; two certificates enclose it within ${formatNumber(minimax.upper - minimax.lower, 2)}. The error ε_T is how far the averaged policy after T steps is above it; theory bounds its mean by a constant over √T.`,
      ...(alternating
        ? [
            'The proof covers the simultaneous order, in which θ moves with the old weights: that is the error above. The alternating order, the paper’s listing, is judged by itself.',
          ]
        : []),
    ],
    checks: convergenceChecks(result),
    tables: [
      {
        caption: 'Error by horizon',
        columns: [
          { title: 'Order' },
          ...['Steps T', 'Error ε_T', '95 % interval', 'Duality gap', 'Bound', 'Error of last iterate'].map(
            (title) => ({
              title,
              numeric: true,
            }),
          ),
        ],
        rows: [result, ...(alternating ? [alternating] : [])].flatMap(({ order, horizons }) =>
          horizons.map((horizon) => [
            order,
            formatCount(horizon.T),
            formatNumber(horizon.error),
            range(horizon.error_interval, 4),
            formatNumber(horizon.duality_gap),
            formatNumber(horizon.bound),
            formatNumber(horizon.last_error),
          ]),
        ),
      },
      {
        caption: 'Constants of the bound',
        columns: [{ title: 'Constant' }, { title: 'Value', numeric: true }],
        rows: keysOf(CONSTANT_NAMES).map((key) => [CONSTANT_NAMES[key], formatNumber(result.constants[key], 5)]),
      },
    ],
    figures: [
      {
        name: 'convergence',
        chart,
        caption:
          'Mean error with its 95 % interval over runs, mean duality gap, and bound; both axes logarithmic. What is parallel to the grey line falls like 1/√T.',
      },
    ],
  };
}

function range(ends: readonly [number, number], digits: number): string {
  return ends.map((end) => formatNumber(end, digits)).join(' to ');
}
