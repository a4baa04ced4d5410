import type { ComparisonRow } from '../../bandit/comparison.js';
import { iterates } from '../../bandit/methods.js';
import { type HistoryEntry, type Quantity, quantities } from '../../bandit/run.js';
import type { FigureOutcome } from '../../bandit/run-figures.js';
import { present } from '../../errors.js';
import { type Estimate, estimate, pairedDifference } from '../../numbers/statistics.js';
import { type Check, jointOutcome, type Outcome, outcomeSigns, pairedCheck } from '../../terminal/checks.js';
import { counted, formatCount, formatEstimate } from '../../terminal/format.js';
import { type Axis, errorEnds, type Point } from '../charts.js';
import { groupBy } from '../group-by.js';
import type { Figure, Section } from '../html.js';
import { methodColours, methodTitle, orderMethods } from '../palette.js';
import type { Cell, Table } from '../table.js';

export interface BanditSectionOptions {
  title?: string;
  /** Paragraphs in front of what the numbers are. */
  text?: readonly string[];
  /** How many seeds are behind every row. */
  seeds: number;
  /** From {@link claimChecks}. */
  claims?: readonly Check[];
  /** From {@link banditBars} and {@link banditCurves}. */
  figures: readonly Figure[];
}

/** A synthetic experiment: measured against expected values, with its figures. */
export function banditSection(
  rows: readonly ComparisonRow[],
  { title = 'Synthetic bandits', text = [], seeds, claims = [], figures }: BanditSectionOptions,
): Section {
  const outcomes = rows.flatMap(({ outcome }) => outcome ?? []);
  const count = (wanted: Outcome) => outcomes.filter((outcome) => outcome === wanted).length;
  const agreement: Check = {
    claim: `${title}: the values agree with the expected ones`,
    outcome: jointOutcome(outcomes),
    detail: `${formatCount(count('holds'))} of ${formatCount(outcomes.length)} within three standard errors of the difference${count('unclear') > 0 ? `, ${formatCount(count('unclear'))} unclear` : ''}`,
  };
  return {
    title,
    text: [
      ...text,
      `Two groups share one log-linear policy. Values are means ± standard errors over ${counted(seeds, 'seed')}. Loss and reward error are those of the worse group, so smaller is better; IPO and DPO losses have different units.`,
    ],
    checks: [...(outcomes.length > 0 ? [agreement] : []), ...claims],
    tables: [table(rows)],
    figures,
  };
}

/**
 * What the measured values make of the paper's claims on a figure. The runs of one seed share their data, so values are compared
 * seed by seed. A claim of several comparisons holds where all of them do, each at its own 95 %.
 */
export function claimChecks({ figure, results }: FigureOutcome): Check[] {
  const measured = (label: string, quantity: Quantity) => {
    const arm = figure.arms.findIndex((candidate) => candidate.label === label);
    return new Map(results.map(({ seed, runs }) => [seed, present(quantities[quantity](present(runs[arm])))]));
  };
  return figure.claims.map(({ claim, quantity, below, finding }): Check => {
    const parts = below.map(([lower, higher]) => {
      const difference = pairedDifference(measured(lower, quantity), measured(higher, quantity))!;
      const { outcome } = pairedCheck('', difference, 'lower');
      const text = `${methodTitle(lower)} − ${methodTitle(higher)} ${formatEstimate(difference)} ${outcomeSigns[outcome]}`;
      return { outcome, text };
    });
    return {
      claim: `Figure ${figure.number}, the paper’s claim on ${quantityTitles[quantity].toLowerCase()}: ${claim}`,
      outcome: jointOutcome(parts.map(({ outcome }) => outcome)),
      detail: `paired over ${counted(results.length, 'seed')}: ${parts.map(({ text }) => text).join('; ')}`,
      ...(finding && { finding }),
    };
  });
}

const expectedOf = ({ expected, expectedError }: ComparisonRow): Estimate | null =>
  expected === null ? null : { mean: expected, standard_error: expectedError };
const measuredOf = (row: ComparisonRow): Estimate => ({ mean: row.measured, standard_error: row.measuredError });

/** One row per scenario and arm, measured and expected value (where there are any) of every quantity side by side. */
function table(rows: readonly ComparisonRow[]): Table {
  const compared = rows.some((row) => row.expected !== null);
  const shown = quantitiesOf(rows);
  const lines = groupBy(rows, ({ scenario, arm }) => JSON.stringify([scenario, arm]));
  return {
    caption: compared
      ? 'Measured values (✓ where they agree) and expected ones, which are re-measured, not printed by the paper'
      : 'Measured values',
    columns: [
      { title: 'Scenario' },
      { title: 'Method' },
      ...shown.flatMap((quantity) => [
        { title: quantityTitles[quantity], numeric: true },
        ...(compared ? [{ title: 'expected', numeric: true }] : []),
      ]),
    ],
    rows: [...lines.values()].map((members) => [
      present(members[0]).scenario.replaceAll(' ', '\u00a0'), // In one line: the table is long enough.
      methodTitle(present(members[0]).arm),
      ...shown.flatMap((quantity): Cell[] => {
        const row = members.find((member) => member.quantity === quantity);
        const expected = row && expectedOf(row);
        const measured = row ? formatEstimate(measuredOf(row)) : '';
        const cell = row?.outcome ? { text: measured, outcome: row.outcome } : measured;
        return compared ? [cell, expected ? formatEstimate(expected) : ''] : [cell];
      }),
    ]),
  };
}

function quantitiesOf(rows: readonly ComparisonRow[]): Quantity[] {
  return [...new Set(rows.map((row) => row.quantity))];
}

const quantityTitles = {
  'max validation loss': 'Worse-group loss',
  'mean validation loss': 'Mean loss',
  'relative max reward error': 'Relative reward error',
  'alpha of group 0': 'α of group 0',
} as const satisfies Record<Quantity, string>;

const quantityNames = {
  'max validation loss': 'worse-group-loss',
  'mean validation loss': 'mean-loss',
  'relative max reward error': 'reward-error',
  'alpha of group 0': 'alpha',
} as const satisfies Record<Quantity, string>;

/** Bars of the final values: one figure for each quantity, and for losses one for each unit. */
export function banditBars(rows: readonly ComparisonRow[]): Figure[] {
  const byQuantity = quantitiesOf(rows).flatMap((quantity) => rows.filter((row) => row.quantity === quantity));
  const compared = rows.some((row) => row.expected !== null);
  return [...groupBy(byQuantity, ({ quantity, method }) => axisTitle(quantity, method))].map(([title, members]) => {
    const { quantity, method } = present(members[0]);
    return {
      name: `final-${quantityNames[quantity]}${isLoss(quantity) ? `-${lossName(method).toLowerCase()}` : ''}`,
      chart: {
        description: `Bar chart: ${title}, by scenario and method`,
        value: { title },
        colours: titledColours(members.map((row) => row.arm)),
        bars: members.map((row) => ({
          category: row.scenario,
          series: methodTitle(row.arm),
          value: row.measured,
          ...errorEnds(measuredOf(row)),
          expected: row.expected ?? undefined,
        })),
      },
      caption: `${title}, by scenario. Error bars: ± one standard error${compared ? '; diamonds: expected values, re-measured' : ''}.`,
    };
  });
}

/** Curves over iterations, one figure for each quantity and loss. */
export function banditCurves({ figure, results }: FigureOutcome): Figure[] {
  const arms = figure.arms.map((arm, index) => ({ ...arm, index }));
  const colours = methodColours(arms.map(({ label }) => label));
  return [...groupBy(arms, ({ method }) => lossName(method))].flatMap(([loss, members]) => {
    const drawn = members.map((arm) => ({
      ...arm,
      histories: results.map(({ runs }) => present(runs[arm.index]).history ?? []),
    }));
    const recorded = new Set(drawn.flatMap(({ histories: [first = []] }) => first.map(({ iteration }) => iteration)));
    const iterations = [...recorded].sort((a, b) => a - b);
    return figure.quantities.map((quantity): Figure => {
      const title = curveTitle(quantity, loss, present(members[0]).method);
      const y: Axis = quantity === 'alpha of group 0' ? { title, domain: [0, 1] } : { title };
      const series = drawn.map(({ label, method, histories }) => {
        const points = meanHistory(histories, (entry) => present(quantities[quantity](entry)));
        return {
          name: methodTitle(label),
          colour: present(colours.get(label)),
          points: iterates(method) ? points : stay(points, iterations),
        };
      });
      const caption = `${title} over iterations: ${figure.scenario}`;
      return {
        name: `${quantityNames[quantity]}-${loss.toLowerCase()}`,
        chart: { description: `Line chart. ${caption}`, x: { title: 'Iteration' }, y, series },
        caption: `${caption}. Bands: ± one standard error over seeds.`,
      };
    });
  });
}

/** Mean over seeds at every recorded iteration. */
function meanHistory(histories: readonly (readonly HistoryEntry[])[], value: (entry: HistoryEntry) => number): Point[] {
  return present(histories[0]).map(({ iteration }, i) => {
    const mean = estimate(histories.map((history) => value(present(history[i]))));
    return { x: iteration, y: mean.mean, ...errorEnds(mean) };
  });
}

/** A method that is exact after one iteration stays where it is for as long as others go on. */
function stay(points: Point[], iterations: readonly number[]): Point[] {
  const last = present(points.at(-1));
  return [...points, ...iterations.filter((x) => x > last.x).map((x) => ({ ...last, x }))];
}

function isLoss(quantity: Quantity): boolean {
  return quantity.endsWith('loss');
}

function lossName(method: string): string {
  return method.endsWith('ipo') ? 'IPO' : 'DPO';
}

/** With the unit, so that equal titles may share an axis. */
function axisTitle(quantity: Quantity, method: string): string {
  const title = quantityTitles[quantity];
  if (!isLoss(quantity)) return title;
  return `${title} (${lossName(method) === 'IPO' ? 'IPO, squared margin' : 'DPO, nats'})`;
}

function curveTitle(quantity: Quantity, loss: string, method: string): string {
  if (isLoss(quantity)) return axisTitle(quantity, method);
  const title = quantity === 'alpha of group 0' ? 'Weight α of group 0' : quantityTitles[quantity];
  return `${title} (${loss} methods)`;
}

function titledColours(names: readonly string[]): Map<string, string> {
  const methods = orderMethods(names);
  return new Map([...methodColours(methods)].map(([method, colour]) => [methodTitle(method), colour]));
}
