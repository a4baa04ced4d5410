import { join } from 'node:path';
import { Command } from 'commander';
import { comparisonTable } from '../bandit/comparison.js';
import { paperSeeds } from '../bandit/expected.js';
import { figuresNumbered, runFigures } from '../bandit/figures.js';
import { refuseExisting, writeFolderWhole } from '../files.js';
import { progress } from '../progress.js';
import { checkLine, failed } from '../report/checks.js';
import { figureFolder, figureNotes, figureSection, writeFigure } from '../reproduce/figures.js';
import { defineAction, runProgram } from './command.js';

/**
 * What a file of `experiments/` runs: one figure over the paper's seeds, its comparison printed, its curves and numbers
 * written to a folder. Sets exit code 1 where an expected value is missed.
 */
export async function showFigure(number: number): Promise<void> {
  const name = figureFolder(number);
  const program = new Command(`${name}.ts`)
    .description(`Figure ${number} of the paper, over its seeds`)
    .argument('[folder]', 'new folder for figures (SVG) and numbers (CSV)', join('runs', name))
    .option('--quiet', 'no progress');
  defineAction<{ quiet?: boolean }>(program, async ({ quiet }, output, folder) => {
    refuseExisting(folder);
    const bar = progress(`figure ${number}`, paperSeeds.length, quiet);
    const [outcome] = await runFigures(figuresNumbered(number), paperSeeds, {
      onDone: (done) => bar.update(done),
    }).finally(() => bar.stop());
    const { figure, rows } = outcome;
    const { checks = [] } = figureSection(outcome);
    output.log([figure.title, ...figureNotes(outcome), '', comparisonTable(rows), ''].join('\n'));
    for (const check of checks) output.log(checkLine(check));
    await writeFolderWhole(folder, (partial) => writeFigure(outcome, partial));
    output.log(`\nwritten to ${folder}`);
    if (failed(checks)) process.exitCode = 1;
    return { figure: number, title: figure.title, checks, comparison: rows, out: folder };
  });
  await runProgram(program);
}
