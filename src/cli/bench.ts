import type { Command } from 'commander';
import { defineAction, parseNumber } from './command.js';

/** `group-robust bench`: programs that first check their result, then time it. */
export function registerBench(program: Command): void {
  const bench = program.command('bench').description('measure speed, after checking the result');
  defineAction<{ seconds: string }>(
    bench
      .command('bandit')
      .description('full-batch and per-sample updates a second of the simulator, against plain loops')
      .option('--seconds <s>', 'time for each measurement', '1'),
    async ({ seconds }, output) => {
      const { benchmarkBandit } = await import('../bench/bandit.js');
      const result = await benchmarkBandit(parseNumber('--seconds', seconds, { min: 0.01, max: 600 }));
      const rate = (value: number) => Math.round(value).toLocaleString('en-US');
      const { cpu, cores, node, load } = result.machine;
      output.log(`${cpu}, one of ${cores} cores, Node ${node}, load ${load.toFixed(1)}`);
      output.log('checked: both loops agree with plain ones to 1e-9');
      output.log(
        `full batch, 300 pairs, d = 4: ${rate(result.full_batch_iterations_per_second)} iterations/s, ${result.full_batch_ratio.toFixed(1)} times the plain loop`,
      );
      output.log(
        `per sample: ${rate(result.per_sample_steps_per_second)} steps/s, ${result.per_sample_ratio.toFixed(1)} times the plain loop`,
      );
      output.log(`two workers: ${result.two_workers_ratio.toFixed(2)} times as fast as one`);
      return result;
    },
  );
}
