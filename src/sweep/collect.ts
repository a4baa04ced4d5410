import { join } from 'node:path';
import { InputError } from '../errors.js';
import { writeFileWhole, writeFolderWhole } from '../files/write.js';
import { writeFigures } from '../report/figure-files.js';
import { type Page, renderPage } from '../report/html.js';
import { renderLatex } from '../report/latex.js';
import { renderMarkdown } from '../report/markdown.js';
import type { Run } from '../report/runs.js';
import type { Cell } from './cells.js';
import { compareChosen } from './comparison.js';
import type { SweepConfig } from './config.js';
import { comparisonCsv, type SweepResult, sweepCsv, trainingPage, withoutAccuracy } from './page.js';
import { type Candidate, type Validated, validate } from './selection.js';

/** What `collect` writes below the output of a sweep, besides cells/. */
export const sweepFiles = {
  report: 'report.html',
  markdown: 'report.md',
  latex: 'report.tex',
  runs: 'runs.csv',
  comparison: 'comparison.csv',
  figures: 'figures',
} as const;

/**
 * Reads the runs that are done back from their folders, chooses the setting of each method by validation, compares the chosen ones on the test
 * split, and writes the report as a page, Markdown, LaTeX, CSV and SVG.
 * @throws InputError where no method has a setting all of whose seeds are done, with a figure to choose by; or a run is damaged
 */
export async function collect(sweep: SweepConfig, cells: readonly Cell[], warn: Warn): Promise<SweepResult> {
  const { candidates, chosen } = chosenOf(sweep, await validate(sweep, cells));
  warnOfThreads(
    candidates.flatMap(({ runs }) => runs.map(({ run }) => run)),
    warn,
  );
  const result = { sweep, candidates, chosen, comparison: await compareChosen(chosen, sweep.cluster) };
  await writeReport(result, trainingPage(result), warn);
  return result;
}

type Warn = (text: string) => void;

/** Seeds and settings are compared by numbers whose last bits depend on them. */
function warnOfThreads(runs: readonly Run[], warn: Warn): void {
  const numbers = new Set(runs.flatMap(({ record: { threads, resumed } }) => [threads, ...threadsOf(resumed)]));
  if (numbers.size > 1)
    warn(
      `runs were made with different numbers of threads (${[...numbers].join(', ')}), so their last bits may differ ` +
        'for that alone; to make some anew, remove their folders',
    );
}

/** Of the times that a run went on, as run.json has them. */
function threadsOf(resumed: unknown): unknown[] {
  return Array.isArray(resumed) ? resumed.map((time: { threads?: unknown } | null) => time?.threads) : [];
}

/** @throws InputError where none is */
export function chosenOf<V extends Validated>(sweep: SweepConfig, candidates: readonly Candidate<V>[]) {
  const chosen = candidates.filter((candidate) => candidate.chosen);
  const done = candidates.reduce((sum, { runs }) => sum + runs.length, 0);
  const all = candidates.length * sweep.seeds.length;
  if (chosen.length === 0 && done === all)
    throw new InputError(`no method has a setting that can be chosen. ${withoutAccuracy(candidates).join('')}`, {
      at: { file: sweep.output },
      fix: 'train longer or with other settings, or write select: worst/loss where losses of all settings have one unit',
    });
  if (chosen.length === 0)
    throw new InputError(
      `no method has a setting whose ${sweep.seeds.length} seeds are all done: ${done} of ${all} runs are`,
      { at: { file: sweep.output }, fix: `run group-robust sweep ${sweep.file}, or the commands of its --list` },
    );
  return { candidates, chosen };
}

export async function writeReport(result: SweepResult, page: Page, warn: Warn): Promise<void> {
  const at = (name: keyof typeof sweepFiles) => join(result.sweep.output, sweepFiles[name]);
  writeFileWhole(at('report'), await renderPage(page));
  writeFileWhole(at('markdown'), renderMarkdown(page));
  writeFileWhole(at('latex'), renderLatex(page));
  writeFileWhole(at('runs'), sweepCsv(result));
  writeFileWhole(at('comparison'), comparisonCsv(result.comparison));
  const figures = page.sections.flatMap((section) => section.figures ?? []);
  await writeFolderWhole(at('figures'), (folder) => writeFigures(folder, figures, warn), { replace: true });
}
