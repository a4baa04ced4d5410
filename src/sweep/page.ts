import { type CsvRow, csvOfRecords } from '../files/csv.js';
import { estimate } from '../numbers/statistics.js';
import { errorEnds, type Point } from '../report/charts.js';
import type { Figure, Page, Section } from '../report/html.js';
import { methodTitle } from '../report/palette.js';
import { provenance } from '../report/runs-page.js';
import { runsSection } from '../report/sections/runs.js';
import type { Table } from '../report/table.js';
import { counted, formatNumber } from '../terminal/format.js';
import type { Setting } from './cells.js';
import type { Comparison, Interval, Measured } from './comparison.js';
import { type Selection, type SweepConfig, selections } from './config.js';
import type { Candidate, Trained, Validated } from './selection.js';

/** What a sweep shows: which settings were chosen and by what, how the chosen ones did on test pairs, and how much settings matter. */

/** What is done so far. */
export interface SweepResult<V extends Validated = Validated> {
  sweep: SweepConfig;
  candidates: readonly Candidate<V>[];
  /** The chosen ones, in the order of the sweep. */
  chosen: readonly Candidate<V>[];
  comparison: Comparison;
}

const selectionTitles: Record<Selection, { worst: string; mean: string; axis: string }> = {
  'worst/loss': {
    worst: 'Worst-group validation loss',
    mean: 'Mean validation loss over groups',
    axis: 'Validation loss',
  },
  'worst/accuracy': {
    worst: 'Worst-group validation reward accuracy',
    mean: 'Mean validation reward accuracy over groups',
    axis: 'Validation reward accuracy',
  },
};

/** Of training runs. */
export function trainingPage(result: SweepResult<Trained>): Page {
  const runs = result.chosen.flatMap(({ runs }) => runs.map(({ run }) => run));
  const { environment, config } = provenance(runs);
  return sweepPage(result, environment, config, [chosenRunsSection(result.chosen)]);
}

/** @param more sections after those of every sweep */
export function sweepPage(
  result: SweepResult,
  environment: Page['environment'],
  config: Page['config'] = [],
  more: readonly Section[] = [],
): Page {
  const { sweep, candidates } = result;
  return {
    title: `Sweep: ${sweep.methods.map(({ name }) => methodTitle(name)).join(', ')}`,
    summary: `${counted(candidates.length, 'setting')} of ${counted(sweep.methods.length, 'method')}, ${counted(sweep.seeds.length, 'seed')} each. Settings were chosen by validation figures; test figures are those of the chosen settings alone.`,
    sections: [comparisonSection(result), settingsSection(result), ...more],
    environment,
    config: [{ name: sweep.file, text: sweep.text }, ...config],
  };
}

function comparisonSection({ sweep, candidates, chosen, comparison }: SweepResult): Section {
  const { over, checks, notes } = comparison;
  const missing = sweep.methods.filter(({ name }) => !chosen.some(({ method }) => method === name));
  const seeds = sweep.seeds.length;
  return {
    title: 'Chosen settings on the test split',
    text: [
      `The setting of each method is the one with the ${selections[sweep.select] === 'lower' ? 'smallest' : 'largest'} ${lower(selectionTitles[sweep.select].worst)}, the mean over ${counted(seeds, 'seed')}. The test split had no part in that, and test figures of other settings are not shown.`,
      `In brackets 95 % intervals over ${over}.`,
      ...(checks.length > 1
        ? [
            `Of ${checks.length} comparisons at 95 % each, one in twenty would seem a difference where there is none: so the verdicts take intervals of ${formatNumber(100 - 5 / checks.length, 4)} % each, which hold all of them together with 95 % (Bonferroni). The intervals of the tables are of 95 % each.`,
          ]
        : []),
      ...notes,
      ...withoutAccuracy(candidates),
      ...missing.map(({ name }) => {
        const settings = candidates.filter(({ method }) => method === name);
        const done = settings.reduce((sum, { runs }) => sum + runs.length, 0);
        return done === seeds * settings.length
          ? `${methodTitle(name)} has no setting that can be chosen, so it is left out.`
          : `${methodTitle(name)} has no setting whose ${counted(seeds, 'run')} are all done, so it is left out: ${counted(done, 'run')} of ${seeds * settings.length}.`;
      }),
    ],
    checks,
    tables: [chosenTable(sweep.select, chosen, candidates), ...measuredTables(comparison)],
  };
}

/** Why settings whose seeds are all done cannot be chosen; nothing where each seed has a figure. */
export function withoutAccuracy(candidates: readonly Candidate[]): string[] {
  const tied = candidates.flatMap(({ method, setting, runs }) => {
    const seeds = runs.flatMap(({ seed, worst }) => (worst === null ? [seed] : []));
    const text = setting.size > 0 ? ` (${settingText(setting)})` : '';
    return seeds.length > 0 ? [`${methodTitle(method)}${text} with seed ${seeds.join(', ')}`] : [];
  });
  return tied.length === 0
    ? []
    : [
        `No reward accuracy: ${tied.join('; ')}. The policy that would be judged there is the reference itself, as at a best step 0, so all rewards tie; a setting with such a seed cannot be chosen by accuracy.`,
      ];
}

function chosenTable(select: Selection, chosen: readonly Candidate[], candidates: readonly Candidate[]): Table {
  return {
    caption: 'Chosen by validation, mean ± standard error over seeds',
    columns: [
      { title: 'Method' },
      { title: 'Setting' },
      { title: 'of', numeric: true },
      { title: selectionTitles[select].worst, numeric: true },
      { title: selectionTitles[select].mean, numeric: true },
    ],
    rows: chosen.map(({ method, setting, worst, mean }) => [
      methodTitle(method),
      settingText(setting),
      String(candidates.filter((one) => one.method === method).length),
      worst,
      mean,
    ]),
  };
}

function measuredTables({ methods, differences }: Comparison): Table[] {
  const shown = [...new Set(methods.flatMap(({ measured }) => Object.keys(measured)))];
  const table = (caption: string, rows: readonly [string, Measured][]): Table => ({
    caption,
    columns: [{ title: 'Method' }, ...shown.map((measure) => ({ title: capital(measure), numeric: true }))],
    rows: rows.map(([name, measured]) => [name, ...shown.map((measure) => intervalText(measured[measure]))]),
  });
  return [
    table(
      'Test figures of the chosen settings, with 95 % intervals',
      methods.map(({ name, measured }) => [methodTitle(name), measured]),
    ),
    ...(differences.length > 0
      ? [
          table(
            'Paired differences of test figures, with 95 % intervals',
            differences.map(({ first, second, measured }) => [
              `${methodTitle(first)}\u00a0−\u00a0${methodTitle(second)}`,
              measured,
            ]),
          ),
        ]
      : []),
  ];
}

function intervalText(interval: Interval | undefined): string | null {
  if (interval === undefined) return null;
  const number = (value: number) => formatNumber(value, 3);
  return interval.interval === null
    ? number(interval.mean)
    : `${number(interval.mean)} (${interval.interval.map(number).join(' to ')})`;
}

/** All settings, by validation figures alone. */
function settingsSection({ sweep, candidates }: SweepResult): Section {
  const keys = [...new Set(candidates.flatMap(({ setting }) => [...setting.keys()]))];
  const { worst, mean } = selectionTitles[sweep.select];
  return {
    title: 'All settings on the validation split',
    tables: [
      {
        caption: 'Validation figures of every setting, mean ± standard error over seeds',
        columns: [
          { title: 'Method' },
          ...keys.map((title) => ({ title, numeric: true })),
          { title: 'Runs', numeric: true },
          { title: worst, numeric: true },
          { title: mean, numeric: true },
          { title: 'Chosen' },
        ],
        rows: candidates.map((one) => [
          methodTitle(one.method),
          ...keys.map((key) => (one.setting.has(key) ? valueText(one.setting.get(key)) : null)),
          `${one.runs.length} of ${sweep.seeds.length}`,
          one.worst,
          one.mean,
          one.chosen ? 'chosen' : '',
        ]),
      },
    ],
    figures: sweep.methods.flatMap(({ name, grid = {} }) =>
      Object.keys(grid).flatMap((key) =>
        sensitivity(
          sweep.select,
          key,
          candidates.filter(({ method }) => method === name),
        ),
      ),
    ),
  };
}

/** Worst group and mean over groups by the values of one key, all other keys as they were chosen; nothing where there is but one value. */
function sensitivity(select: Selection, key: string, candidates: readonly Candidate[]): Figure[] {
  const chosen = candidates.find((candidate) => candidate.chosen);
  if (chosen === undefined) return [];
  const line = candidates.filter(
    ({ setting, whole }) =>
      whole &&
      [...setting].every(
        ([other, value]) => other === key || valueText(value) === valueText(chosen.setting.get(other)),
      ),
  );
  if (line.length < 2) return [];
  const { axis } = selectionTitles[select];
  const title = `${methodTitle(chosen.method)}: ${lower(axis)}`;
  const others = [...chosen.setting].filter(([other]) => other !== key);
  const caption = `${title} by ${key}${others.length > 0 ? `, with ${settingText(new Map(others))}` : ''}`;
  const seeds = counted(chosen.runs.length, 'seed');
  const series = [
    { name: 'Worst group', colour: '#D55E00', of: ({ worst }: Validated) => worst },
    { name: 'Mean over groups', colour: '#0072B2', of: ({ mean }: Validated) => mean },
  ];
  const values = line.map(({ setting }) => setting.get(key));
  const name = `sensitivity-${chosen.method}-${key}`;
  const description = `${caption}. Chosen: ${valueText(chosen.setting.get(key))}`;
  const numbers = values.filter((value): value is number => typeof value === 'number');
  if (numbers.length < values.length)
    return [
      {
        name,
        chart: {
          description: `Bar chart. ${description}`,
          value: { title },
          colours: new Map(series.map(({ name, colour }) => [name, colour])),
          bars: line.flatMap(({ setting, runs }) =>
            series.map(({ name: of, of: value }) => {
              const over = estimate(runs.flatMap((run) => value(run) ?? []));
              return { category: valueText(setting.get(key)), series: of, value: over.mean, ...errorEnds(over) };
            }),
          ),
        },
        caption: `${description}. Error bars: ± one standard error over ${seeds}.`,
      },
    ];
  const [least, most] = [Math.min(...numbers), Math.max(...numbers)];
  return [
    {
      name,
      chart: {
        description: `Line chart. ${description}`,
        x: { title: key, log: least > 0 && most >= 5 * least },
        y: { title },
        series: series.map(({ name: of, colour, of: value }) => ({
          name: of,
          colour,
          points: line
            .map(({ setting, runs }): Point => {
              const over = estimate(runs.flatMap((run) => value(run) ?? []));
              return { x: setting.get(key) as number, y: over.mean, ...errorEnds(over) };
            })
            .sort((a, b) => a.x - b.x),
        })),
      },
      caption: `${description}. Bands: ± one standard error over ${seeds}.`,
    },
  ];
}

/** The runs of the chosen settings as `group-robust report` shows runs; their claims are judged above. */
function chosenRunsSection(chosen: readonly Candidate<Trained>[]): Section {
  const runs = chosen.flatMap(({ method, runs }) => runs.map(({ run }) => ({ ...run, method })));
  return { ...runsSection(runs), title: 'The runs of the chosen settings', checks: [] };
}

/** A line per run: its setting and validation figures. */
export function sweepCsv({ sweep, candidates }: SweepResult): string {
  const keys = [...new Set(candidates.flatMap(({ setting }) => [...setting.keys()]))];
  const { select } = sweep;
  return csvOfRecords(
    candidates.flatMap(({ method, setting, runs, chosen }) =>
      runs.map(
        ({ seed, folder, worst, mean }): CsvRow => ({
          method,
          ...Object.fromEntries(keys.map((key) => [key, setting.has(key) ? valueText(setting.get(key)) : null])),
          seed,
          run: folder,
          [`validation ${select}`]: worst,
          [`validation mean of ${select.replace('worst/', '')} over groups`]: mean,
          chosen,
        }),
      ),
    ),
  );
}

/** A line per measure of each chosen method, and of each difference of two. */
export function comparisonCsv({ methods, differences }: Comparison): string {
  const rows = (name: string, minus: string | null, measured: Measured) =>
    Object.entries(measured).map(([measure, { mean, interval }]) => ({
      method: name,
      minus,
      measure,
      value: mean,
      interval_low: interval?.[0],
      interval_high: interval?.[1],
    }));
  return csvOfRecords([
    ...methods.flatMap(({ name, measured }) => rows(name, null, measured)),
    ...differences.flatMap(({ first, second, measured }) => rows(first, second, measured)),
  ]);
}

/** "objective.step 0.003"; "–" where the method has but one setting. */
export function settingText(setting: Setting): string {
  return [...setting].map(([key, value]) => `${key} ${valueText(value)}`).join(', ') || '–';
}

function valueText(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function capital(text: string): string {
  return text.replace(/^./, (first) => first.toUpperCase());
}

function lower(text: string): string {
  return text.replace(/^./, (first) => first.toLowerCase());
}
