import { type Command, Option } from '@commander-js/extra-typings';
import { counted } from '../terminal/format.js';
import { collect, defineAction, deviceOption } from './command.js';

/** `group-robust train CONFIG.yaml`: SFT, DPO, IPO, IS-DPO, IS-IPO, GR-DPO and GR-IPO; see src/train/config.ts for the keys. */
export function registerTrain(program: Command): void {
  const command = program
    .command('train')
    .description('train a Gemma with LoRA on grouped preference pairs')
    .argument('<config>', 'YAML configuration')
    .option('--set <key=value>', 'override a key, e.g. objective.beta=0.1; repeatable', collect)
    .addOption(deviceOption('what the configuration says'))
    .addOption(new Option('--print-config', 'print the resolved configuration and stop').conflicts('resume'))
    .option('--resume', 'continue from the newest checkpoint of the run folder; start if there is none')
    .option('--quiet', 'no progress')
    .showHelpAfterError('Set keys of the configuration with --set, e.g. --set output=runs/second.');
  defineAction(command, async ({ set = [], device, printConfig: printOnly, quiet = false, resume }, output, file) => {
    const { loadConfig, printConfig } = await import('../train/config-file.js');
    const { failTogether, together } = await import('../distributed/process-team.js');
    const read = () => loadConfig(file, device === undefined ? set : [...set, `device=${device}`]);
    if (printOnly) {
      const config = read();
      output.log(printConfig(config));
      return config;
    }
    const config = await failTogether(read);
    const { runTraining } = await import('../train/run.js');
    const { followTraining } = await import('../train/follow.js');
    const { groupTable } = await import('./group-table.js');
    const { writeRunReport } = await import('../report/run-report.js');
    return together(config.distributed?.timeout, async (team) => {
      // Only rank 0 has anything to tell.
      if (team && team.rank > 0) return followTraining(config, team).then(() => ({}));
      const options = { resume, report: writeRunReport, team };
      const result = await runTraining(config, { quiet, log: output.log }, options);
      if (result.test) output.log(groupTable('test', result.test));
      output.log(`${result.run}: ${counted(result.steps, 'step')} in ${result.seconds.toFixed(1)} s`);
      return result;
    });
  });
}
