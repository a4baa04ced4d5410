/**
 * Nothing lost, nothing leaked, nothing wrong in silence: every attack on the program, in full. Builds it first.
 *
 *   npm run soak                        kills, take-overs, exits and fuzzed inputs: about a day on two cores
 *   npm run soak -- --share 0.01        a hundredth of each, as `npm test` does
 *   npm run soak -- --only exits        one of them; `--only inputs` all readers, `--only 'inputs: CSV'` one
 *   npm run soak -- --seed 2            other random moments
 *
 * Shows how far it is. What fails is told with the command that repeats it alone, and the other attacks go on; exits 1 then.
 */
import { Command } from '@commander-js/extra-typings';
import { countOption, numberOption, runProgram } from '../../src/cli/command.js';
import { InputError } from '../../src/errors.js';
import { duration, progress } from '../../src/terminal/progress.js';
import { exits } from './exits.js';
import { inputs } from './inputs.js';
import { kills } from './kills.js';
import { rankKills } from './rank-kills.js';
import { takeOvers } from './take-overs.js';

const attacks = [kills, rankKills, takeOvers, exits, ...inputs];

const program = new Command('soak')
  .addOption(numberOption('--share <x>', 'part of the full number of each attack', { min: 0 }).default(1))
  .addOption(countOption('--count <n>', 'in place of that, how often each', { min: 0 }))
  .option('--only <name>', 'the attacks whose name begins so', '')
  .addOption(countOption('--seed <n>', 'of random moments', { min: 0 }).default(1))
  .addOption(countOption('--first <n>', 'the first case', { min: 0 }).default(0))
  .action(async ({ share, count, only, seed, first }) => {
    const chosen = attacks.filter(({ name }) => name.startsWith(only));
    if (chosen.length === 0)
      throw new InputError('begins no name of an attack', {
        at: { field: '--only' },
        fix: `use one of ${attacks.map(({ name }) => `"${name}"`).join(', ')}`,
      });
    for (const { name, unit, full, run } of chosen) {
      const times = count ?? Math.ceil(full * share);
      const bar = progress(name, times);
      const began = Date.now();
      const took = () => duration((Date.now() - began) / 1000);
      let done = 0;
      const onDone = (now: number) => {
        done = now;
        bar.update(now);
      };
      try {
        const more = await run(times, { seed, first, onDone });
        bar.stop();
        console.log(`ok    ${name}: ${times} ${unit} in ${took()}${more && ` (${more})`}`);
      } catch (error) {
        bar.stop();
        process.exitCode = 1;
        console.log(`FAILS ${name}: after ${done} ${unit} in ${took()}: ${(error as Error).message}`);
      }
    }
  });
await runProgram(program);
