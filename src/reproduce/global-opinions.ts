import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { opinionPairs, readSurvey, writeOpinionPairs } from '../data/surveys/global-opinions.js';
import { present } from '../errors.js';
import { readJson } from '../files/read.js';
import { writeFileWhole, writeFolderWhole } from '../files/write.js';
import { localCsv } from '../hub/local.js';
import { renderPage } from '../report/html.js';
import { writeRunReport } from '../report/run-report.js';
import { readRun } from '../report/runs.js';
import { runsCsv, runsPage } from '../report/runs-page.js';
import { robustChecks } from '../report/sections/runs.js';
import { type Check, checkLine } from '../terminal/checks.js';
import { loadConfig, type TrainConfig } from '../train/config.js';
import { checkIdentity, type RunIdentity, settingsOf } from '../train/identity.js';
import { runTraining } from '../train/run.js';
import { configFile, placeSettings, type Stage, setting, stages } from './stages.js';

/** The countries of the paper's experiment, as the data set names them. */
export const paperCountries = ['Nigeria', 'Egypt', 'India (Current national sample)', 'China', 'Japan'] as const;

/**
 * The settings of the authors' scripts that differ from the paper's text, or from what it must have meant (which the files have), as
 * far as a configuration can express them. docs/reproducing-the-paper.md lists what it cannot.
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
 * Runs the experiment in `folder`: for each seed pairs in seed-S/data/, then seed-S/sft/, ipo/ and gr-ipo/, each as `group-robust train`
 * would, then report.html and runs.csv. A seed redraws all that is random: the split, the losing answers, the adapter that SFT starts
 * with, and the order of batches. SFT is part of it, since a model trained on another split would have seen test questions of this
 * one. Finished runs are kept and interrupted ones continued; more seeds may be added later.
 *
 * @throws InputError where the folder holds an experiment of other settings
 * @throws InterruptedError after SIGINT or SIGTERM, with the current step saved
 */
export async function opinionExperiment(
  experiment: OpinionExperiment,
  ui: { quiet: boolean; log(text: string): void },
): Promise<OpinionOutcome> {
  const { folder, seeds, groups, file } = experiment;
  const at = (seed: number, name: string) => join(folder, `seed-${seed}`, name);
  const plan = seeds.flatMap((seed) =>
    stages.map((stage) => {
      const place = { seed, output: at(seed, stage), data: at(seed, 'data'), sft: at(seed, 'sft') };
      return { stage, config: configOf(experiment, stage, place) };
    }),
  );
  const identity = identityOf(experiment, plan.slice(0, stages.length));
  const record = join(folder, 'experiment.json');
  if (existsSync(record)) checkSame(readJson(record) as RunIdentity, identity, folder);

  const lacking = seeds.filter((seed) => !existsSync(at(seed, 'data')));
  const survey = lacking.length > 0 ? await readSurvey((await localCsv(file, { quiet: ui.quiet })).path) : undefined;
  const made = survey ? lacking.map((seed) => ({ seed, pairs: opinionPairs(survey, { groups, seed }) })) : [];
  // Not before the file and the groups are known to be right: a mistake in them must not block the next attempt.
  writeFileWhole(record, `${JSON.stringify(identity, null, 2)}\n`);
  for (const { seed, pairs } of made)
    await writeFolderWhole(at(seed, 'data'), (partial) => writeOpinionPairs(partial, pairs));
  for (const [i, { config }] of plan.entries()) {
    // The report is the last thing that a run writes.
    const done = existsSync(join(config.output, 'report.html'));
    ui.log(`[${i + 1}/${plan.length}] ${config.output}${done ? ': already done' : ''}`);
    if (!done) await runTraining(config, ui, { resume: true, again: 'the same command', report: writeRunReport });
  }

  const folders = plan.flatMap(({ stage, config }) => (stage === 'sft' ? [] : [config.output]));
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
      summary: `The paper’s experiment on survey answers with ${present(plan[0]).config.model}, ${settingsInWords(experiment)}. Each seed has a split, losing answers and an SFT model of its own, from which both methods start, and on which they see the same batches.`,
    }),
  );
  writeFileWhole(join(folder, 'runs.csv'), runsCsv(runs));
  ui.log(`report: ${report}`);
  return { report, checks, runs: folders };
}

function configOf(
  { model, authors, overrides = [] }: OpinionExperiment,
  stage: Stage,
  place: Parameters<typeof placeSettings>[1],
): TrainConfig {
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
function identityOf(
  { file, groups }: OpinionExperiment,
  ofOneSeed: readonly { stage: Stage; config: TrainConfig }[],
): RunIdentity {
  const identity: RunIdentity = { file, groups };
  for (const { stage, config } of ofOneSeed)
    for (const [key, value] of settingsOf(config)) if (!ofOneRun.test(key)) identity[`${stage}: ${key}`] = value;
  return identity;
}

/**
 * Compares the experiment with the one that its folder was made for; until a run has begun, only their pairs.
 * @throws InputError naming what differs
 */
function checkSame(saved: RunIdentity, now: RunIdentity, folder: string): void {
  const begun = readdirSync(folder).some((name) => existsSync(join(folder, name, 'sft')));
  const checked = (identity: RunIdentity) => (begun ? identity : { file: identity.file, groups: identity.groups });
  checkIdentity(checked(saved), checked(now), folder);
}
