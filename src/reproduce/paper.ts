import { join } from 'node:path';
import { comparisonTable } from '../bandit/comparison.js';
import type { BanditFigure } from '../bandit/figure.js';
import { banditFigures, runFigures } from '../bandit/paper-figures.js';
import { banditReport } from '../bandit/report.js';
import { writeFileWhole, writeFolderWhole } from '../files/write.js';
import type { ParallelOptions } from '../processes/parallel.js';
import { renderPage } from '../report/html.js';
import { counted } from '../terminal/format.js';
import { progress } from '../terminal/progress.js';
import { figureFolder, figureSection, writeFigure } from './figure-files.js';
import { machine, type Reproduction } from './reproduce.js';

/**
 * Every synthetic figure of the paper: a folder each with figures (SVG) and numbers (CSV), one page with all of them, and
 * `results.json`. The folder appears when all of it is there. Nothing of it but `seconds` depends on the number of workers.
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

  const sections = outcomes.map(figureSection);
  const checks = sections.flatMap((section) => section.checks ?? []);
  const write = async (partial: string) => {
    for (const outcome of outcomes) await writeFigure(outcome, join(partial, figureFolder(outcome.figure.number)));
    writeFileWhole(
      join(partial, 'report.html'),
      await renderPage({
        title: 'The synthetic figures of the paper, reproduced',
        summary: `Group Robust Preference Optimization (Ramesh et al., 2024), Figures 2 and 4 to 12: ${counted(seeds.length, 'seed')}, made by group-robust reproduce --paper.`,
        sections,
        environment: machine(),
        config: [],
      }),
    );
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
