/**
 * The paper's experiment on GlobalOpinionQA (§5.2, Figures 3 and 13): for each seed a split, losing answers and SFT, then IPO and GR-IPO
 * from it, scored on the full test split, with a report of the paper's panels. Needs access to google/gemma-2b; run again, it goes on
 * where it was. With a small model, which gemma-3-270m/make_checkpoint.py makes, and folds of questions: docs/results/global-opinions-270m.md.
 * On a CPU that makes 0.25 pairs a second, 30 epochs are 68 hours a run of IPO or GR-IPO, less where the plateau ends it.
 *
 *   npx tsx experiments/global-opinions/run.ts
 *
 * Expected, with 5 seeds: the worst group's test loss of GR-IPO below IPO's (the paper's figure: 1600 to 2000, from 2500), its reward
 * accuracy above (0.68 to 0.78), and α risen for Egypt and Japan. Exits 1 where one of the first two fails.
 */
import { Command, Option } from '@commander-js/extra-typings';
import {
  collect,
  countOption,
  defineAction,
  deviceOption,
  parsedOption,
  parseList,
  parseNames,
  parseSeeds,
  runProgram,
} from '../../src/cli/command.js';
import { InputError } from '../../src/errors.js';
import { opinionCommands, opinionExperiment, paperCountries } from '../../src/reproduce/global-opinions.js';
import { comparedMethods, type Method, methodNames } from '../../src/reproduce/stages.js';
import { failed } from '../../src/terminal/checks.js';
import { writeResult } from '../../src/terminal/output.js';
import { programCommand } from '../../src/terminal/shell.js';

const countries: string[] = [...paperCountries];
const program = new Command('run.ts')
  .description('SFT, then IPO, GR-IPO and others on GlobalOpinionQA, over seeds, with a report; goes on where it was')
  .option('--model <model>', 'checkpoint folder, hub id, or random:tiny (default: that of the configurations)')
  .option('--file <csv>', 'CSV of the survey, or its hub id', 'Anthropic/llm_global_opinions')
  .addOption(
    parsedOption('--groups <names>', 'countries as in the file, separated by commas', parseList).default(
      countries,
      paperCountries.join(','),
    ),
  )
  .addOption(
    new Option('--regions', 'all countries of the file, with world regions as groups, instead of --groups').conflicts(
      'groups',
    ),
  )
  .addOption(
    parsedOption('--methods <names>', `of ${methodNames.join(', ')}`, (flag, text) =>
      parseNames(flag, text, methodNames),
    ).default([...comparedMethods] as Method[], comparedMethods.join(',')),
  )
  .addOption(
    countOption('--folds <n>', 'test every question once a seed, in n folds (default: the split of the paper)', {
      min: 3,
      max: 100,
    }),
  )
  .option('--configurations <dir>', "folder of sft.yaml, ipo.yaml and gr-ipo.yaml (default: the paper's)")
  .addOption(
    parsedOption('--seeds <seeds>', 'of split, losing answers, SFT and batches', parseSeeds).default(
      parseSeeds('--seeds', '0-4'),
      '0-4',
    ),
  )
  .option(
    '--authors',
    "of the authors' scripts: SFT's warm-up of 150 steps, IPO's rate of 2e-5, GR-IPO's sums of losses with a step of 5e-7 on alpha",
  )
  .addOption(deviceOption('what the configurations say'))
  .option('--set <key=value>', 'override a key of all configurations; repeatable', collect)
  .addOption(
    new Option(
      '--list',
      'write the pairs and print one line of commands for each seed or fold with runs that are not done, for a queue or GNU parallel; then run this without --list for the report',
    ).conflicts('quiet'),
  )
  .option('--quiet', 'no progress')
  .option('--out <dir>', 'folder to make, or to go on with', 'runs/global-opinions');
defineAction(program, async ({ set = [], quiet = false, list, out, regions, groups, ...options }, output) => {
  if (regions && options.folds === undefined)
    throw new InputError('is needed with --regions', {
      at: { field: '--folds' },
      fix: 'e.g. --folds 5; random tenths would test a region on questions that it was trained on',
    });
  const experiment = { ...options, groups: regions ? ('regions' as const) : groups, overrides: set, folder: out };
  if (list) {
    const parts = await opinionCommands(experiment, { quiet: true, log: output.log });
    const lines = parts.map((commands) => commands.map(programCommand).join(' && '));
    if (!output.json) writeResult(lines.map((line) => `${line}\n`).join(''));
    return { commands: parts };
  }
  const result = await opinionExperiment(experiment, { quiet, log: output.log });
  if (failed(result.checks)) process.exitCode = 1;
  return result;
});
await runProgram(program);
