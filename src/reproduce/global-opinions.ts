import { existsSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { readSurvey } from '../data/surveys/global-opinions.js';
import { type Fold, type OpinionPairs, opinionPairs, writeOpinionPairs } from '../data/surveys/opinion-pairs.js';
import { worldRegions } from '../data/surveys/world-regions.js';
import { InputError, present } from '../errors.js';
import { readJson } from '../files/read.js';
import { writeFileWhole, writeFolderWhole } from '../files/write.js';
import { localCsv } from '../hub/local.js';
import type { DType } from '../native/types.js';
import { resolveDevice } from '../policy/device.js';
import { renderPage } from '../report/html.js';
import { robustChecks } from '../report/methods.js';
import { methodTitle } from '../report/palette.js';
import { writeRunReport } from '../report/run-report.js';
import { readRun } from '../report/runs.js';
import { runsCsv, runsPage } from '../report/runs-page.js';
import { type Check, checkLine } from '../terminal/checks.js';
import type { TrainConfig } from '../train/config.js';
import { loadConfig } from '../train/config-file.js';
import { checkIdentity, isOfOneRun, type RunIdentity, settingsOf } from '../train/identity.js';
import { runTraining } from '../train/run.js';
import { hasEnded } from '../train/run-folder.js';
import { withDType } from '../train/run-policy.js';
import { pooledSection, poolFolds } from './pooled-folds.js';
import { experimentFolder, likeStage, type Method, placeSettings, type Stage, setting, stageConfig } from './stages.js';
import { type TestedRun, testedPairs, testedPairsCsv } from './tested-pairs.js';

/** The countries of the paper's experiment, as the data set names them. */
export const paperCountries = ['Nigeria', 'Egypt', 'India (Current national sample)', 'China', 'Japan'] as const;

/**
 * The settings of the authors' scripts that differ from the paper's text, or from what it must have meant (which the files have), as
 * far as a configuration can express them. docs/reproducing-the-paper.md lists what it cannot.
 */
const authorsSettings: Partial<Record<Stage, readonly string[]>> = {
  sft: ['optimizer.warmupSteps=150'],
  ipo: ['optimizer.learningRate=2e-5'],
  'gr-ipo': ['objective.scaling=paper', 'objective.step=5e-7'],
};

export interface OpinionExperiment {
  /** Default: that of the configurations. */
  model?: string;
  /** CSV in the layout of Anthropic's llm_global_opinions, or the hub's id of it. */
  file: string;
  /** Countries, or all of the file as world regions. */
  groups: readonly string[] | 'regions';
  seeds: readonly number[];
  /** Compared with each other; each starts at the SFT model of its seed and fold. */
  methods: readonly Method[];
  /** Folds of questions, each of which is tested once a seed; default: one split a seed, the paper's. */
  folds?: number;
  /** Folder of the configurations; default: the paper's. */
  configurations?: string;
  /** The settings of the authors' scripts that a configuration can say. */
  authors?: boolean;
  /** Where all models are computed; default: as the configurations say. */
  device?: string;
  /** `key=value` settings of all configurations. */
  overrides?: readonly string[];
  folder: string;
}

export interface OpinionOutcome {
  report: string;
  checks: Check[];
  /** Run folders of the methods over all seeds and folds. */
  runs: string[];
}

/** One split of the survey, with its pairs, its SFT model and the runs that start from it. */
interface Part {
  /** Of the split and the losing answers. */
  seed: number;
  fold?: Fold;
  /** Of the adapter that SFT starts with, and the order of batches. */
  runSeed: number;
  folder: string;
}

/**
 * Runs the experiment in `folder`: for each seed pairs in seed-S/data/, then seed-S/sft/, ipo/ and gr-ipo/, each as `group-robust train`
 * would, then report.html and runs.csv; with folds the same in each seed-S/fold-F/, and the tests of all folds pair by pair as tested.csv and together as pooled.json. A
 * seed redraws all that is random: the split, the losing answers, the adapter that SFT starts with, and the order of batches. SFT is part
 * of it, since a model trained on another split would have seen test questions of this one. Finished runs are kept and interrupted ones continued; more seeds and methods may be added later. The report is renewed after each split, so that it shows what is done.
 *
 * @throws InputError where the folder holds an experiment of other settings
 * @throws InterruptedError after SIGINT or SIGTERM, with the current step saved
 */
export async function opinionExperiment(
  experiment: OpinionExperiment,
  ui: { quiet: boolean; log(text: string): void },
): Promise<OpinionOutcome> {
  const { methods, folds } = experiment;
  const plan = await prepare(experiment, ui);
  const model = present(plan[0]?.runs[0]).config.model;
  let outcome: OpinionOutcome | undefined;
  const done: TestedRun[] = [];
  for (const [i, { part, runs }] of plan.entries()) {
    for (const [j, { config }] of runs.entries()) {
      const before = hasEnded(config.output, config);
      ui.log(
        `[${i * runs.length + j + 1}/${plan.length * runs.length}] ${config.output}${before ? ': already done' : ''}`,
      );
      if (!before) await runTraining(config, ui, { resume: true, again: 'the same command', report: writeRunReport });
    }
    const compared = runs.slice(1).map(({ config }) => config.output);
    done.push(...compared.map((run, m) => ({ run, method: present(methods[m]), data: dataOf(part), seed: part.seed })));
    const last = i === plan.length - 1;
    if (last || folds !== undefined) outcome = await report(experiment, model, done);
  }
  const { checks, ...rest } = present(outcome);
  for (const check of checks) ui.log(checkLine(check));
  ui.log(`report: ${rest.report}`);
  return { checks, ...rest };
}

/**
 * The experiment as commands for a queue, word by word: of each seed, or fold of one, those of its runs that are not done, each of which needs
 * the ones before it. Writes the pairs; {@link opinionExperiment} then finds the runs done and reports them.
 *
 * @throws InputError where the folder holds an experiment of other settings
 */
export async function opinionCommands(
  experiment: OpinionExperiment,
  ui: { quiet: boolean; log(text: string): void },
): Promise<string[][][]> {
  const plan = await prepare(experiment, ui);
  return plan
    .map(({ runs }) =>
      runs
        .filter(({ config }) => !hasEnded(config.output, config))
        .map(({ file, settings }) => [
          'train',
          file,
          ...settings.flatMap((one) => ['--set', one]),
          '--resume',
          '--quiet',
        ]),
    )
    .filter((commands) => commands.length > 0);
}

/** Writes the pairs that are not there yet. @returns the runs of each split: SFT, then the methods */
async function prepare(
  experiment: OpinionExperiment,
  ui: { quiet: boolean; log(text: string): void },
): Promise<{ part: Part; runs: StageRun[] }[]> {
  const { folder, file, methods } = experiment;
  const parts = partsOf(experiment);
  const stages: Stage[] = ['sft', ...methods];
  const record = join(folder, 'experiment.json');
  const saved = existsSync(record) ? (readJson(record) as RunIdentity) : {};
  const plan = parts.map((part) => ({
    part,
    runs: stages.map((stage) => stageRun(experiment, stage, part, saved)),
  }));
  const configs = present(plan[0]).runs.map(({ config }) => config);
  const identity = identityOf(experiment, stages, configs);
  checkSame(saved, identity, folder);

  const lacking = parts.filter((part) => !existsSync(dataOf(part)));
  const survey = lacking.length > 0 ? await readSurvey((await localCsv(file, { quiet: ui.quiet })).path) : undefined;
  const groups = survey && (experiment.groups === 'regions' ? worldRegions(survey) : experiment.groups);
  const made =
    survey && groups
      ? lacking.map((part) => ({
          folder: dataOf(part),
          pairs: opinionPairs(survey, { groups, seed: part.seed, fold: part.fold }),
        }))
      : [];
  for (const { pairs } of made) checkTrained(pairs, folder);
  // Not before the file and the groups are known to be right: a mistake in them must not block the next attempt.
  writeFileWhole(record, `${JSON.stringify({ ...saved, ...identity }, null, 2)}\n`);
  for (const { folder, pairs } of made)
    for (const warning of pairs.summary.warnings) ui.log(`warning: ${folder}: ${warning}`);
  for (const { folder, pairs } of made) await writeFolderWhole(folder, (partial) => writeOpinionPairs(partial, pairs));
  return plan;
}

/**
 * A group that is to be tested has to be trained on: its run would stop, which may be hours from now.
 * @throws InputError naming the group
 */
function checkTrained({ summary }: OpinionPairs, folder: string): void {
  for (const [name, { pairs }] of Object.entries(summary.groups))
    if (pairs.train === 0 || pairs.validation === 0)
      throw new InputError(
        `"${name}" has ${pairs.train} training and ${pairs.validation} validation pairs in ${summary.fold ? `fold ${summary.fold.number} of ` : ''}seed ${summary.seed}`,
        { at: { file: folder, field: '--groups' }, fix: 'leave the group out, or take other --folds' },
      );
}

function partsOf({ folder, seeds, folds }: OpinionExperiment): Part[] {
  return seeds.flatMap((seed): Part[] => {
    const ofSeed = join(folder, `seed-${seed}`);
    if (folds === undefined) return [{ seed, runSeed: seed, folder: ofSeed }];
    return Array.from({ length: folds }, (_, i) => ({
      seed,
      fold: { number: i + 1, of: folds },
      runSeed: 1000 * seed + i + 1,
      folder: join(ofSeed, `fold-${i + 1}`),
    }));
  });
}

function dataOf({ folder }: Part): string {
  return join(folder, 'data');
}

/** Writes report.html, runs.csv and, with folds, tested.csv and pooled.json, of what is done. */
async function report(
  experiment: OpinionExperiment,
  model: string | undefined,
  done: readonly TestedRun[],
): Promise<OpinionOutcome> {
  const { folder, folds, methods } = experiment;
  const runs = await Promise.all(done.map(({ run }) => readRun(run)));
  const page = runsPage(runs);
  // A seed whose folds are not all done has tested other questions than the others.
  const whole = done.filter(
    ({ seed }) => done.filter((one) => one.seed === seed).length === (folds ?? 0) * methods.length,
  );
  const tested = await testedPairs(whole);
  const pooled = tested.length === 0 ? undefined : poolFolds(tested);
  const checks =
    folds !== undefined ? (pooled?.checks ?? []) : [...robustChecks(runs, 'loss'), ...robustChecks(runs, 'accuracy')];
  const [ofRuns, ...others] = page.sections;
  // The claims are judged over whole seeds; runs of single folds are not independent of each other.
  const sections =
    folds !== undefined
      ? [...(pooled ? [pooledSection(pooled)] : []), { ...present(ofRuns), checks: [] }, ...others]
      : page.sections.map((section) => ({ ...section, checks }));
  const reportFile = join(folder, 'report.html');
  const names = methods.map(methodTitle).join(', ');
  writeFileWhole(
    reportFile,
    await renderPage({
      ...page,
      sections,
      title: `GlobalOpinionQA: ${names}`,
      summary: `The paper’s experiment on survey answers with ${model}, ${settingsInWords(experiment)}. Each ${folds ? 'fold of a seed' : 'seed'} has a split, losing answers and an SFT model of its own, from which all methods start, and on which they see the same batches.`,
    }),
  );
  writeFileWhole(join(folder, 'runs.csv'), runsCsv(runs));
  if (pooled) writeFileWhole(join(folder, 'tested.csv'), testedPairsCsv(tested));
  if (pooled) writeFileWhole(join(folder, 'pooled.json'), `${JSON.stringify(pooled, null, 2)}\n`);
  return { report: reportFile, checks, runs: done.map(({ run }) => run) };
}

/** One run, as `group-robust train FILE --set …` makes it. */
interface StageRun {
  file: string;
  settings: string[];
  config: TrainConfig;
}

/** @param saved what the experiment was begun with: on another device it goes on with the same types of numbers */
function stageRun(
  { model, authors, device, overrides = [], configurations = experimentFolder('global-opinions') }: OpinionExperiment,
  stage: Stage,
  part: Part,
  saved: RunIdentity,
): StageRun {
  const own = stageConfig(configurations, stage);
  const at = (name: string) => join(part.folder, name);
  const settings = [
    ...own.settings,
    ...(authors ? (authorsSettings[likeStage(stage)] ?? []) : []),
    ...overrides,
    ...(model === undefined ? [] : [setting('model', model)]),
    ...(device === undefined ? [] : [setting('device', device)]),
    ...placeSettings(stage, { seed: part.runSeed, output: at(stage), data: dataOf(part), sft: at('sft') }),
  ];
  const given = loadConfig(own.file, settings);
  const begun = (saved[`${stage}: dtype`] ?? saved['sft: dtype']) as DType | undefined;
  const config = withDType(given, resolveDevice(given.device), begun);
  if (given.dtype === undefined) settings.push(setting('dtype', config.dtype));
  return { file: own.file, settings, config };
}

function settingsInWords({ authors, configurations, overrides = [] }: OpinionExperiment): string {
  const base = configurations
    ? `with the settings of ${configurations}`
    : authors
      ? 'warm-up, IPO’s rate and the scale of GR-IPO’s losses as in the authors’ scripts, all else as the paper says'
      : 'with the paper’s settings';
  return overrides.length > 0 ? `${base}, except for ${overrides.join(', ')}` : base;
}

/** The survey, the groups, the folds, and of each stage the settings that decide its numbers. */
function identityOf(
  { file, groups, folds }: OpinionExperiment,
  stages: readonly Stage[],
  configs: readonly TrainConfig[],
): RunIdentity {
  const identity: RunIdentity = { file, groups, ...(folds !== undefined && { folds }) };
  for (const [i, stage] of stages.entries())
    for (const [key, value] of settingsOf(present(configs[i])))
      if (!isOfOneRun(key)) identity[`${stage}: ${key}`] = value;
  return identity;
}

/**
 * Compares the experiment with the one that its folder was made for; until a run has begun, only their pairs. Methods that only one of
 * the two has are no difference.
 * @throws InputError naming what differs
 */
function checkSame(saved: RunIdentity, now: RunIdentity, folder: string): void {
  if (Object.keys(saved).length === 0) return;
  const begun = readdirSync(folder, { recursive: true }).some((name) => basename(String(name)) === 'sft');
  const stageOf = (key: string) => /^(\S+): /.exec(key)?.[1];
  const stagesOf = (identity: RunIdentity) => new Set(Object.keys(identity).map(stageOf));
  const inBoth = [...stagesOf(saved)].filter((stage) => stagesOf(now).has(stage));
  const checked = (identity: RunIdentity) =>
    Object.fromEntries(
      Object.entries(identity).filter(([key]) => {
        const stage = stageOf(key);
        return stage === undefined || (begun && inBoth.includes(stage));
      }),
    );
  checkIdentity(checked(saved), checked(now), folder);
}
