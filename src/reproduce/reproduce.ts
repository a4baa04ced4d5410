import { rmSync } from 'node:fs';
import { availableParallelism, cpus, totalmem } from 'node:os';
import { join } from 'node:path';
import { comparisonTable } from '../bandit/comparison.js';
import { expectedSource, paperSeeds } from '../bandit/expected.js';
import { figuresNumbered } from '../bandit/paper-figures.js';
import { trainingProblem } from '../bandit/preferences.js';
import { runFigures } from '../bandit/run-figures.js';
import { present } from '../errors.js';
import { writeFileWhole } from '../files/write.js';
import type { Device } from '../policy/device.js';
import { renderPage } from '../report/html.js';
import { readRun } from '../report/runs.js';
import { provenance } from '../report/runs-page.js';
import { banditBars, banditCurves, banditSection, claimChecks } from '../report/sections/bandit.js';
import { convergenceSection } from '../report/sections/convergence.js';
import type { Check } from '../terminal/checks.js';
import { progress } from '../terminal/progress.js';
import { convergenceDefaults, convergenceSteps, measureConvergence } from '../theory/convergence.js';
import { convergenceReport, convergenceText } from '../theory/report.js';
import { surveyNote, surveyRuns, surveySection, surveySeeds } from './survey.js';

/** How much is run. `quick` is for tests: too few seeds to judge by, the same code. */
export interface Scale {
  banditSeeds: readonly number[];
  convergence: { horizons: readonly number[]; runs: number };
  surveySeeds: readonly number[];
  /** `key=value` settings of every survey run. */
  surveyOverrides: string[];
}

export const scales: Record<'standard' | 'quick', Scale> = {
  standard: {
    banditSeeds: paperSeeds,
    convergence: convergenceDefaults,
    // As many as take about a minute on two cores; differences vary by about 8 between seeds, so that ten may leave it unclear.
    surveySeeds,
    surveyOverrides: [],
  },
  quick: {
    banditSeeds: paperSeeds.slice(0, 2),
    convergence: { horizons: [1e4, 1e5, 3e5, 1e6], runs: 4 },
    surveySeeds: surveySeeds.slice(0, 2),
    surveyOverrides: ['epochs=1'],
  },
};

export interface Reproduction {
  report: string;
  seconds: number;
  checks: Check[];
}

/**
 * What `npm start` shows: the paper's main synthetic result, the convergence check, and a Gemma of random weights fine-tuned with IPO
 * and GR-IPO on an invented survey, with an HTML report. Every number comes from a run made now.
 */
export async function reproduce(
  scale: Scale,
  folder: string,
  log: (text: string) => void,
  { quiet = false, replace = false, device = 'cpu' }: { quiet?: boolean; replace?: boolean; device?: Device } = {},
): Promise<Reproduction> {
  const started = Date.now();
  const stage = (n: number, title: string) => log(`\n[${n}/3] ${title}\n`);

  stage(1, `Synthetic bandits: three scenarios, six methods, ${scale.banditSeeds.length} seeds`);
  const bar = progress('bandits', 3 * scale.banditSeeds.length, quiet);
  const outcomes = await runFigures(figuresNumbered(4, 5, 2), scale.banditSeeds, {
    onDone: (done) => bar.update(done),
  }).finally(() => bar.stop());
  const rows = outcomes.flatMap((outcome) => outcome.rows);
  const mainResult = present(outcomes[2]);
  log(`${comparisonTable(rows)}\n\n${expectedSource}`);

  stage(2, 'Convergence: Proposition 4.1 against the exact minimax value');
  const { horizons, runs } = scale.convergence;
  const { algorithm, radius, seed, beta } = convergenceDefaults;
  const convergenceBar = progress('convergence, steps', convergenceSteps({ horizons, runs }), quiet);
  const convergence = await measureConvergence(
    trainingProblem({ features: 'swapped', responses: 'uneven', data: 'imbalanced' }, seed),
    { loss: { loss: 'dpo', beta: beta.dpo }, algorithm, radius, horizons, runs, seed },
    { onSteps: (done) => convergenceBar.update(done) },
  ).finally(() => convergenceBar.stop());
  log(convergenceText(convergenceReport(convergence)));

  if (replace) rmSync(folder, { recursive: true, force: true });
  stage(3, `A random model on an invented survey: SFT, then IPO and GR-IPO from it, ${scale.surveySeeds.length} seeds`);
  log(`${surveyNote(scale.surveySeeds)}\n\ndevice: ${device}\n`);
  const surveyBar = progress('survey', 3 * scale.surveySeeds.length, quiet);
  let done = 0;
  const survey = await surveyRuns(join(folder, 'survey'), scale.surveySeeds, {
    workers: availableParallelism(),
    overrides: [`device=${device}`, ...scale.surveyOverrides],
    onRun: (note) => surveyBar.update(++done, note),
  }).finally(() => surveyBar.stop());
  const trained = await Promise.all(survey.map(readRun));

  const sections = [
    banditSection(rows, {
      seeds: scale.banditSeeds.length,
      text: [expectedSource],
      claims: claimChecks(mainResult),
      figures: [...banditBars(rows), ...banditCurves(mainResult)],
    }),
    convergenceSection(convergence),
    surveySection(trained),
  ];
  const checks = sections.flatMap((section) => section.checks ?? []);
  const report = join(folder, 'report.html');
  const { environment, config } = provenance(trained);
  writeFileWhole(
    report,
    await renderPage({
      title: 'Group robust preference optimisation, reproduced',
      summary:
        'The paper’s main synthetic result, its convergence rate, and as a demonstration of training a small Gemma of random weights on an invented survey. Made by npm start.',
      sections,
      environment: { ...machine(), ...environment },
      config,
    }),
  );
  const result = { report, seconds: (Date.now() - started) / 1000, checks };
  writeFileWhole(
    join(folder, 'results.json'),
    `${JSON.stringify({ ...result, bandit: rows, convergence: convergenceReport(convergence) }, null, 2)}\n`,
  );
  return result;
}

/** For the report's table of where it was made. */
export function machine(): Record<string, string> {
  const [cpu] = cpus();
  return {
    machine: `${cpu?.model.trim() ?? process.arch}, ${availableParallelism()} cores, ${Math.round(totalmem() / 2 ** 30)} GiB`,
  };
}
