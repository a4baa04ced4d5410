import { present } from '../errors.js';
import { type CsvRow, csvOfRecords } from '../files/csv.js';
import { formatNumber } from '../terminal/format.js';
import { groupKey, pairMetrics } from '../train/metrics.js';
import type { Page } from './html.js';
import { methodTitle } from './palette.js';
import {
  commonSplit,
  differingSettings,
  flatten,
  type Run,
  type ScoredSplit,
  type Scores,
  scoredSplits,
} from './runs.js';
import { runsSection } from './sections/runs.js';

/** What `group-robust report` shows: the runs side by side, where they were made, and their configurations. */
export function runsPage(runs: readonly Run[]): Page {
  const { method, seed } = present(runs[0]);
  return {
    title:
      runs.length === 1
        ? `${methodTitle(method)}, seed ${seed}`
        : 'Group robust preference optimisation: training runs',
    summary: `Scores of every group on the ${commonSplit(runs)} split, and over training.`,
    sections: [runsSection(runs)],
    ...provenance(runs),
  };
}

/** One line per run, policy (that of the best step on the test split only), split and group, with all settings in which runs differ. */
export function runsCsv(runs: readonly Run[]): string {
  const settings = differingSettings(runs);
  return csvOfRecords(
    runs.flatMap((run) => {
      const own = Object.fromEntries(settings.map((key) => [key, run.settings.get(key)]));
      return [
        ...scoredSplits.flatMap((split) => csvRecords(run, own, 'final', split, run.scores[split])),
        ...csvRecords(run, own, 'best', 'test', run.best),
      ];
    }),
  );
}

function csvRecords(
  { folder, method, seed, metrics }: Run,
  settings: CsvRow,
  policy: 'final' | 'best',
  split: ScoredSplit,
  scores: Scores | undefined,
): CsvRow[] {
  if (scores === undefined) return [];
  const { survey } = scores;
  const alpha = metrics.find(({ step }) => step === scores.step);
  return [...scores.groups].map(([group, { count, standard_error: errors = {}, ...means }]) => ({
    run: folder,
    method,
    seed,
    ...settings,
    policy,
    step: scores.step,
    split,
    group,
    count,
    ...Object.fromEntries(pairMetrics.map((metric) => [metric, means[metric]])),
    'loss standard error': errors.loss,
    'rewards/accuracies standard error': errors['rewards/accuracies'],
    alpha: alpha?.[groupKey(group, 'alpha')],
    similarity: survey?.policy.groups.get(group)?.similarity,
    'similarity standard error': survey?.policy.groups.get(group)?.standard_error,
    'reference similarity': survey?.reference?.groups.get(group)?.similarity,
    'uniform similarity': survey?.uniform.groups.get(group)?.similarity,
    'calibration error': survey?.policy.groups.get(group)?.calibration_error,
  }));
}

/** Environment (what differs between runs is listed with all its values) and configurations of runs, for a page. */
export function provenance(runs: readonly Run[]): Pick<Page, 'environment' | 'config'> {
  const values = new Map<string, Set<string>>();
  for (const run of runs)
    for (const [name, value] of recordRows(run)) values.set(name, (values.get(name) ?? new Set()).add(value));
  return {
    environment: Object.fromEntries([...values].map(([name, seen]) => [name, listed([...seen])])),
    config: runs.map((run) => ({ name: `${run.method}, seed ${run.seed}: ${run.folder}`, text: run.config })),
  };
}

/** A row for each entry of run.json, with one each for the best step, the pairs left out of a split and the sizes of a group. */
function recordRows({ record: { groups, dropped = {}, best, ...record }, best: tested }: Run): [string, string][] {
  const left = Object.entries(dropped).map(([split, counts]): [string, string] => [
    `pairs left out of ${split}`,
    listedCounts(Object.fromEntries(Object.entries(counts).filter(([, count]) => count > 0))) || 'none',
  ]);
  const sizes = [...groups].map(([name, counts]): [string, string] => [`pairs of ${name}`, listedCounts(counts)]);
  const { step, loss, group } = best ?? {};
  const bestStep: [string, string][] =
    step === undefined || loss === undefined
      ? []
      : [
          [
            'best step',
            `${step}: worst-group validation loss ${formatNumber(loss)} (${tested?.tied ? 'all groups alike' : group})`,
          ],
        ];
  return [...flatten(record), ...bestStep, ...left, ...sizes];
}

function listedCounts(counts: Record<string, number>): string {
  return Object.entries(counts)
    .map(([name, count]) => `${name} ${count}`)
    .join(', ');
}

/** All of a few values, the ends of many, such as the times at which runs were made. */
function listed(values: readonly string[]): string {
  if (values.length <= 3) return values.join('; ');
  const sorted = [...values].sort();
  return `${sorted[0]} … ${sorted[sorted.length - 1]} (${values.length} different)`;
}
