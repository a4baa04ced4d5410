import { join } from 'node:path';
import { type Command, Option } from '@commander-js/extra-typings';
import { type FeatureMapName, featureMapNames } from '../bandit/features.js';
import { type DataBalance, dataBalances, type ResponseRule, responseRules } from '../bandit/preferences.js';
import { InputError, present } from '../errors.js';
import { issueText } from '../files/read.js';
import { writeFileWhole, writeFolderWhole } from '../files/write.js';
import type { AdversarySettings } from '../objective/adversary.js';
import { type LossName, lossNames, marginLoss } from '../objective/losses.js';
import type { LogLinearProblem } from '../policy/log-linear-problem.js';
import { type Check, failed } from '../terminal/checks.js';
import { say } from '../terminal/output.js';
import { progress } from '../terminal/progress.js';
import type { ConvergenceSettings } from '../theory/convergence.js';
import type { PerSampleAlgorithm } from '../theory/objective-run.js';
import { perSampleAlgorithms } from '../theory/schedules.js';
import {
  countOption,
  defineAction,
  numberOption,
  type Output,
  parsedOption,
  parseList,
  parseMapping,
  parseName,
  parseNumbers,
  parsePositive,
} from './command.js';
import { addOut, checkOut, type OutFlags } from './out.js';

interface ConvergeFlags extends OutFlags {
  loss?: LossName;
  beta?: number;
  labelSmoothing?: number;
  algorithm?: PerSampleAlgorithm[];
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
    .addOption(
      parsedOption(
        '--algorithm <list>',
        `1: draw from all pairs; 3: draw a group first (default: 1); ${perSampleAlgorithms.slice(2).join(', ')}, several, or all: compare at equal numbers of samples`,
        parseAlgorithms,
      ),
    )
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
      parsedOption(
        '--horizons <list>',
        'numbers of steps T, or of samples (default: 1e4,1e5,3e5,1e6,3e6)',
        (flag, text) => parseNumbers(flag, text, { min: 1, integer: true }),
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
  const complete = addOut(
    command,
    '--out <dir>',
    'write convergence.json and .csv to this folder, or comparison.json, .csv and figures',
  );
  defineAction(complete, (flags: ConvergeFlags, output) =>
    flags.problem === undefined ? checkConvergence(flags, output) : solveProblem(flags.problem, flags, output),
  );
}

/** What α may be, of exact values: Algorithms 1 and 3 move it on the whole simplex. */
const adversaryFlags = ['ambiguity', 'chi', 'mixture', 'adjustment', 'floor'] as const;

/** Of one of the paper's algorithms the claim is judged; anything else is compared. */
async function checkConvergence(flags: ConvergeFlags, output: Output): Promise<object> {
  for (const name of adversaryFlags)
    if (flags[name] !== undefined)
      throw new InputError('needs --problem: the algorithm that is measured moves alpha on the whole simplex', {
        at: { field: `--${name}` },
        fix: 'leave it out, or name a problem whose exact value is asked for',
      });
  const { trainingProblem } = await import('../bandit/preferences.js');
  const { convergenceDefaults: defaults } = await import('../theory/convergence.js');

  const { loss, features = 'swapped', responses = 'uneven', data = 'imbalanced' } = flags;
  const [algorithm = defaults.algorithm, ...more] = flags.algorithm ?? [];
  const compared = more.length > 0 || !(algorithm === 1 || algorithm === 3);
  const out = checkOut(flags, {
    folder: compared ? /^(comparison\.(json|csv)|(duality-gap|error|last-error)\.svg)$/ : /^convergence\.(json|csv)$/,
  });
  if (loss === undefined)
    throw new InputError('is missing', {
      at: { field: '--loss' },
      fix: `use --loss with one of ${lossNames.join(', ')}`,
    });
  if (compared && flags.order !== undefined)
    throw new InputError('has no meaning in a comparison, where all algorithms take simultaneous steps', {
      at: { field: '--order' },
      fix: 'leave it out, or use --algorithm 1 or 3 by itself',
    });
  const { groups, dimension, horizons = defaults.horizons, runs = defaults.runs, radius = defaults.radius } = flags;
  const { beta, seed = defaults.seed } = flags;

  const problem = trainingProblem({ features, responses, data, groups, dimension }, seed);
  const settings = {
    loss: { loss, beta: beta ?? defaults.beta[loss], labelSmoothing: flags.labelSmoothing },
    radius,
    horizons,
    runs,
    seed,
  };
  const { report, title, text, checks, write } = compared
    ? await compare(problem, settings, [algorithm, ...more], flags)
    : await check(problem, { ...settings, algorithm, order: flags.order }, flags);

  output.log(
    `\n${title}, ${marginLoss(settings.loss).title}, beta ${settings.loss.beta}, seed ${seed}, ${features} features, ${responses} responses, ${data} data\n`,
  );
  output.log(text);
  if (out !== undefined) {
    await writeFolderWhole(out.path, write, out);
    output.log(`\nwritten to ${out.path}`);
  }
  if (failed(checks)) process.exitCode = 1;
  return report;
}

/** What either kind of measurement comes to. */
interface Measured {
  report: object;
  title: string;
  text: string;
  checks: Check[];
  write(folder: string): Promise<void> | void;
}

async function check(
  problem: LogLinearProblem,
  settings: ConvergenceSettings,
  { quiet }: ConvergeFlags,
): Promise<Measured> {
  const { convergenceSteps, measureConvergence } = await import('../theory/convergence.js');
  const { convergenceChecks, convergenceCsv, convergenceReport, convergenceText } = await import('../theory/report.js');
  const bar = progress('converge, steps', convergenceSteps(settings), quiet);
  const result = await measureConvergence(problem, settings, { onSteps: (done) => bar.update(done) }).finally(() =>
    bar.stop(),
  );
  const report = convergenceReport(result);
  return {
    report,
    title: `Algorithm ${settings.algorithm}`,
    text: convergenceText(report),
    checks: convergenceChecks(report),
    write(folder) {
      writeFileWhole(join(folder, 'convergence.json'), `${JSON.stringify(report, null, 2)}\n`);
      writeFileWhole(join(folder, 'convergence.csv'), convergenceCsv(report));
    },
  };
}

async function compare(
  problem: LogLinearProblem,
  given: Omit<ConvergenceSettings, 'algorithm' | 'order'>,
  named: readonly PerSampleAlgorithm[],
  { quiet }: ConvergeFlags,
): Promise<Measured> {
  const { writeFigures } = await import('../report/figure-files.js');
  const { comparisonFigures } = await import('../report/sections/comparison.js');
  const { compareAlgorithms, comparisonSteps } = await import('../theory/comparison.js');
  const { comparisonChecks, comparisonCsv, comparisonReport, comparisonText } = await import(
    '../theory/comparison-report.js'
  );
  const settings = { ...given, algorithms: named };
  const bar = progress('converge, steps', comparisonSteps(problem, settings), quiet);
  const result = await compareAlgorithms(problem, settings, { onSteps: (done) => bar.update(done) }).finally(() =>
    bar.stop(),
  );
  const report = comparisonReport(result);
  return {
    report,
    title: 'Per-sample algorithms at equal numbers of samples',
    text: comparisonText(report),
    checks: comparisonChecks(report),
    async write(folder) {
      writeFileWhole(join(folder, 'comparison.json'), `${JSON.stringify(report, null, 2)}\n`);
      writeFileWhole(join(folder, 'comparison.csv'), comparisonCsv(report));
      await writeFigures(folder, comparisonFigures(report), (text) => say(process.stderr, text));
    },
  };
}

/** "1,exp3" or "all". @throws InputError for what is no algorithm, or is named twice */
function parseAlgorithms(flag: string, text: string): PerSampleAlgorithm[] {
  if (text === 'all') return [...perSampleAlgorithms];
  const named = parseList(flag, text).map((item) => parseName(flag, item, [...perSampleAlgorithms.map(String), 'all']));
  const twice = named.find((name, n) => named.indexOf(name) !== n);
  if (twice !== undefined)
    throw new InputError(`names ${twice} twice`, { at: { field: flag }, fix: 'name each algorithm once' });
  if (named.includes('all'))
    throw new InputError('all is all of them', { at: { field: flag }, fix: 'give it by itself' });
  return perSampleAlgorithms.filter((algorithm) => named.includes(String(algorithm)));
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
  const report = minimaxReport(minimax(problem, loss, radius, adversary, { file }));
  // The object is the whole answer, for people too: nothing else may stand beside it for the program that reads it.
  if (!output.json) output.log(JSON.stringify(report));
  return report;
}

/** @throws InputError that names the flag at fault, and the key of its mapping */
async function checkedAdversary(flags: ConvergeFlags): Promise<AdversarySettings> {
  const { adversarySchema } = await import('../train/objective-config.js');
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
