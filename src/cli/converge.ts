import { join } from 'node:path';
import { type Command, Option } from 'commander';
import { type FeatureMapName, featureMapNames } from '../bandit/features.js';
import { type DataBalance, dataBalances, type ResponseRule, responseRules } from '../bandit/preferences.js';
import { InputError } from '../errors.js';
import { writeFileWhole, writeFolderWhole } from '../files/write.js';
import { type LossName, lossNames, marginLoss } from '../objective/losses.js';
import { failed } from '../report/checks.js';
import { progress } from '../terminal/progress.js';
import { defineAction, type Output, parseList, parseNumber } from './command.js';
import { addOut, checkOut, type OutFlags } from './out.js';

interface ConvergeFlags extends OutFlags {
  loss?: LossName;
  labelSmoothing?: string;
  algorithm?: '1' | '3';
  order?: 'alternating' | 'simultaneous';
  features?: FeatureMapName;
  responses?: ResponseRule;
  data?: DataBalance;
  groups?: string;
  dimension?: string;
  horizons?: string;
  runs?: string;
  radius?: string;
  problem?: string;
  quiet?: boolean;
}

/** `group-robust converge`: Proposition 4.1 measured against the exact minimax value; exits 1 where the runs refute it. */
export function registerConverge(program: Command): void {
  const choice = (flags: string, description: string, choices: readonly string[]) =>
    new Option(flags, description).choices(choices);
  const command = program
    .command('converge')
    .description('check the O(1/√T) convergence of the per-sample algorithm against the exact minimax value')
    .addOption(choice('--loss <name>', 'the loss (needed without --problem)', lossNames))
    .option('--label-smoothing <epsilon>', 'share of labels thought to be flipped, dpo only (default: 0)')
    .addOption(choice('--algorithm <n>', '1: draw from all pairs; 3: draw a group first (default: 1)', ['1', '3']))
    .addOption(
      choice(
        '--order <name>',
        'θ moves with the old α as in the proof, or with the new one as in the listing (default: both, judged apart)',
        ['simultaneous', 'alternating'],
      ),
    )
    .addOption(choice('--features <map>', 'features of group 1 (default: swapped)', featureMapNames))
    .addOption(choice('--responses <rule>', 'how responses are drawn (default: uneven)', responseRules))
    .addOption(
      choice(
        '--data <balance>',
        '300 pairs in groups of equal size or in shares 1 : 4 (default: imbalanced)',
        dataBalances,
      ),
    )
    .option('--groups <k>', 'number of groups (default: 2); odd ones are like group 1, even ones like group 0')
    .option('--dimension <d>', 'number of features, even (default: 4)')
    .option('--horizons <list>', 'numbers of steps T (default: 1e4,1e5,3e5,1e6,3e6)')
    .option('--runs <n>', 'independent runs at each horizon (default: 10)')
    .option('--radius <B>', 'θ is kept in ‖θ‖ ≤ B (default: 10)')
    .option('--quiet', 'no progress')
    .option('--problem <file>', 'only print the exact minimax value of the problem in this JSON file, as JSON');
  addOut(command, '--out <dir>', 'write convergence.json and convergence.csv to this folder');
  defineAction<ConvergeFlags>(command, (flags, output) =>
    flags.problem === undefined ? checkConvergence(flags, output) : solveProblem(flags.problem, flags, output),
  );
}

async function checkConvergence(flags: ConvergeFlags, output: Output): Promise<object> {
  const { trainingProblem } = await import('../bandit/preferences.js');
  const {
    convergenceDefaults: defaults,
    convergenceSteps,
    measureConvergence,
  } = await import('../theory/convergence.js');
  const { convergenceChecks, convergenceCsv, convergenceReport, convergenceText } = await import('../theory/report.js');

  const { loss, order, features = 'swapped', responses = 'uneven', data = 'imbalanced' } = flags;
  const out = checkOut(flags, { folder: /^convergence\.(json|csv)$/ });
  if (loss === undefined)
    throw new InputError('is missing', { at: { field: '--loss' }, fix: 'use --loss dpo or --loss ipo' });
  const horizons = flags.horizons
    ? parseList('--horizons', flags.horizons).map((T) => parseNumber('--horizons', T, { min: 1, integer: true }))
    : defaults.horizons;
  const runs = flags.runs ? parseNumber('--runs', flags.runs, { min: 2, integer: true }) : defaults.runs;
  const groups = flags.groups ? parseNumber('--groups', flags.groups, { min: 2, integer: true }) : undefined;
  const dimension = flags.dimension
    ? parseNumber('--dimension', flags.dimension, { min: 2, integer: true })
    : undefined;
  const radius = flags.radius ? parseNumber('--radius', flags.radius, { min: Number.MIN_VALUE }) : defaults.radius;
  const algorithm = flags.algorithm === '3' ? 3 : defaults.algorithm;

  const labelSmoothing = flags.labelSmoothing ? parseNumber('--label-smoothing', flags.labelSmoothing) : undefined;
  const settings = { loss, beta: defaults.beta[loss], labelSmoothing };
  const { title } = marginLoss(settings);

  const bar = progress('converge, steps', convergenceSteps({ order, horizons, runs }), flags.quiet);
  const result = await measureConvergence(
    trainingProblem({ features, responses, data, groups, dimension }, defaults.seed),
    {
      loss: settings,
      algorithm,
      order,
      radius,
      horizons,
      runs,
      seed: defaults.seed,
    },
    { onSteps: (done) => bar.update(done) },
  ).finally(() => bar.stop());

  const report = convergenceReport(result);
  output.log(`\nAlgorithm ${algorithm}, ${title}, ${features} features, ${responses} responses, ${data} data\n`);
  output.log(convergenceText(report));
  if (out !== undefined) {
    const write = (folder: string) => {
      writeFileWhole(join(folder, 'convergence.json'), `${JSON.stringify(report, null, 2)}\n`);
      writeFileWhole(join(folder, 'convergence.csv'), convergenceCsv(report));
    };
    await writeFolderWhole(out.path, write, out);
    output.log(`\nwritten to ${out.path}`);
  }
  if (failed(convergenceChecks(report))) process.exitCode = 1;
  return report;
}

async function solveProblem(file: string, flags: ConvergeFlags, output: Output): Promise<object> {
  const idle = Object.keys(flags).filter((name) => !['problem', 'json', 'quiet'].includes(name));
  if (idle.length > 0)
    throw new InputError(`has no meaning with --problem`, {
      at: { field: `--${idle[0]}` },
      fix: 'leave it out: the file states the whole problem',
    });
  const { minimax } = await import('../theory/minimax.js');
  const { readProblemFile } = await import('../theory/problem-file.js');
  const { minimaxReport } = await import('../theory/report.js');
  const { problem, loss, radius } = readProblemFile(file);
  const report = minimaxReport(minimax(problem, marginLoss(loss), radius, { file }));
  // The object is the whole answer, for people too: nothing else may stand beside it for the program that reads it.
  if (!output.json) output.log(JSON.stringify(report));
  return report;
}
