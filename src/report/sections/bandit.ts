import type { ComparisonRow } from '../../bandit/comparison.js';
import type { MethodName } from '../../bandit/methods.js';
import type { HistoryEntry, SeedResult } from '../../bandit/run.js';
import { type Estimate, estimate } from '../../statistics.js';
import { type Axis, barChart, errorEnds, lineChart, type Point } from '../charts.js';
import { formatCount, formatEstimate } from '../format.js';
import { groupBy } from '../group-by.js';
import type { Cell, Figure, Finding, Section, Table } from '../html.js';
import { methodColours, methodTitle, orderMethods } from '../palette.js';

/** Seeds of one scenario that have recorded their history, each with one run per method in the order of `methods`. */
export interface BanditHistory {
  scenario: string;
  methods: readonly MethodName[];
  results: readonly SeedResult[];
}

export interface BanditSectionOptions {
  /** How many seeds are behind every row. */
  seeds: number;
  /** What breaks the order plain > IS > GR, in words; not given where the rows do not show it. */
  orderFaults?: readonly string[];
  histories?: readonly BanditHistory[];
}

/** A synthetic experiment: measured against expected values as table and bars, and curves over iterations where given. */
export async function banditSection(
  rows: readonly ComparisonRow[],
  { seeds, orderFaults, histories = [] }: BanditSectionOptions,
): Promise<Section> {
  const passed = rows.filter((row) => row.passes).length;
  const findings: Finding[] = [
    {
      text: `${formatCount(passed)} of ${formatCount(rows.length)} bandit values agree with the expected ones, within three standard errors of the difference.`,
      pass: passed === rows.length,
    },
  ];
  if (orderFaults)
    findings.push({
      text: `The worse group is worst served by the plain method, better by importance sampling, best by the group robust one${orderFaults.length > 0 ? `, except: ${orderFaults.join('; ')}` : ''}.`,
      pass: orderFaults.length === 0,
    });
  return {
    title: 'Synthetic bandits',
    text: [
      `Two groups share one log-linear policy. Values are means ± standard errors over ${formatCount(seeds)} seeds. Loss and reward error are those of the worse group, so smaller is better; IPO and DPO losses have different units.`,
    ],
    findings,
    tables: [table(rows)],
    figures: (await Promise.all([bars(rows), curves(histories)])).flat(),
  };
}

const expectedOf = (row: ComparisonRow): Estimate => ({ mean: row.expected, standard_error: row.expectedError });
const measuredOf = (row: ComparisonRow): Estimate => ({ mean: row.measured, standard_error: row.measuredError });

/** One row per scenario and method, measured and expected value of every quantity side by side. */
function table(rows: readonly ComparisonRow[]): Table {
  const quantities = quantitiesOf(rows);
  const lines = groupBy(rows, ({ scenario, method }) => JSON.stringify([scenario, method]));
  return {
    caption: 'Measured values (✓ where they agree) and expected ones',
    columns: [
      { title: 'Scenario' },
      { title: 'Method' },
      ...quantities.flatMap((quantity) => [
        { title: quantityTitles[quantity], numeric: true },
        { title: 'expected', numeric: true },
      ]),
    ],
    rows: [...lines.values()].map((members) => [
      members[0].scenario.replaceAll(' ', '\u00a0'), // In one line: the table is long enough.
      methodTitle(members[0].method),
      ...quantities.flatMap((quantity): Cell[] => {
        const row = members.find((member) => member.quantity === quantity);
        if (!row) return ['', ''];
        return [{ text: formatEstimate(measuredOf(row)), pass: row.passes }, formatEstimate(expectedOf(row))];
      }),
    ]),
  };
}

function quantitiesOf(rows: readonly ComparisonRow[]): ComparisonRow['quantity'][] {
  return [...new Set(rows.map((row) => row.quantity))];
}

const quantityTitles = {
  'max validation loss': 'Worse-group loss',
  'mean validation loss': 'Mean loss',
  'relative max reward error': 'Relative reward error',
  'alpha of group 0': 'α of group 0',
} as const satisfies Record<ComparisonRow['quantity'], string>;

/** One figure for each quantity, and for losses one for each unit. */
function bars(rows: readonly ComparisonRow[]): Promise<Figure[]> {
  const byQuantity = quantitiesOf(rows).flatMap((quantity) => rows.filter((row) => row.quantity === quantity));
  return Promise.all(
    [...groupBy(byQuantity, ({ quantity, method }) => axisTitle(quantity, method))].map(async ([title, members]) => ({
      svg: await barChart({
        description: `Bar chart: ${title}, by scenario and method`,
        value: { title },
        colours: titledColours(members.map((row) => row.method)),
        bars: members.map((row) => ({
          category: row.scenario,
          series: methodTitle(row.method),
          value: row.measured,
          ...errorEnds(measuredOf(row)),
          expected: row.expected,
        })),
      }),
      caption: `${title}, by scenario. Error bars: ± one standard error; diamonds: expected values.`,
    })),
  );
}

/** Two figures for each scenario and loss: the loss and the reward error of the worse group over iterations. */
async function curves(histories: readonly BanditHistory[]): Promise<Figure[]> {
  const figures = histories.flatMap(({ scenario, methods, results }) =>
    [...groupBy(orderMethods(methods), lossName)].flatMap(([loss, members]) =>
      (
        [
          [axisTitle('max validation loss', members[0]), (entry) => entry.maxValidationLoss],
          [`${quantityTitles['relative max reward error']} (${loss} methods)`, (entry) => entry.maxRelativeRewardError],
        ] as const satisfies [string, (entry: HistoryEntry) => number][]
      ).map(async ([title, value]): Promise<Figure> => {
        const y: Axis = { title };
        const series = members.map((method) => ({
          name: methodTitle(method),
          colour: methodColours(members).get(method)!,
          points: meanHistory(
            results.map(({ runs }) => runs[methods.indexOf(method as MethodName)].history ?? []),
            value,
          ),
        }));
        const caption = `${title} over iterations: ${scenario}`;
        return {
          svg: await lineChart({ description: `Line chart. ${caption}`, x: { title: 'Iteration' }, y, series }),
          caption: `${caption}. Bands: ± one standard error over seeds.`,
        };
      }),
    ),
  );
  return Promise.all(figures);
}

/** Mean over seeds at every recorded iteration. */
function meanHistory(histories: readonly (readonly HistoryEntry[])[], value: (entry: HistoryEntry) => number): Point[] {
  return histories[0].map(({ iteration }, i) => {
    const mean = estimate(histories.map((history) => value(history[i])));
    return { x: iteration, y: mean.mean, ...errorEnds(mean) };
  });
}

function lossName(method: string): string {
  return method.endsWith('ipo') ? 'IPO' : 'DPO';
}

/** With the unit, so that equal titles may share an axis. */
function axisTitle(quantity: ComparisonRow['quantity'], method: string): string {
  const title = quantityTitles[quantity];
  if (!quantity.endsWith('loss')) return title;
  return `${title} (${lossName(method) === 'IPO' ? 'IPO, squared margin' : 'DPO, nats'})`;
}

function titledColours(names: readonly string[]): Map<string, string> {
  const methods = orderMethods(names);
  return new Map([...methodColours(methods)].map(([method, colour]) => [methodTitle(method), colour]));
}
