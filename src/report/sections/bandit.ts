import type { Estimate } from '../../statistics.js';
import { barChart, errorEnds, lineChart } from '../charts.js';
import { formatCount, formatEstimate } from '../format.js';
import { groupBy } from '../group-by.js';
import type { Figure, Section } from '../html.js';
import { methodColours, methodTitle, orderMethods } from '../palette.js';

/** One measured value of a bandit experiment, over its seeds. */
export interface BanditRow {
  /** E.g. "uneven, imbalanced". */
  scenario: string;
  /** E.g. "gr-ipo". */
  method: string;
  metric: BanditMetric;
  measured: Estimate;
  /** The value to be reproduced, and whether `measured` agrees with it. */
  expected?: Estimate;
  pass?: boolean;
}

export type BanditMetric = 'max_validation_loss' | 'relative_max_reward_error';

/** A metric of one method over iterations. */
export interface BanditCurve {
  scenario: string;
  method: string;
  metric: BanditMetric;
  points: readonly ({ iteration: number } & Estimate)[];
}

/**
 * The synthetic experiments: bars of every metric by scenario and method, curves over iterations where given, and the table
 * of measured against expected values.
 */
export async function banditSection(
  rows: readonly BanditRow[],
  options: { curves?: readonly BanditCurve[]; seeds: number },
): Promise<Section> {
  const checked = rows.filter((row) => row.pass !== undefined);
  const passed = checked.filter((row) => row.pass);
  return {
    title: 'Synthetic bandits',
    text: [
      `Two groups of unequal difficulty share one log-linear policy. Values are means ± standard errors over ${formatCount(options.seeds)} seeds; the loss and the reward error are those of the worse group, so smaller is better.`,
    ],
    findings:
      checked.length === 0
        ? []
        : [
            {
              text: `${passed.length} of ${checked.length} bandit values agree with the expected ones.`,
              pass: passed.length === checked.length,
            },
          ],
    tables: [
      {
        caption: 'Measured and expected values',
        columns: [
          { title: 'Scenario' },
          { title: 'Method' },
          { title: 'Metric' },
          { title: 'Measured', numeric: true },
          { title: 'Expected', numeric: true },
          { title: 'Agreement' },
        ],
        rows: rows.map((row) => [
          row.scenario,
          methodTitle(row.method),
          metricTitle(row.metric, row.method),
          formatEstimate(row.measured),
          row.expected ? formatEstimate(row.expected) : '',
          row.pass === undefined ? '' : { pass: row.pass },
        ]),
      },
    ],
    figures: [...(await bars(rows)), ...(await curves(options.curves ?? []))],
  };
}

/** One figure for each metric and loss. */
function bars(rows: readonly BanditRow[]): Promise<Figure[]> {
  return Promise.all(
    [...groupBy(rows, ({ metric, method }) => metricTitle(metric, method))].map(async ([title, members]) => ({
      svg: await barChart({
        description: `Bar chart: ${title}, by scenario and method`,
        value: { title },
        colours: titledColours(members),
        bars: members.map(({ scenario, method, measured, expected }) => ({
          category: scenario,
          series: methodTitle(method),
          value: measured.mean,
          ...errorEnds(measured),
          expected: expected?.mean,
        })),
      }),
      caption: `${title}, by scenario; error bars: ± one standard error${members.some((row) => row.expected) ? '; diamonds: expected values' : ''}.`,
    })),
  );
}

/** One figure for each scenario, metric and loss. */
function curves(all: readonly BanditCurve[]): Promise<Figure[]> {
  const title = ({ scenario, metric, method }: BanditCurve) => `${metricTitle(metric, method)}: ${scenario}`;
  return Promise.all(
    [...groupBy(all, title)].map(async ([name, members]) => ({
      svg: await lineChart({
        description: `Line chart over iterations: ${name}`,
        x: { title: 'Iteration' },
        y: { title: metricTitle(members[0].metric, members[0].method) },
        series: orderMethods(members.map(({ method }) => method)).map((method) => ({
          name: methodTitle(method),
          colour: titledColours(members).get(methodTitle(method))!,
          points: members
            .find((curve) => curve.method === method)!
            .points.map((point) => ({ x: point.iteration, y: point.mean, ...errorEnds(point) })),
        })),
      }),
      caption: `${name}, over iterations; bands: ± one standard error over seeds.`,
    })),
  );
}

/** IPO and DPO losses differ in unit, so they never share an axis. */
function metricTitle(metric: BanditMetric, method: string): string {
  const loss = method.endsWith('ipo') ? 'IPO' : 'DPO';
  if (metric === 'relative_max_reward_error') return `Relative reward error of the worse group (${loss} methods)`;
  return `Validation loss of the worse group (${loss === 'IPO' ? 'IPO, squared log-ratio' : 'DPO, nats'})`;
}

function titledColours(members: readonly { method: string }[]): Map<string, string> {
  const methods = orderMethods(members.map(({ method }) => method));
  return new Map([...methodColours(methods)].map(([method, colour]) => [methodTitle(method), colour]));
}
