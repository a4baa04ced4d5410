import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { opinionPairs, readSurvey, writeOpinionPairs } from '../data/surveys/global-opinions.js';
import { readJson } from '../files/read.js';
import { writeFileWhole, writeFolderWhole } from '../files/write.js';
import { localCsv } from '../hub/local.js';
import { type Check, checkLine } from '../report/checks.js';
import { renderPage } from '../report/html.js';
import { writeRunReport } from '../report/run-report.js';
import { readRun } from '../report/runs.js';
import { runsCsv, runsPage } from '../report/runs-page.js';
import { robustChecks } from '../report/sections/runs.js';
import { loadConfig, type TrainConfig } from '../train/config.js';
import { checkIdentity, type RunIdentity, settingsOf } from '../train/identity.js';
import { runTraining } from '../train/run.js';
import { comparedMethods, configFile, placeSettings, type Stage, setting } from './stages.js';

/** The countries of the paper's experiment, as the data set names them. */
export const paperCountries = ['Nigeria', 'Egypt', 'India (Current national sample)', 'China', 'Japan'] as const;

/** Splits and pairs are the same for all seeds of a run, as the authors' test pairs are. */
const DATA_SEED = 42;
/** The authors trained one SFT model. */
const SFT_SEED = 0;

/**
 * Those settings of the authors' scripts which differ from the paper's text, or from what it must have meant (the files have the
 * latter), and which a configuration can say. docs/reproducing-the-paper.md lists what it cannot.
 */
const authorsSettings: Record<Stage, string[]> = {
  sft: ['optimizer.warmupSteps=150'],
  ipo: ['optimizer.learningRate=2e-5'],
  'gr-ipo': ['objective.scaling=paper', 'objective.step=5e-7'],
};

export interface OpinionExperiment {
  /** Default: that of the configurations, google/gemma-2b. */
  model?: string;
  /** CSV in the layout of Anthropic's llm_global_opinions, or the hub's id of it. */
  file: string;
  groups: string[];
  seeds: readonly number[];
  /** The settings of the authors' scripts that a configuration can say. */
  authors?: boolean;
  /** `key=value` settings of all three configurations. */
  overrides?: string[];
  folder: string;
}

export interface OpinionOutcome {
  report: string;
  checks: Check[];
  /** Run folders of IPO and GR-IPO over all seeds. */
  runs: string[];
}

/**
 * Runs the experiment in `folder`: pairs in data/, then sft/, seed-S/ipo/ and seed-S/gr-ipo/, each as `group-robust train` would,
 * then report.html and runs.csv. What is done already is left, and what was interrupted goes on; more seeds may be added later.
 *
 * @throws InputError where the folder holds an experiment of other settings
 * @throws InterruptedError after SIGINT or SIGTERM, with the current step saved
 */
export async function opinionExperiment(
  experiment: OpinionExperiment,
  ui: { quiet: boolean; log(text: string): void },
): Promise<OpinionOutcome> {
  const { folder, seeds, groups, file } = experiment;
  const plan: TrainConfig[] = [
    configOf(experiment, 'sft', SFT_SEED, join(folder, 'sft')),
    ...seeds.flatMap((seed) =>
      comparedMethods.map((method) => configOf(experiment, method, seed, join(folder, `seed-${seed}`, method))),
    ),
  ];
  const identity = identityOf(experiment, plan);
  const record = join(folder, 'experiment.json');
  if (existsSync(record)) checkSame(readJson(record) as RunIdentity, identity, folder);

  const data = join(folder, 'data');
  const pairs = existsSync(data)
    ? undefined
    : opinionPairs(await readSurvey((await localCsv(file, { quiet: ui.quiet })).path), { groups, seed: DATA_SEED });
  // Not before the file and the groups are known to be right: a mistake in them must not stand in the way of the next try.
  writeFileWhole(record, `${JSON.stringify(identity, null, 2)}\n`);
  if (pairs) await writeFolderWhole(data, (partial) => writeOpinionPairs(partial, pairs));
  for (const [i, config] of plan.entries()) {
    // The report is the last that a run writes.
    const done = existsSync(join(config.output, 'report.html'));
    ui.log(`[${i + 1}/${plan.length}] ${config.output}${done ? ': done before' : ''}`);
    if (!done) await runTraining(config, ui, { resume: true, again: 'the same command', report: writeRunReport });
  }

  const folders = plan.slice(1).map(({ output }) => output);
  const runs = await Promise.all(folders.map(readRun));
  const checks = [...robustChecks(runs, 'loss'), ...robustChecks(runs, 'accuracy')];
  for (const check of checks) ui.log(checkLine(check));
  const page = runsPage(runs);
  const report = join(folder, 'report.html');
  writeFileWhole(
    report,
    await renderPage({
      ...page,
      sections: page.sections.map((section) => ({ ...section, checks })),
      title: 'GlobalOpinionQA: IPO and GR-IPO',
      summary: `The paper’s experiment on survey answers with ${plan[0].model}, ${settingsInWords(experiment)}: both methods start from one SFT model and see the same batches.`,
    }),
  );
  writeFileWhole(join(folder, 'runs.csv'), runsCsv(runs));
  ui.log(`report: ${report}`);
  return { report, checks, runs: folders };
}

function configOf(
  { model, folder, authors, overrides = [] }: OpinionExperiment,
  stage: Stage,
  seed: number,
  output: string,
): TrainConfig {
  const place = { seed, output, data: join(folder, 'data'), sft: join(folder, 'sft') };
  return loadConfig(configFile('global-opinions', stage), [
    ...(authors ? authorsSettings[stage] : []),
    ...overrides,
    ...(model === undefined ? [] : [setting('model', model)]),
    ...placeSettings(stage, place),
  ]);
}

function settingsInWords({ authors, overrides = [] }: OpinionExperiment): string {
  const base = authors
    ? 'warm-up, IPO’s rate and the scale of GR-IPO’s losses as in the authors’ scripts, all else as the paper says'
    : 'with the paper’s settings';
  return overrides.length > 0 ? `${base}, except for ${overrides.join(', ')}` : base;
}

/** What differs between the runs of one experiment. */
const ofOneRun = /^(seed|adapter|data\.(train|validation|test))$/;

/** The survey, the groups, and of each stage the settings that decide its numbers. */
function identityOf({ file, groups }: OpinionExperiment, [sft, ipo, grIpo]: readonly TrainConfig[]): RunIdentity {
  const identity: RunIdentity = { file, groups };
  for (const [stage, config] of Object.entries({ sft, ipo, 'gr-ipo': grIpo }))
    for (const [key, value] of settingsOf(config)) if (!ofOneRun.test(key)) identity[`${stage}: ${key}`] = value;
  return identity;
}

/**
 * Holds the experiment against the one that its folder was made with; until a run has begun, by its pairs only.
 * @throws InputError naming what differs
 */
function checkSame(saved: RunIdentity, now: RunIdentity, folder: string): void {
  const begun = existsSync(join(folder, 'sft'));
  const checked = (identity: RunIdentity) => (begun ? identity : { file: identity.file, groups: identity.groups });
  checkIdentity(checked(saved), checked(now), folder);
}
