import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { featureMapNames } from '../bandit/features.js';
import {
  allMethodNames,
  checkOptions,
  limitedOptions,
  type MethodSettings,
  methodSettings,
  readsOption,
} from '../bandit/methods.js';
import { type BanditSetting, checkSetting, dataBalances, responseRules, trainingSizes } from '../bandit/preferences.js';
import { banditCsv, banditReport } from '../bandit/report.js';
import { runSeeds } from '../bandit/run.js';
import { checkMethod } from '../bandit/training.js';
import { InputError, present } from '../errors.js';
import { checked, readJson } from '../files/read.js';
import { writeFileWhole, writeFolderWhole } from '../files/write.js';
import { twoLevelInterval } from '../numbers/bootstrap.js';
import { estimate } from '../numbers/statistics.js';
import { isMoving } from '../objective/group-weights.js';
import { packageVersion } from '../package.js';
import { methodTitle } from '../report/palette.js';
import { progress } from '../terminal/progress.js';
import { weightingSchema } from '../train/objective-config.js';
import { cellFolder, changedUnit, checkJudgedAlike, type Setting, settingsOfMethods } from './cells.js';
import { chosenOf, writeReport } from './collect.js';
import { type Comparison, judge, type Measured } from './comparison.js';
import { type MethodPlan, type SweepConfig, selections } from './config.js';
import { type SweepResult, sweepPage } from './page.js';
import { type Candidate, choose, type Validated } from './selection.js';

/** A sweep of the synthetic bandit: cells are what `group-robust bandit --out` writes for one method and seed. */

const numbers = z.union([z.number(), z.array(z.number()).nonempty()]);
const optionsSchema = z.strictObject({
  method: z.enum(allMethodNames),
  features: z.enum(featureMapNames).default('swapped'),
  responses: z.enum(responseRules).default('uneven'),
  data: z.enum(dataBalances).default('imbalanced'),
  groups: z.number().optional(),
  dimension: z.number().optional(),
  deterministicRatio: numbers.optional(),
  referenceTheta: z.array(z.number()).optional(),
  iterations: z.number().int().positive().optional(),
  beta: z.number().positive().optional(),
  thetaStep: z.number().positive().optional(),
  alphaStep: z.number().min(0).optional(),
  adjustment: numbers.optional(),
  labelSmoothing: z.number().min(0).lt(0.5).optional(),
  batch: z.number().optional(),
  chi: z.number().min(0).max(1).optional(),
  weighting: weightingSchema.refine(isMoving, 'these weights do not move, so they make no gr- method').optional(),
  ridge: z.number().min(0).optional(),
  radius: z.number().positive().optional(),
  average: z.literal(true).optional(),
  adaptiveTheta: z.number().positive().optional(),
  adaptiveAlpha: z.number().positive().optional(),
});
type Options = z.infer<typeof optionsSchema>;

export interface BanditCell {
  method: string;
  setting: Setting;
  seed: number;
  folder: string;
  options: Options;
  problem: BanditSetting;
  settings: MethodSettings;
}

/**
 * All runs, seed by seed.
 * @throws InputError naming the method and key where an option is wrong, or changes nothing of its method
 */
export function banditCells(sweep: SweepConfig): BanditCell[] {
  if (sweep.cluster !== undefined)
    throw new InputError('does nothing with bandit, whose seeds have pairs of their own', {
      at: { file: sweep.file, field: 'cluster' },
      fix: 'remove it',
    });
  const settings = settingsOfMethods(sweep);
  const cells = sweep.seeds.flatMap((seed) =>
    settings.flatMap(({ method, settings: own }) => own.map((one) => cellOf(sweep, method, one, seed))),
  );
  for (const { method } of settings) {
    const units = cells
      .filter((cell) => cell.method === method.name)
      .map(({ settings: { loss } }) => JSON.stringify(loss));
    if (sweep.select === 'worst/loss' && new Set(units).size > 1) throw changedUnit(sweep, method.name);
  }
  checkJudgedAlike(sweep, cells, ({ options }) => problemOf(options));
  for (const key of limitedOptions) {
    const reads = ({ method, setting, options }: BanditCell) => {
      const own = sweep.methods.find(({ name }) => name === method)?.set ?? {};
      return options[key] !== undefined && !(key in own) && !setting.has(key);
    };
    if (sweep.bandit !== undefined && key in sweep.bandit && !cells.some(reads))
      throw new InputError('has no effect on any method of the sweep', {
        at: { file: sweep.file, field: `bandit.${key}` },
        fix: 'remove it',
      });
  }
  return cells;
}

function cellOf(sweep: SweepConfig, method: MethodPlan, one: Setting, seed: number): BanditCell {
  const at = { file: `${sweep.file}, method ${method.name}` };
  const own = { ...method.set, ...Object.fromEntries(one) };
  const options = checked(optionsSchema, { ...sweep.bandit, ...own }, at);
  const { method: name, adaptiveTheta, adaptiveAlpha, ...rest } = options;
  const ofMethod = { ...rest, adaptive: { theta: adaptiveTheta, alpha: adaptiveAlpha } };
  for (const key of limitedOptions)
    if (key in own && !readsOption(name, key, ofMethod))
      throw new InputError(`has no effect on ${name}`, { at: { ...at, field: key }, fix: 'remove it' });
  checkOptions(name, ofMethod, (field) => ({ ...at, field }));
  const problem = withoutAbsent(problemOf(options));
  const settings = methodSettings(name, ofMethod);
  checkSetting(problem);
  checkMethod(settings, trainingSizes(problem));
  const folder = cellFolder(sweep, method.name, one, seed);
  // The command refuses what the sweep's other methods read alone.
  for (const key of limitedOptions) if (!readsOption(name, key, ofMethod)) delete options[key];
  return { method: method.name, setting: one, seed, folder, options, problem, settings };
}

/** The settings of the problem: what pairs and test states of a seed are drawn from. */
function problemOf({ features, responses, data, groups, dimension, deterministicRatio, referenceTheta }: Options) {
  return { features, responses, data, groups, dimension, deterministicRatio, referenceTheta };
}

/** What goes into JSON and comes back is then the same. */
function withoutAbsent<T extends object>(record: T): T {
  return Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined)) as T;
}

/** For `--list`: every option as `--flag=value`, since a list may begin with a minus sign. */
export function banditCommand({ options, seed, folder }: BanditCell): string[] {
  const flags = Object.entries(withoutAbsent(options)).map(([key, value]) => {
    const flag = key === 'method' ? 'methods' : key.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    return value === true ? `--${flag}` : `--${flag}=${flag === 'weighting' ? JSON.stringify(value) : value}`;
  });
  return ['bandit', ...flags, `--seeds=${seed}`, `--out=${folder}`, '--quiet'];
}

const estimateSchema = z.looseObject({ mean: z.number() });
const reportSchema = z.looseObject({
  setting: z.unknown(),
  seeds: z.tuple([z.number()]),
  methods: z.record(
    z.string(),
    z.looseObject({
      settings: z.unknown(),
      validation_losses: z.array(z.number()),
      validation_accuracies: z.array(z.number()),
      relative_max_reward_error: estimateSchema,
      absolute_max_reward_error: estimateSchema,
      max_kl: estimateSchema,
    }),
  ),
});
type Outcome = z.infer<typeof reportSchema>['methods'][string];

/** Undefined where the run of a cell is not done. @throws InputError where its folder holds one of other settings */
function readOutcome({ folder, options, problem, settings, seed }: BanditCell): Outcome | undefined {
  const file = join(folder, 'results.json');
  if (!existsSync(file)) return undefined;
  const report = checked(reportSchema, readJson(file), { file });
  const outcome = report.methods[options.method];
  const same = (a: unknown, b: unknown) => JSON.stringify(a) === JSON.stringify(b);
  if (!outcome || !same([report.setting, outcome.settings, report.seeds], [problem, settings, [seed]]))
    throw new InputError('was made with other options than the sweep has now', {
      at: { file },
      fix: 'put them back, name another output for the sweep, or remove that folder, whose run is then made anew',
    });
  return outcome;
}

export function isBanditDone(cell: BanditCell): boolean {
  return readOutcome(cell) !== undefined;
}

/** Runs that are saved together. */
const SAVED_TOGETHER = 64;

/** Makes the runs that are not done, `jobs` at a time in threads; each folder is what `group-robust bandit --out` writes. */
export async function runBanditCells(
  cells: readonly BanditCell[],
  { jobs, quiet, log }: { jobs: number; quiet: boolean; log(text: string): void },
): Promise<void> {
  const left = cells.filter((cell) => !isBanditDone(cell));
  const before = cells.length - left.length;
  if (before > 0) log(`${before} of ${cells.length} runs are done already`);
  if (left.length === 0) return;
  const bar = progress('sweep, runs', cells.length, quiet, before);
  try {
    for (let from = 0; from < left.length; from += SAVED_TOGETHER) {
      const some = left.slice(from, from + SAVED_TOGETHER);
      const jobsOfSome = some.map(({ problem, seed, settings }) => ({ setting: problem, seed, methods: [settings] }));
      const onDone = (done: number) => bar.update(before + from + done);
      const results = await runSeeds(jobsOfSome, { workers: jobs, onDone });
      for (const [i, { folder, options, problem, settings }] of some.entries()) {
        const result = [present(results[i])];
        const report = banditReport(problem, [{ name: options.method, settings }], result);
        await writeFolderWhole(folder, (partial) => {
          writeFileWhole(join(partial, 'results.json'), `${JSON.stringify(report, null, 2)}\n`);
          writeFileWhole(join(partial, 'results.csv'), banditCsv([options.method], result));
        });
      }
    }
  } finally {
    bar.stop();
  }
}

interface Simulated extends Validated {
  outcome: Outcome;
}

/** What is measured on the test states, of the group that is worse off. */
const quantities = {
  'relative reward error': ({ relative_max_reward_error: { mean } }) => mean,
  'absolute reward error': ({ absolute_max_reward_error: { mean } }) => mean,
  'divergence from the group’s own policy / nats': ({ max_kl: { mean } }) => mean,
} as const satisfies Record<string, (outcome: Outcome) => number>;
const claimed = 'relative reward error';

/** As `collect` of training runs. @throws InputError as that */
export async function collectBandit(
  sweep: SweepConfig,
  cells: readonly BanditCell[],
  warn: (text: string) => void,
): Promise<SweepResult> {
  const done = new Map<string, Simulated>();
  const lower = selections[sweep.select] === 'lower';
  for (const cell of cells) {
    const outcome = readOutcome(cell);
    if (outcome === undefined) continue;
    const ofGroups = lower ? outcome.validation_losses : outcome.validation_accuracies;
    const worst = lower ? Math.max(...ofGroups) : Math.min(...ofGroups);
    done.set(cell.folder, { seed: cell.seed, folder: cell.folder, worst, mean: estimate(ofGroups).mean, outcome });
  }
  const { candidates, chosen } = chosenOf(sweep, choose(cells, done, sweep.select));
  const result = { sweep, candidates, chosen, comparison: compareOverSeeds(chosen) };
  const environment = { 'group-robust-po': packageVersion(), node: process.version };
  await writeReport(result, sweepPage(result, environment), warn);
  return result;
}

/** A seed draws pairs and test states anew, so chance is over seeds alone: Student's intervals of paired differences. */
function compareOverSeeds(chosen: readonly Candidate<Simulated>[]): Comparison {
  const names = Object.keys(quantities) as (keyof typeof quantities)[];
  const level = (values: readonly number[]) => {
    const { mean, standard_error } = estimate(values);
    return standard_error === null ? undefined : { mean, standard_error, bias: 0, degrees: values.length - 1 };
  };
  const over = (values: (name: keyof typeof quantities) => readonly number[]): Measured =>
    Object.fromEntries(
      names.map((name) => {
        const own = level(values(name));
        return [name, { mean: estimate(values(name)).mean, interval: own ? twoLevelInterval(own) : null }];
      }),
    );
  const of = ({ runs }: Candidate<Simulated>, name: keyof typeof quantities) =>
    runs.map(({ outcome }) => quantities[name](outcome));
  const difference = (first: Candidate<Simulated>, second: Candidate<Simulated>, name: keyof typeof quantities) =>
    of(first, name).map((value, seed) => value - present(of(second, name)[seed]));
  const pairs = chosen.flatMap((first, i) => chosen.slice(0, i).map((second) => ({ first, second })));
  return {
    over: 'seeds, each of which draws pairs and 1000 test states anew; one seed has none. Figures are of the group that is worse off. Differences are taken seed by seed',
    methods: chosen.map((one) => ({ name: one.method, measured: over((name) => of(one, name)) })),
    differences: pairs.map(({ first, second }) => ({
      first: first.method,
      second: second.method,
      measured: over((name) => difference(first, second, name)),
    })),
    checks: pairs.flatMap(({ first, second }) => {
      const own = level(difference(first, second, claimed));
      const claim = `${methodTitle(first.method)} lowers the worse group’s ${claimed} against ${methodTitle(second.method)}`;
      return own ? [judge(claim, 'lower', own, pairs.length, 'seeds')] : [];
    }),
    notes: [],
  };
}
