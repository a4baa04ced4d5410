import { join } from 'node:path';
import { comparisonTable } from '../bandit/comparison.js';
import { expectedSource } from '../bandit/expected.js';
import { type BanditFigure, banditFigures } from '../bandit/paper-figures.js';
import { banditReport } from '../bandit/report.js';
import { type FigureOutcome, runFigures } from '../bandit/run-figures.js';
import { writeFileWhole, writeFolderWhole } from '../files/write.js';
import type { ParallelOptions } from '../processes/parallel.js';
import { type Page, renderPage } from '../report/html.js';
import { renderMarkdown } from '../report/markdown.js';
import { counted } from '../terminal/format.js';
import { progress } from '../terminal/progress.js';
import { figureFolder, figureSection, writeFigure } from './figure-files.js';
import { machine, type Reproduction } from './reproduce.js';

/**
 * Every synthetic figure of the paper: a folder each with figures (SVG) and numbers (CSV), one page with all of them, as HTML and
 * as Markdown, and `results.json`. The folder appears once it is complete. Only `seconds` depends on the number of workers.
 */
export async function reproducePaper(
  seeds: readonly number[],
  folder: string,
  log: (text: string) => void,
  {
    figures = banditFigures,
    quiet,
    replace,
    ...options
  }: ParallelOptions & { figures?: readonly BanditFigure[]; quiet?: boolean; replace?: boolean } = {},
): Promise<Reproduction> {
  const started = Date.now();
  log(
    `Every synthetic figure of the paper: ${counted(figures.length, 'experiment')}, ${counted(seeds.length, 'seed')}\n`,
  );
  const bar = progress('figures', figures.length * seeds.length, quiet);
  const outcomes = await runFigures(figures, seeds, { ...options, onDone: (done) => bar.update(done) }).finally(() =>
    bar.stop(),
  );
  for (const { figure, rows } of outcomes)
    log(`Figure ${figure.number}: ${figure.title}\n\n${comparisonTable(rows)}\n`);
  log(expectedSource);

  const page = paperPage(outcomes, seeds);
  const checks = page.sections.flatMap((section) => section.checks ?? []);
  const write = async (partial: string) => {
    for (const outcome of outcomes) await writeFigure(outcome, join(partial, figureFolder(outcome.figure.number)));
    const made = { ...page, environment: { ...page.environment, ...machine() } };
    writeFileWhole(join(partial, 'report.html'), await renderPage(made));
    writeFileWhole(join(partial, 'report.md'), renderMarkdown(made));
    const result = { report: join(folder, 'report.html'), seconds: (Date.now() - started) / 1000, checks };
    const reports = outcomes.map(({ figure, results, rows }) => {
      const arms = figure.arms.map(({ label, settings }) => ({ name: label, settings }));
      return {
        figure: figure.number,
        title: figure.title,
        comparison: rows,
        ...banditReport(figure.setting, arms, results),
      };
    });
    writeFileWhole(join(partial, 'results.json'), `${JSON.stringify({ ...result, figures: reports }, null, 2)}\n`);
    return result;
  };
  return writeFolderWhole(folder, write, { replace });
}

/** All of the outcomes. On the paper's seeds its Markdown is docs/paper-figures.md. */
export function paperPage(outcomes: readonly FigureOutcome[], seeds: readonly number[]): Page {
  return {
    title: 'The synthetic figures of the paper, reproduced',
    summary: `Group Robust Preference Optimization (Ramesh et al., 2024): values over ${counted(seeds.length, 'seed')} beside expected ones, and the paper’s claims on each figure held against our values.`,
    sections: outcomes.map(figureSection),
    environment: { command: 'group-robust reproduce --paper', seeds: seeds.join(', ') },
    config: [],
  };
}
