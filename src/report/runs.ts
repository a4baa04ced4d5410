import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import type { PeopleSource } from '../data/pairs/people.js';
import { splitLines } from '../data/tables/lines.js';
import { InputError, present } from '../errors.js';
import { byName } from '../files/by-name.js';
import { checked, parseJson, readBytes, readJson, readText } from '../files/read.js';
import { parseYaml } from '../files/yaml.js';
import { isOfOneRun, settingsOf } from '../train/identity.js';
import { groupsOf, type LoggedGroup, type MetricMeans, type PairMetric, pairMetrics } from '../train/metrics.js';
import { type MetricsLine, metricsLineSchema } from '../train/metrics-line.js';
import { groupBy } from './group-by.js';

/** Reads run folders, as `group-robust train` leaves them, for the report. */

const metric = z.number().optional();
const means = z.looseObject({
  loss: metric,
  'rewards/chosen': metric,
  'rewards/rejected': metric,
  'rewards/accuracies': metric,
  'rewards/margins': metric,
  'logps/chosen': metric,
  'logps/rejected': metric,
  'logps/accuracies': metric,
} satisfies Record<PairMetric, typeof metric>);

const similarity = z.number();
const opinions = z.looseObject({
  groups: byName(
    z.looseObject({
      questions: z.number().int().positive(),
      similarity,
      standard_error: z.number().optional(),
      calibration_error: z.number().optional(),
    }),
  ),
  mean: z.looseObject({ similarity }),
  group_mean: z.looseObject({ similarity }),
  worst: z.looseObject({ similarity }),
});

const evaluationSchema = z.looseObject({
  groups: byName(
    means.extend({ count: z.number().int().positive(), loss: z.number(), standard_error: means.optional() }),
  ).refine((groups) => groups.size > 0, 'holds no group'),
  group_order: z.array(z.string()).optional(),
  mean: z.looseObject({ loss: z.number() }),
  survey: z.looseObject({ policy: opinions, reference: opinions.optional(), uniform: opinions }).optional(),
});

const count = z.number().int().min(0);

const runSchema = z.looseObject({
  method: z.string().min(1),
  seed: z.number().int(),
  /** Two runs of one seed are paired only where they saw the same data. */
  dataHash: z.string().optional(),
  /** At the end: the steps taken. */
  steps: z.number().int().min(0).optional(),
  best: z.looseObject({ step: count, loss: z.number().optional(), group: z.string().optional() }).optional(),
  /** Pairs left out of each split, by reason. */
  dropped: z.record(z.string(), z.record(z.string(), count)).optional(),
  /** Of each split; runs of earlier versions have none, and no groups that overlap. */
  pairs: z.object({ train: count }).catchall(count).optional(),
  groups: byName(z.object({ train: count }).catchall(count)),
});

const configSchema = z.looseObject({
  objective: z.looseObject({
    loss: z.string(),
    beta: z.number().optional(),
    labelSmoothing: z.number().optional(),
    gamma: z.number().optional(),
    reduction: z.string().optional(),
  }),
  data: z
    .looseObject({
      test: z.string().optional(),
      people: z.object({ file: z.string(), key: z.string() }).optional(),
    })
    .optional(),
});

/** The splits on which a run may have been scored, the best first. */
export const scoredSplits = ['test', 'validation', 'training'] as const;
export type ScoredSplit = (typeof scoredSplits)[number];

/** Metrics by group. */
export type GroupScores = ReadonlyMap<string, GroupMeans>;
export type GroupMeans = LoggedGroup & { standard_error?: MetricMeans };

/** How near one model is to the answers of the groups; see src/train/survey.ts. */
export type Opinions = z.infer<typeof opinions>;

/** Metrics of one policy on one split. */
export interface Scores {
  /** The optimiser step after which the policy was scored. */
  step: number;
  groups: GroupScores;
  /** Loss, mean over pairs, each by its weight; of the training split each as often as it has groups. */
  pairMean: number;
  /** Whether policy and reference score every pair alike, as before the first step: there is then no reward accuracy, and no worst group. */
  tied: boolean;
  /**
   * Where the errors are over clusters of the pairs: the column whose values these are, whether one has pairs of several groups, and how many the group
   * with the fewest has.
   */
  clusters?: { column: string; crossing: boolean; fewest: number };
  /** Where the pairs carry questions of a survey: the policy beside its reference and the uniform distribution. */
  survey?: { policy: Opinions; reference?: Opinions; uniform: Opinions };
}

/** One training run. */
export interface Run {
  folder: string;
  /** E.g. "gr-ipo". */
  method: string;
  seed: number;
  dataHash: string | undefined;
  /** Pairs of the training split. */
  trainPairs: number;
  /** Whether some pairs are of several groups, whose means are then not independent. */
  overlap: boolean;
  /** run.json as it stands: versions, commit and so on. */
  record: Readonly<Record<string, unknown> & Pick<z.infer<typeof runSchema>, 'steps' | 'best' | 'dropped' | 'groups'>>;
  /** The loss and what scales it; losses of two runs can be compared where this is equal. */
  objective: { loss: string; beta?: number; labelSmoothing?: number; gamma?: number; reduction?: string };
  /** config.yaml as it stands. */
  config: string;
  /** The file of the test pairs, where the run has one. */
  testFile: string | undefined;
  /** Those whose pairs these are, where the run has them. */
  people: PeopleSource | undefined;
  /** Every key of the configuration that makes the method ("objective.beta" → "0.1"). */
  settings: ReadonlyMap<string, string>;
  /** One entry per line of metrics.jsonl. */
  metrics: readonly Readonly<MetricsLine>[];
  /**
   * Final metrics by group: exact ones of the test split, and of the validation split at the last evaluation; of the
   * training split what the last epoch's batches showed while the policy still moved.
   */
  scores: Readonly<Partial<Record<ScoredSplit, Scores>>>;
  /** With `checkpoint.best`: exact test metrics of the step with the smallest worst-group validation loss. */
  best?: Scores;
}

/**
 * Reads config.yaml, run.json, metrics.jsonl and, where there are any, evaluation.json and evaluation-best.json of a run folder.
 * @throws InputError naming the file, line and field that is missing or malformed, or the run that has no scores yet
 */
export async function readRun(folder: string): Promise<Run> {
  const recordFile = join(folder, 'run.json');
  if (!existsSync(recordFile))
    throw new InputError('no such file', {
      at: { file: recordFile },
      fix: 'name folders that `group-robust train` has made',
    });
  const { method, seed, dataHash, ...record } = checked(runSchema, readJson(recordFile), { file: recordFile });
  const configFile = join(folder, 'config.yaml');
  const config = readText(configFile);
  const parsed = checked(configSchema, parseYaml(config, { file: configFile }).value, { file: configFile });
  const { loss, beta, labelSmoothing, gamma, reduction } = parsed.objective;
  const settings = methodSettings(parsed);
  const metrics: MetricsLine[] = [];
  const file = join(folder, 'metrics.jsonl');
  const chunks: Uint8Array[] = [];
  for await (const chunk of readBytes(file)) chunks.push(chunk);
  const log = Buffer.concat(chunks);
  // A run that was killed, or is writing now, may have left half of its last line.
  for await (const { number: line, text } of splitLines([log.subarray(0, log.lastIndexOf(0x0a) + 1)], file))
    metrics.push(checked(metricsLineSchema, parseJson(text, { file, line }), { file, line }));
  const steps = Number(metrics.at(-1)?.step ?? 0);
  const scores = {
    // A run that is made longer still has those of its earlier end.
    test: testScores(join(folder, 'evaluation.json'), record.steps ?? steps),
    validation: validationScores(metrics.findLast((line) => groupsOf(line, 'eval_').length > 0)),
    training: trainingScores(metrics, steps),
  };
  if (scoredSplits.every((split) => scores[split] === undefined))
    throw new InputError('has no scores of any group', {
      at: { file },
      fix: 'wait for the first step of the run; if it has ended, all its steps were skipped',
    });
  const best = record.best && testScores(join(folder, 'evaluation-best.json'), record.best.step);
  const objective = { loss, beta, labelSmoothing, gamma, reduction };
  const { test: testFile, people } = parsed.data ?? {};
  const members = (split: string) => [...record.groups.values()].reduce((sum, sizes) => sum + (sizes[split] ?? 0), 0);
  const trainPairs = record.pairs?.train ?? members('train');
  const overlap = Object.entries(record.pairs ?? {}).some(([split, pairs]) => members(split) > pairs);
  const made = { method, seed, dataHash, trainPairs, overlap, record, objective, config, testFile, people, settings };
  return { folder, ...made, metrics, scores, best };
}

/** Undefined where the run has no such file. */
function testScores(file: string, step: number): Scores | undefined {
  if (!existsSync(file)) return undefined;
  const { groups, group_order = [], mean, survey } = checked(evaluationSchema, readJson(file), { file });
  return { step, ...withoutTies(inOrder(groups, group_order)), pairMean: mean.loss, survey };
}

/**
 * Without reward accuracies where they are of ties alone, each of which counts as wrong: where no pair's margin is above 0, and their mean is 0, all are 0.
 */
function withoutTies(groups: GroupScores): Pick<Scores, 'groups' | 'tied'> {
  const tied = [...groups.values()].every(
    (means) => means['rewards/accuracies'] === 0 && means['rewards/margins'] === 0,
  );
  if (!tied) return { groups, tied };
  const others = [...groups].map(([name, { 'rewards/accuracies': _, ...means }]): [string, GroupMeans] => [
    name,
    means,
  ]);
  return { groups: new Map(others), tied };
}

/** Named first those of `order`, in that order, as JSON does not keep it; then the others. */
function inOrder<T>(map: ReadonlyMap<string, T>, order: readonly string[]): Map<string, T> {
  const places = new Map(order.map((name, i) => [name, i]));
  const place = (name: string) => places.get(name) ?? order.length;
  return new Map([...map].sort(([a], [b]) => place(a) - place(b)));
}

/** The best split on which all runs have scores: only those can be compared. */
export function commonSplit(runs: readonly Run[]): ScoredSplit {
  const common = scoredSplits.find((split) => runs.every((run) => run.scores[split] !== undefined));
  if (common !== undefined) return common;
  const without = (split: ScoredSplit) => present(runs.find((run) => run.scores[split] === undefined)).folder;
  throw new InputError(
    `there is no split on which all runs have scores: ${scoredSplits.map((split) => `${without(split)} has none on ${split}`).join(', ')}`,
    { fix: 'report runs of the same data.test or data.validation together' },
  );
}

/** What a line says of the validation split; undefined where there is none. */
export function validationScores(line: MetricsLine | undefined): Scores | undefined {
  if (line === undefined) return undefined;
  return { step: line.step, ...withoutTies(new Map(groupsOf(line, 'eval_'))), pairMean: Number(line.eval_loss) };
}

/** Mean over the pairs of the last epoch: single batches are too few. */
function trainingScores(metrics: readonly MetricsLine[], step: number): Scores | undefined {
  // Steps that were skipped have no scores.
  const taken = metrics.filter((line) => groupsOf(line, '').length > 0);
  const end = Number(taken.at(-1)?.epoch ?? 0);
  const entries = taken.filter((line) => Number(line.epoch ?? 0) > end - 1).flatMap((line) => groupsOf(line, ''));
  if (entries.length === 0) return undefined;
  const pairs = entries.reduce((sum, [, { count }]) => sum + count, 0);
  const groups = [...groupBy(entries, ([name]) => name)].map(([name, members]): [string, GroupMeans] => {
    const scores = members.map(([, values]) => values);
    const count = scores.reduce((sum, values) => sum + values.count, 0);
    const means = pairMetrics
      .filter((metric) => scores.every((values) => values[metric] !== undefined))
      .map((metric) => [
        metric,
        scores.reduce((sum, values) => sum + (values.count / count) * (values[metric] ?? Number.NaN), 0),
      ]);
    return [name, { ...Object.fromEntries(means), count }];
  });
  return {
    step,
    ...withoutTies(new Map(groups)),
    pairMean: entries.reduce((sum, [, { count, loss }]) => sum + (count / pairs) * loss, 0),
  };
}

/** Runs that differ in nothing of this are seeds of one method; which checkpoints are kept makes no other. */
function methodSettings(config: object): Map<string, string> {
  const own = settingsOf(config).filter(
    ([key, value]) => !isOfOneRun(key) && key !== 'checkpoint.best' && value !== null,
  );
  return new Map(own.map(([key, value]) => [key, Array.isArray(value) ? value.join(', ') : String(value)]));
}

/** The settings in which runs differ, in the order of their configurations. */
export function differingSettings(runs: readonly Pick<Run, 'settings'>[]): string[] {
  const keys = new Set(runs.flatMap((run) => [...run.settings.keys()]));
  return [...keys].filter((key) => new Set(runs.map((run) => run.settings.get(key))).size > 1);
}

/** `{versions: {node: "v20"}}` → `["versions node", "v20"]`; lists of values are joined. */
export function flatten(record: Readonly<Record<string, unknown>>, prefix = ''): [string, string][] {
  return Object.entries(record).flatMap(([key, value]): [string, string][] => {
    if (value === null || value === undefined) return [];
    if (Array.isArray(value) && value.every((entry) => typeof entry !== 'object'))
      return [[prefix + key, value.join(', ')]];
    if (typeof value === 'object') return flatten({ ...value }, `${prefix}${key} `);
    return [[prefix + key, String(value)]];
  });
}
