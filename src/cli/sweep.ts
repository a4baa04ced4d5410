import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { type Command, Option } from '@commander-js/extra-typings';
import type { SweepConfig } from '../sweep/config.js';
import type { SweepResult } from '../sweep/page.js';
import type { Failure } from '../sweep/run-cells.js';
import { counted } from '../terminal/format.js';
import { writeResult } from '../terminal/output.js';
import { programCommand } from '../terminal/shell.js';
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
    const { refuseSeveral } = await import('../distributed/place.js');
    refuseSeveral('sweep');
    const { loadSweep } = await import('../sweep/config.js');
    const sweep = loadSweep(file);
    const { log } = output;
    const failed: Failure[] = [];
    const plan = sweep.base === undefined ? await simulations(sweep) : await trainings(sweep, sweep.base, failed);
    if (list) {
      const commands = plan.left();
      if (!output.json) writeResult(commands.map((words) => `${programCommand(words)}\n`).join(''));
      return { runs: plan.runs, done: plan.runs - commands.length, commands };
    }
    const { sweepFiles } = await import('../sweep/collect.js');
    const { settingText } = await import('../sweep/page.js');
    const { checkLine } = await import('../terminal/checks.js');
    const { methodTitle } = await import('../report/palette.js');
    if (!collectOnly) await plan.run({ jobs, quiet, log });
    // What has failed is told though there may be nothing to report.
    if (failed.length > 0) {
      process.exitCode = 1;
      log(`${counted(failed.length, 'run')} of ${plan.runs} failed, as said above; the same command tries them again`);
    }
    const { chosen, candidates, comparison } = await plan.collect((text) => log(`warning: ${text}`));
    for (const { method, setting } of chosen)
      log(`${methodTitle(method)}, chosen by validation: ${settingText(setting)}`);
    for (const check of comparison.checks) log(checkLine(check));
    const done = candidates.reduce((sum, { runs }) => sum + runs.length, 0);
    const report = join(sweep.output, sweepFiles.report);
    log(`${report}: ${done} of ${counted(plan.runs, 'run')}`);
    return {
      report,
      runs: plan.runs,
      done,
      failed,
      chosen: chosen.map(({ method, setting, worst, mean, runs }) => ({
        method,
        setting: Object.fromEntries(setting),
        validation: { worst, mean },
        runs: runs.map(({ folder }) => folder),
      })),
      comparison,
    };
  });
}

/** What is done with the runs of a sweep, whichever kind they are of. */
interface Plan {
  runs: number;
  /** The commands of those that are not done, word by word. */
  left(): string[][];
  run(options: { jobs: number; quiet: boolean; log(text: string): void }): Promise<void>;
  collect(warn: (text: string) => void): Promise<SweepResult>;
}

/** @param failed gets the runs that fail */
async function trainings(sweep: SweepConfig, base: string, failed: Failure[]): Promise<Plan> {
  const { cellsOf, isDone } = await import('../sweep/cells.js');
  const cells = cellsOf(sweep);
  return {
    runs: cells.length,
    left: () =>
      cells
        .filter((cell) => !isDone(cell))
        .map(({ overrides }) => [
          'train',
          base,
          ...overrides.flatMap((override) => ['--set', override]),
          '--resume',
          '--quiet',
        ]),
    async run(options) {
      if (sweep.cluster !== undefined) {
        const { checkClusters } = await import('../sweep/comparison.js');
        await checkClusters(cells, sweep.cluster);
      }
      const { runCells } = await import('../sweep/run-cells.js');
      failed.push(...(await runCells(cells, { base, file: sweep.file, ...options })));
    },
    async collect(warn) {
      const { collect } = await import('../sweep/collect.js');
      return collect(sweep, cells, warn);
    },
  };
}

async function simulations(sweep: SweepConfig): Promise<Plan> {
  const bandit = await import('../sweep/bandit.js');
  const cells = bandit.banditCells(sweep);
  return {
    runs: cells.length,
    left: () => cells.filter((cell) => !bandit.isBanditDone(cell)).map(bandit.banditCommand),
    run: (options) => bandit.runBanditCells(cells, options),
    collect: (warn) => bandit.collectBandit(sweep, cells, warn),
  };
}
