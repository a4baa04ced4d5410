import { join } from 'node:path';
import { type Command, Option } from '@commander-js/extra-typings';
import { type FeatureMapName, featureMapNames } from '../bandit/features.js';
import { type DataBalance, dataBalances, type ResponseRule, responseRules } from '../bandit/preferences.js';
import { InputError, present } from '../errors.js';
import { issueText } from '../files/read.js';
import { writeFileWhole, writeFolderWhole } from '../files/write.js';
import type { AdversarySettings } from '../objective/adversary.js';
import { type LossName, lossNames, marginLoss } from '../objective/losses.js';
import { failed } from '../terminal/checks.js';
import { progress } from '../terminal/progress.js';
import {
  countOption,
  defineAction,
  numberOption,
  type Output,
  parsedOption,
  parseMapping,
  parseNumbers,
  parsePositive,
} from './command.js';
import { addOut, checkOut, type OutFlags } from './out.js';

interface ConvergeFlags extends OutFlags {
  loss?: LossName;
  beta?: number;
  labelSmoothing?: number;
  algorithm?: '1' | '3';
  order?: 'alternating' | 'simultaneous';
  features?: FeatureMapName;
  responses?: ResponseRule;
  data?: DataBalance;
  groups?: number;
  dimension?: number;
  horizons?: number[];
  runs?: number;
  radius?: number;
  seed?: number;
  problem?: string;
  ambiguity?: object;
  chi?: number;
  mixture?: 'pairs' | 'uniform' | number[];
  adjustment?: number[];
  floor?: number;
  quiet?: boolean;
}

/** `group-robust converge`: Proposition 4.1 measured against the exact minimax value; exits 1 where the runs refute it. */
export function registerConverge(program: Command): void {
  const choice = <const Flags extends string, const Name extends string>(
    flags: Flags,
    description: string,
    choices: readonly Name[],
  ) => new Option(flags, description).choices(choices);
  const command = program
    .command('converge')
    .description('check the O(1/√T) convergence of the per-sample algorithm against the exact minimax value')
    .addOption(choice('--loss <name>', 'the loss (needed without --problem)', lossNames))
    .addOption(parsedOption('--beta <x>', 'beta of the loss (default: 0.1 for ipo, else 1)', parsePositive))
    .addOption(
      numberOption(
        '--label-smoothing <epsilon>',
        'share of labels thought to be flipped, dpo and rdpo only (default: 0)',
      ),
    )
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
    .addOption(
      countOption('--groups <k>', 'number of groups (default: 2); odd ones are like group 1, even ones like group 0', {
        min: 2,
      }),
    )
    .addOption(countOption('--dimension <d>', 'number of features, even (default: 4)', { min: 2 }))
    .addOption(
      parsedOption('--horizons <list>', 'numbers of steps T (default: 1e4,1e5,3e5,1e6,3e6)', (flag, text) =>
        parseNumbers(flag, text, { min: 1, integer: true }),
      ),
    )
    .addOption(countOption('--runs <n>', 'independent runs at each horizon (default: 10)', { min: 2 }))
    .addOption(numberOption('--radius <B>', 'θ is kept in ‖θ‖ ≤ B (default: 10)', { min: Number.MIN_VALUE }))
    .addOption(countOption('--seed <n>', 'seed of the data and of all draws (default: 2021)', { min: 0 }))
    .option('--quiet', 'no progress')
    .option('--problem <file>', 'only print the exact minimax value of the problem in this JSON file, as JSON')
    .addOption(
      parsedOption(
        '--ambiguity <yaml>',
        "with --problem: what alpha may be, in place of the whole simplex, such as '{set: cvar, level: 0.3}'",
        (flag, text) => parseMapping(flag, text, '{set: cvar, level: 0.3}'),
      ),
    )
    .addOption(
      numberOption('--chi <x>', 'with --problem: (1-chi) mixture + chi alpha weights the groups (default: 1)', {
        min: 0,
        max: 1,
      }),
    )
    .addOption(
      parsedOption(
        '--mixture <shares>',
        'with --chi: uniform, pairs, or one number per group (default: uniform)',
        (flag, text) => (text === 'pairs' || text === 'uniform' ? text : parseNumbers(flag, text)),
      ),
    )
    .addOption(
      parsedOption(
        '--adjustment <c>',
        'with --problem: C of C/sqrt(n_g), added to the losses: one value, or one per group (default: 0)',
        (flag, text) => parseNumbers(flag, text, { min: 0 }),
      ),
    )
    .addOption(numberOption('--floor <x>', 'with --problem: least alpha of any group (default: 0)', { min: 0 }));
  const complete = addOut(command, '--out <dir>', 'write convergence.json and convergence.csv to this folder');
  defineAction(complete, (flags: ConvergeFlags, output) =>
    flags.problem === undefined ? checkConvergence(flags, output) : solveProblem(flags.problem, flags, output),
  );
}

/** What α may be, of exact values: Algorithms 1 and 3 move it on the whole simplex. */
const adversaryFlags = ['ambiguity', 'chi', 'mixture', 'adjustment', 'floor'] as const;

async function checkConvergence(flags: ConvergeFlags, output: Output): Promise<object> {
  for (const name of adversaryFlags)
    if (flags[name] !== undefined)
      throw new InputError('needs --problem: the algorithm that is measured moves alpha on the whole simplex', {
        at: { field: `--${name}` },
        fix: 'leave it out, or name a problem whose exact value is asked for',
      });
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
    throw new InputError('is missing', {
      at: { field: '--loss' },
      fix: `use --loss with one of ${lossNames.join(', ')}`,
    });
  const { groups, dimension, horizons = defaults.horizons, runs = defaults.runs, radius = defaults.radius } = flags;
  const { beta, seed = defaults.seed } = flags;
  const algorithm = flags.algorithm === '3' ? 3 : defaults.algorithm;

  const settings = { loss, beta: beta ?? defaults.beta[loss], labelSmoothing: flags.labelSmoothing };
  const { title } = marginLoss(settings);

  const bar = progress('converge, steps', convergenceSteps({ order, horizons, runs }), flags.quiet);
  const result = await measureConvergence(
    trainingProblem({ features, responses, data, groups, dimension }, seed),
    {
      loss: settings,
      algorithm,
      order,
      radius,
      horizons,
      runs,
      seed,
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
  const taken: readonly string[] = ['problem', 'json', 'quiet', ...adversaryFlags];
  const idle = Object.keys(flags).filter((name) => !taken.includes(name));
  if (idle.length > 0)
    throw new InputError(`has no meaning with --problem`, {
      at: { field: `--${idle[0]}` },
      fix: 'leave it out: the file states the whole problem',
    });
  const { minimax } = await import('../theory/minimax.js');
  const { readProblemFile } = await import('../theory/problem-file.js');
  const { minimaxReport } = await import('../theory/report.js');
  const { problem, loss, radius } = readProblemFile(file);
  const adversary = await checkedAdversary(flags);
  const report = minimaxReport(minimax(problem, marginLoss(loss), radius, adversary, { file }));
  // The object is the whole answer, for people too: nothing else may stand beside it for the program that reads it.
  if (!output.json) output.log(JSON.stringify(report));
  return report;
}

/** @throws InputError that names the flag at fault, and the key of its mapping */
async function checkedAdversary(flags: ConvergeFlags): Promise<AdversarySettings> {
  const { adversarySchema } = await import('../train/config.js');
  const { adjustment } = flags;
  const given = Object.fromEntries(adversaryFlags.map((name) => [name, flags[name]]));
  const parsed = adversarySchema.safeParse(
    { ...given, adjustment: adjustment?.length === 1 ? adjustment[0] : adjustment },
    { error: issueText },
  );
  if (parsed.success) return parsed.data;
  const { path, message } = present(parsed.error.issues[0]);
  throw new InputError(message, { at: { field: `--${path.join(' ')}` } });
}
