/**
 * Judges published or own tests of run.ts: pools the pairs of tested.csv files (of several seeds, say) and prints the tables and claims of
 * its report as Markdown, or all numbers with --json.
 *
 *   npx tsx experiments/global-opinions/pool.ts runs/global-opinions/tested.csv
 *
 * Exits 1 where a claim fails.
 */
import { Argument, Command } from '@commander-js/extra-typings';
import { defineAction, runProgram } from '../../src/cli/command.js';
import { sectionMarkdown } from '../../src/report/markdown.js';
import { pooledSection, poolFolds } from '../../src/reproduce/pooled-folds.js';
import { readTestedPairs } from '../../src/reproduce/tested-pairs.js';
import { failed } from '../../src/terminal/checks.js';

const program = new Command('pool.ts')
  .description('pools tested pairs of run.ts over folds and seeds, and judges the claims')
  .addArgument(new Argument('<csv...>', 'tested.csv of run.ts'));
defineAction(program, async (_, output, files) => {
  const pairs = [];
  for (const file of files) pairs.push(...(await readTestedPairs(file)));
  const pooled = poolFolds(pairs);
  output.log(sectionMarkdown(pooledSection(pooled)));
  if (failed(pooled.checks)) process.exitCode = 1;
  return pooled;
});
await runProgram(program);
