import { join } from 'node:path';
import { Command } from '@commander-js/extra-typings';
import { comparisonTable } from '../bandit/comparison.js';
import { paperSeeds } from '../bandit/expected.js';
import { figuresNumbered, runFigures } from '../bandit/paper-figures.js';
import { present } from '../errors.js';
import { writeFolderWhole } from '../files/write.js';
import { checkLine, failed } from '../report/checks.js';
import { figureFolder, figureNotes, figureSection, writeFigure } from '../reproduce/figure-files.js';
import { progress } from '../terminal/progress.js';
import { defineAction, runProgram } from './command.js';
import { addOut, checkOut } from './out.js';

/**
 * What a file of `experiments/` runs: one figure over the paper's seeds, its comparison printed, its curves and numbers
 * written to a folder. Sets exit code 1 where an expected value is missed.
 */
export async function showFigure(number: number): Promise<void> {
  const name = figureFolder(number);
  const program = new Command(`${name}.ts`)
    .description(`Figure ${number} of the paper, over its seeds`)
    .option('--quiet', 'no progress');
  const out = `folder for figures (SVG) and numbers (CSV) (default: ${join('runs', name)})`;
  defineAction(addOut(program, '--out <dir>', out), async ({ quiet, ...flags }, output) => {
    const out = checkOut(flags, { byDefault: join('runs', name), folder: /\.(svg|csv)$/ });
    const bar = progress(`figure ${number}`, paperSeeds.length, quiet);
    const outcomes = await runFigures(figuresNumbered(number), paperSeeds, {
      onDone: (done) => bar.update(done),
    }).finally(() => bar.stop());
    const outcome = present(outcomes[0]);
    const { figure, rows } = outcome;
    const { checks = [] } = figureSection(outcome);
    output.log([figure.title, ...figureNotes(outcome), '', comparisonTable(rows), ''].join('\n'));
    for (const check of checks) output.log(checkLine(check));
    await writeFolderWhole(out.path, (partial) => writeFigure(outcome, partial), out);
    output.log(`\nwritten to ${out.path}`);
    if (failed(checks)) process.exitCode = 1;
    return { figure: number, title: figure.title, checks, comparison: rows, out: out.path };
  });
  await runProgram(program);
}
