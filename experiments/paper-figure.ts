/**
 * One synthetic figure of the paper (2, 4 to 12) over its 20 seeds: values beside expected ones, the paper's claims judged by ours, curves
 * and numbers written to a folder. `group-robust reproduce --paper` does all of them.
 *
 *   npx tsx experiments/paper-figure.ts 2
 *
 * Expected (src/bandit/expected.ts): printed beside what comes out. Each value must agree within 3·√2 standard errors, and the claims of
 * the paper's main text must not fail. Exits 1 otherwise. docs/reproducing-the-paper.md has the claims of all figures.
 */
import { join } from 'node:path';
import { Argument, Command } from '@commander-js/extra-typings';
import { comparisonTable } from '../src/bandit/comparison.js';
import { paperSeeds } from '../src/bandit/expected.js';
import { banditFigures, figuresNumbered } from '../src/bandit/paper-figures.js';
import { runFigures } from '../src/bandit/run-figures.js';
import { defineAction, runProgram } from '../src/cli/command.js';
import { addOut, checkOut } from '../src/cli/out.js';
import { writeFolderWhole } from '../src/files/write.js';
import { figureFolder, figureNotes, figureSection, writeFigure } from '../src/reproduce/figure-files.js';
import { checkLine, failed } from '../src/terminal/checks.js';
import { progress } from '../src/terminal/progress.js';

const program = new Command('paper-figure.ts')
  .description('one synthetic figure of the paper, over its seeds')
  .addArgument(new Argument('<number>', 'of the figure').choices(banditFigures.map(({ number }) => String(number))))
  .option('--quiet', 'no progress');
const folder = 'folder for figures (SVG) and numbers (CSV) (default: runs/figure-NUMBER)';
defineAction(addOut(program, '--out <dir>', folder), async ({ quiet, ...flags }, output, number) => {
  const [figure] = figuresNumbered(Number(number));
  const out = checkOut(flags, { byDefault: join('runs', figureFolder(figure.number)), folder: /\.(svg|csv)$/ });
  const bar = progress(`figure ${figure.number}`, paperSeeds.length, quiet);
  const [outcome] = await runFigures([figure], paperSeeds, { onDone: (done) => bar.update(done) }).finally(() =>
    bar.stop(),
  );
  const { rows } = outcome;
  const { checks = [] } = figureSection(outcome);
  output.log([figure.title, ...figureNotes(outcome), '', comparisonTable(rows), ''].join('\n'));
  for (const check of checks) output.log(checkLine(check));
  await writeFolderWhole(out.path, (partial) => writeFigure(outcome, partial), out);
  output.log(`\nwritten to ${out.path}`);
  if (failed(checks)) process.exitCode = 1;
  return { figure: figure.number, title: figure.title, checks, comparison: rows, out: out.path };
});
await runProgram(program);
