import { join } from 'node:path';
import { type Command, Option } from '@commander-js/extra-typings';
import { defineAction, deviceOption } from './command.js';
import { addOut, checkOut } from './out.js';

/** `group-robust reproduce`: what `npm start` runs. Exits 1 when a claim fails. */
export function registerReproduce(program: Command): void {
  const command = program
    .command('reproduce')
    .description('reproduce the main results and write an HTML report')
    .option('--quick', 'the same with few seeds, in under a minute: shows that everything works, proves little')
    .addOption(
      new Option(
        '--paper',
        'instead: every synthetic figure of the paper with its numbers and claims, as SVG and CSV',
      ).conflicts('quick'),
    )
    .addOption(deviceOption('cpu, since the model is tiny').conflicts('paper'))
    .option('--quiet', 'no progress');
  const complete = addOut(command, '--out <dir>', 'folder to make (default: runs/reproduce-TIME)');
  defineAction(complete, async ({ quick, paper, quiet, device: wish = 'cpu', ...flags }, output) => {
    const { refuseSeveral } = await import('../distributed/place.js');
    refuseSeveral('reproduce');
    const { reproduce, scales } = await import('../reproduce/reproduce.js');
    const { reproducePaper } = await import('../reproduce/paper.js');
    const { paperSeeds } = await import('../bandit/expected.js');
    const { checkLine, failed } = await import('../terminal/checks.js');
    const { loadNative } = await import('../native/load.js');
    const { resolveDevice } = await import('../policy/device.js');
    const time = new Date().toISOString().slice(0, 19).replaceAll(':', '-');
    const { path, replace } = checkOut(flags, {
      byDefault: join('runs', `reproduce-${time}`),
      folder: /^(report\.(html|md)|results\.json|survey|figure-\d\d)$/,
    });
    // Better now than after a minute of bandits; the paper's figures do not need it.
    if (!paper) loadNative();
    const device = resolveDevice(wish, '--device');
    const result = paper
      ? await reproducePaper(paperSeeds, path, output.log, { quiet, replace })
      : await reproduce(quick ? scales.quick : scales.standard, path, output.log, { quiet, replace, device });
    output.log('');
    for (const check of result.checks) output.log(checkLine(check));
    output.log(`\nreport: ${result.report} (${result.seconds.toFixed(0)} s)`);
    // Two seeds are too few to judge by, so only the full size may fail.
    if (!quick && failed(result.checks)) process.exitCode = 1;
    return result;
  });
}
