import type { Command } from '@commander-js/extra-typings';
import { defineAction } from './command.js';

/** `group-robust doctor`: what this machine has of what the addon needs, and what to do about the rest. */
export function registerDoctor(program: Command): void {
  defineAction(
    program
      .command('doctor')
      .description('check the platform, the compiler, LibTorch and the addon; exits 1 if something is missing'),
    async (_options, output) => {
      const { diagnose } = await import('../install/doctor.js');
      const report = await diagnose();
      const width = Math.max(...report.checks.map((check) => check.name.length));
      for (const { name, ok, found, fix } of report.checks) {
        output.log(`${ok ? 'ok     ' : 'MISSING'}  ${name.padEnd(width)}  ${found}`);
        if (fix) output.log(`         ${' '.repeat(width)}  -> ${fix}`);
      }
      output.log(report.ok ? 'Everything required is here.' : 'Something required is missing: see the lines with ->.');
      if (!report.ok) process.exitCode = 1;
      return report;
    },
  );
}
