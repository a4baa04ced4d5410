import { lineChart, type Point } from '../charts.js';
import { formatCount, formatNumber } from '../format.js';
import type { Section } from '../html.js';
import { GREY } from '../palette.js';

/** What `group-robust converge --json` prints, as far as the report shows it. */
export interface ConvergenceResult {
  constants: Readonly<Record<string, unknown>>;
  minimax: { value: number; theta: readonly number[]; alpha: readonly number[]; lower: number; upper: number };
  horizons: readonly {
    T: number;
    /** Mean of ε_T over the runs. */
    error: number;
    error_interval: readonly [number, number];
    duality_gap: number;
    bound: number;
  }[];
  rate: { slope: number; interval: readonly [number, number] };
  holds: boolean;
  reasons: readonly string[];
}

/** The convergence check of Proposition 4.1: error against horizon, with the bound and a slope of −1/2 to compare with. */
export async function convergenceSection(result: ConvergenceResult): Promise<Section> {
  const { horizons, minimax, rate } = result;
  const curve = (value: (horizon: (typeof horizons)[number]) => number): Point[] =>
    horizons.map((horizon) => ({ x: horizon.T, y: value(horizon) }));
  const last = horizons[horizons.length - 1];
  const svg = await lineChart({
    description: `Log-log chart of the error, the duality gap and the bound over the number of steps; fitted slope ${formatNumber(rate.slope, 3)}`,
    x: { title: 'Steps T', log: true },
    y: { title: 'Worst-group loss above the minimax value', log: true },
    series: [
      {
        name: 'Error ε_T',
        colour: '#0072B2',
        points: horizons.map(({ T, error, error_interval: [low, high] }) => ({ x: T, y: error, low, high })),
      },
      { name: 'Duality gap', colour: '#009E73', points: curve((horizon) => horizon.duality_gap) },
      { name: 'Bound', colour: '#D55E00', dashed: true, points: curve((horizon) => horizon.bound) },
      // Through the last error, where the asymptotic rate should show first.
      { name: 'Slope −1/2', colour: GREY, dashed: true, points: curve(({ T }) => last.error * Math.sqrt(last.T / T)) },
    ],
  });
  const slope = `${formatNumber(rate.slope, 3)} (95 % interval ${rate.interval.map((end) => formatNumber(end, 3)).join(' to ')})`;
  return {
    title: 'Convergence',
    text: [
      `The minimax worst-group loss is ${formatNumber(minimax.value, 6)}, certified to lie in [${formatNumber(minimax.lower, 8)}, ${formatNumber(minimax.upper, 8)}]. The error ε_T is how far the averaged policy after T steps is above it; theory bounds its mean by a constant over √T.`,
      ...result.reasons,
    ],
    findings: [
      {
        text: `The measured error stays under the bound and falls at the fitted rate T^s with s = ${slope}; theory has −0.5 or steeper.`,
        pass: result.holds,
      },
    ],
    tables: [
      {
        caption: 'Error by horizon',
        columns: ['Steps T', 'Error ε_T', 'Interval', 'Duality gap', 'Bound'].map((title) => ({
          title,
          numeric: true,
        })),
        rows: horizons.map(({ T, error, error_interval: interval, duality_gap: gap, bound }) => [
          formatCount(T),
          formatNumber(error),
          interval.map((end) => formatNumber(end)).join(' to '),
          formatNumber(gap),
          formatNumber(bound),
        ]),
      },
      {
        caption: 'Constants',
        columns: [{ title: 'Constant' }, { title: 'Value', numeric: true }],
        rows: Object.entries(result.constants).map(([name, value]) => [
          name,
          typeof value === 'number' ? formatNumber(value, 5) : String(value),
        ]),
      },
    ],
    figures: [
      {
        svg,
        caption:
          'Error, its interval over runs, duality gap and bound; both axes logarithmic. A line parallel to the grey one falls as 1/√T.',
      },
    ],
  };
}
