import { present } from '../../errors.js';
import { largest, smallest } from '../../numbers/extremes.js';
import type { Estimate } from '../../numbers/statistics.js';
import { formatCount } from '../../terminal/format.js';
import { groupBy } from '../group-by.js';
import {
  difference,
  errorsOver,
  type GroupMetric,
  groupMetricTitles,
  groupScore,
  has,
  type Method,
  overSeeds,
  type Pair,
  type ScoredRun,
  scores,
  worstLoss,
} from '../methods.js';
import { differingSettings, type Opinions, type ScoredSplit } from '../runs.js';
import type { Table } from '../table.js';

/** The end of a table's caption: what its numbers are. */
function seedsCaption(methods: readonly Method[]): string {
  const over = errorsOver(methods);
  return over === undefined ? '' : `, mean ± standard error over ${over}`;
}

/** The settings in which the methods differ, but for those that their names say. */
function settingColumns(methods: readonly Method[]): string[] {
  return differingSettings(methods.flatMap(({ runs }) => runs)).filter(
    (key) => !/^objective\.(loss|weights)$/.test(key),
  );
}

/** A score that a seed lacks, as accuracies where all rewards tie, has no mean: it would be of fewer seeds than the row says. */
export function headline(methods: readonly Method[], split: ScoredSplit): Table {
  const settings = settingColumns(methods);
  return {
    caption: `Final ${split}${seedsCaption(methods)}`,
    columns: [
      { title: 'Method' },
      { title: 'Seeds', numeric: true },
      ...scores.map(({ title }) => ({ title, numeric: true })),
      { title: 'Worst group (seeds)' },
      { title: 'Step', numeric: true },
      ...settings.map((key) => ({ title: key, numeric: true })),
    ],
    rows: methods.map(({ title, runs }) => [
      title,
      formatCount(runs.length),
      ...scores.map((score) => {
        const values = runs.map(score.of);
        return values.includes(null) ? null : overSeeds(values, score.error(present(runs[0])));
      }),
      [
        ...groupBy(
          runs.filter(({ tied }) => !tied),
          worstGroup,
        ),
      ]
        .map(([group, members]) => `${group} (${members.length})`)
        .join(', ') || '–',
      range(runs.map(({ step }) => step)),
      ...settings.map((key) => runs[0]?.settings.get(key) ?? '–'),
    ]),
  };
}

function worstGroup(run: ScoredRun): string {
  return [...run.groups].reduce((worst, group) => (group[1].loss > worst[1].loss ? group : worst))[0];
}

/** As in {@link headline}, of the seeds that both have. */
export function differences(pairs: readonly Pair[]): Table {
  return {
    caption: 'Paired differences over seeds, mean ± standard error',
    columns: [
      { title: 'Difference' },
      { title: 'Seeds', numeric: true },
      ...scores.map(({ title }) => ({ title, numeric: true })),
    ],
    rows: pairs.map((pair) => {
      const seeds = difference(pair, worstLoss)?.pairs ?? 0;
      return [
        `${pair.first.title}\u00a0−\u00a0${pair.second.title}`,
        formatCount(seeds),
        ...scores.map((score) => {
          const found = difference(pair, score);
          return found?.pairs === seeds ? found : null;
        }),
      ];
    }),
  };
}

/** Null where no run has the metric: SFT has no rewards. */
export function groupTable(
  methods: readonly Method[],
  groups: readonly string[],
  metric: GroupMetric,
  split: ScoredSplit,
): Table | null {
  const shown = methods.filter(({ runs }) => runs.some((run) => has(run, metric)));
  if (shown.length === 0) return null;
  return {
    caption: `${groupMetricTitles[metric]} of each group${seedsCaption(methods)}`,
    columns: [
      { title: 'Group' },
      { title: `${split.replace(/^./, (first) => first.toUpperCase())} pairs`, numeric: true },
      ...shown.map(({ title }) => ({ title, numeric: true })),
    ],
    rows: groups.map((group) => [
      group,
      // Seeds may split the data anew, so the count can differ between runs.
      range(methods.flatMap(({ runs }) => runs.flatMap((run) => run.groups.get(group)?.count ?? []))),
      ...shown.map(({ runs }) => groupScore(runs, group, metric)),
    ]),
  };
}

/** How near the answers of each method are to those of the groups, with references and the uniform distribution beside them. */
export function similarityTable(all: readonly Method[], groups: readonly string[], split: ScoredSplit): Table | null {
  const methods = all.filter(({ runs }) => runs.some(({ survey }) => survey));
  if (methods.length === 0) return null;
  const row = (name: string, count: string, of: (opinions: Opinions) => Measure, compared: readonly Compared[]) => [
    name,
    count,
    ...compared.map(({ runs }) => measured(runs, of)),
  ];
  const ofGroup = (group: string) => (opinions: Opinions) => {
    const { similarity = null, standard_error = null } = opinions.groups.get(group) ?? {};
    return { mean: similarity, standard_error };
  };
  const alone = ({ similarity }: { similarity: number }) => ({ mean: similarity, standard_error: null });
  const policies = methods.map(({ title, runs }) => ({ title, runs: runs.map(({ survey }) => survey?.policy) }));
  // By the similarities alone: what stands beside them depends on how many seeds a method has.
  const cells = ({ runs }: Compared) =>
    JSON.stringify([
      ...new Set(runs.map((run) => JSON.stringify(groups.map((group) => run?.groups.get(group)?.similarity ?? null)))),
    ]);
  const references = merged('Reference', methods, ({ survey }) => survey?.reference, cells);
  const uniform = merged('Uniform', methods, ({ survey }) => survey?.uniform, cells);
  const compared = [...policies, ...references, ...uniform];
  return {
    caption: `Similarity of the distribution over all options to each group’s answers (1 − JSD), ${split}${seedsCaption(methods).replace('pairs', 'questions')}`,
    columns: [
      { title: 'Group' },
      { title: 'Questions', numeric: true },
      ...compared.map(({ title }) => ({ title, numeric: true })),
    ],
    rows: [
      ...groups.map((group) =>
        row(
          group,
          range(policies.flatMap(({ runs }) => runs.flatMap((policy) => policy?.groups.get(group)?.questions ?? []))),
          ofGroup(group),
          compared,
        ),
      ),
      row('Worst group', '', ({ worst }) => alone(worst), compared),
      row('Mean over questions', '', ({ mean }) => alone(mean), compared),
      row('Mean over groups', '', ({ group_mean }) => alone(group_mean), compared),
    ],
  };
}

/** Null where there is no survey. */
export function calibrationTable(all: readonly Method[], groups: readonly string[]): Table | null {
  const methods = all.filter(({ runs }) => runs.some(({ survey }) => survey));
  if (methods.length === 0) return null;
  return {
    caption: 'Expected calibration error of the win share of one option against another',
    columns: [{ title: 'Group' }, ...methods.map(({ title }) => ({ title, numeric: true }))],
    rows: groups.map((group) => [
      group,
      ...methods.map(({ runs }) =>
        overSeeds(runs.map(({ survey }) => survey?.policy.groups.get(group)?.calibration_error ?? null)),
      ),
    ]),
  };
}

/** A column of distributions, one for each run. */
interface Compared {
  title: string;
  runs: readonly (Opinions | undefined)[];
}

/** Its error is that over questions. */
interface Measure {
  mean: number | null;
  standard_error: number | null;
}

function measured(runs: Compared['runs'], of: (opinions: Opinions) => Measure): Estimate | null {
  const values = runs.map((opinions) => (opinions ? of(opinions) : { mean: null, standard_error: null }));
  return overSeeds(
    values.map(({ mean }) => mean),
    values[0]?.standard_error,
  );
}

/** What methods are compared with, once where it is the same for all of them: runs that start from one model have one reference. */
function merged(
  title: string,
  methods: readonly Method[],
  of: (run: ScoredRun) => Opinions | undefined,
  key: (column: Compared) => string,
): Compared[] {
  const columns = methods
    .map((method) => ({ title: `${title} of ${method.title}`, runs: method.runs.map(of) }))
    .filter(({ runs }) => runs.some((opinions) => opinions));
  const different = [...groupBy(columns, key).values()].map(([first]) => present(first));
  return different.length === 1 ? different.map(({ runs }) => ({ title, runs })) : different;
}

function range(counts: readonly number[]): string {
  if (counts.length === 0) return '–';
  const [low, high] = [smallest(counts), largest(counts)];
  return low === high ? formatCount(low) : `${formatCount(low)}–${formatCount(high)}`;
}
