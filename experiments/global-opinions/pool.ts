/**
 * Judges published or own tests of run.ts: pools the pairs of tested.csv files (of several seeds, say) and prints the tables and claims of
 * its report as Markdown, or all numbers with --json.
 *
 *   npx tsx experiments/global-opinions/pool.ts runs/global-opinions/tested.csv
 *
 * Methods are compared where all have been tested; `--methods` and `--seeds` choose those that have.
 *
 * Exits 1 where a claim fails.
 */
import { Argument, Command } from '@commander-js/extra-typings';
import { defineAction, parsedOption, parseNames, parseSeeds, runProgram } from '../../src/cli/command.js';
import { InputError } from '../../src/errors.js';
import { sectionMarkdown } from '../../src/report/markdown.js';
import { pooledSection, poolFolds } from '../../src/reproduce/pooled-folds.js';
import { methodNames } from '../../src/reproduce/stages.js';
import { readTestedPairs } from '../../src/reproduce/tested-pairs.js';
import { failed } from '../../src/terminal/checks.js';

const program = new Command('pool.ts')
  .description('pools tested pairs of run.ts over folds and seeds, and judges the claims')
  .addArgument(new Argument('<csv...>', 'tested.csv of run.ts'))
  .addOption(
    parsedOption(
      '--methods <names>',
      `only these of ${methodNames.join(', ')} (default: all in the files)`,
      (flag, text) => parseNames(flag, text, methodNames),
    ),
  )
  .addOption(parsedOption('--seeds <seeds>', 'only these, e.g. 1-3 (default: all in the files)', parseSeeds));
defineAction(program, async ({ methods, seeds }, output, files) => {
  const pairs = [];
  for (const file of files) pairs.push(...(await readTestedPairs(file)));
  const asked = pairs.filter(
    ({ method, seed }) => (methods?.includes(method) ?? true) && (seeds?.includes(seed) ?? true),
  );
  for (const [flag, wanted, found] of [
    ['--methods', methods, asked.map(({ method }) => method)],
    ['--seeds', seeds, asked.map(({ seed }) => seed)],
  ] as const) {
    const missing = wanted?.filter((one) => !(found as unknown[]).includes(one)) ?? [];
    if (missing.length > 0)
      throw new InputError(`${missing.join(', ')}: no pair was tested so`, {
        at: { field: flag },
        fix: 'leave it out',
      });
  }
  const pooled = poolFolds(asked);
  output.log(sectionMarkdown(pooledSection(pooled)));
  if (failed(pooled.checks)) process.exitCode = 1;
  return pooled;
});
await runProgram(program);
