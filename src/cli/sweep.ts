import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { type Command, Option } from '@commander-js/extra-typings';
import { counted } from '../terminal/format.js';
import { writeResult } from '../terminal/output.js';
import { countOption, defineAction } from './command.js';

/** `group-robust sweep SWEEP.yaml`: methods over settings and seeds; see src/sweep/config.ts for the keys. */
export function registerSweep(program: Command): void {
  const command = program
    .command('sweep')
    .description('train methods over settings and seeds, choose by validation, compare on the test split')
    .argument('<sweep>', 'YAML file of the sweep')
    .addOption(
      countOption('--jobs <n>', 'runs at a time, each in a process of its own (default: 1)', {
        min: 1,
        max: 8 * availableParallelism(),
      }),
    )
    .addOption(
      new Option('--list', 'print one command for each run that is not done, for a queue or GNU parallel').conflicts([
        'jobs',
        'collect',
        'quiet',
      ]),
    )
    .addOption(new Option('--collect', 'report what is done, and run nothing').conflicts(['jobs', 'quiet']))
    .option('--quiet', 'no progress');
  defineAction(command, async ({ jobs = 1, list, collect: collectOnly, quiet = false }, output, file) => {
    const { loadSweep } = await import('../sweep/config.js');
    const { cellsOf, isDone } = await import('../sweep/cells.js');
    const sweep = loadSweep(file);
    const cells = cellsOf(sweep);
    if (list) {
      const left = cells.filter((cell) => !isDone(cell));
      const commands = left.map(({ overrides }) => trainCommand(sweep.base, overrides));
      if (!output.json) writeResult(commands.map((line) => `${line}\n`).join(''));
      return { runs: cells.length, done: cells.length - left.length, commands };
    }
    const { collect, sweepFiles } = await import('../sweep/collect.js');
    const { settingText } = await import('../sweep/page.js');
    const { checkLine } = await import('../terminal/checks.js');
    const { methodTitle } = await import('../report/palette.js');
    const { log } = output;
    const failed: { folder: string; problem: string }[] = [];
    if (!collectOnly) {
      const { runCells } = await import('../sweep/run-cells.js');
      failed.push(...(await runCells(cells, { base: sweep.base, file, jobs, quiet, log })));
    }
    // What has failed is told though there may be nothing to report.
    if (failed.length > 0) {
      process.exitCode = 1;
      log(
        `${counted(failed.length, 'run')} of ${cells.length} failed, as said above; the same command tries them again`,
      );
    }
    const { chosen, candidates, comparison } = await collect(sweep, cells, (text) => log(`warning: ${text}`));
    for (const { method, setting } of chosen)
      log(`${methodTitle(method)}, chosen by validation: ${settingText(setting)}`);
    for (const check of comparison.checks) log(checkLine(check));
    const done = candidates.reduce((sum, { runs }) => sum + runs.length, 0);
    const report = join(sweep.output, sweepFiles.report);
    log(`${report}: ${done} of ${counted(cells.length, 'run')}`);
    return {
      report,
      runs: cells.length,
      done,
      failed,
      chosen: chosen.map(({ method, setting, worst, mean, runs }) => ({
        method,
        setting: Object.fromEntries(setting),
        validation: { worst, mean },
        runs: runs.map(({ cell }) => cell.folder),
      })),
      comparison,
    };
  });
}

/** For a shell, which also takes it in a folder of any name. */
function trainCommand(base: string, overrides: readonly string[]): string {
  const words = ['train', base, ...overrides.flatMap((override) => ['--set', override]), '--resume', '--quiet'];
  return `npx group-robust ${words.map(quoted).join(' ')}`;
}

function quoted(word: string): string {
  return /^[\w./:=,+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
