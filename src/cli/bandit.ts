import { join } from 'node:path';
import { type Command, Option } from 'commander';
import { type FeatureMapName, featureMapNames } from '../bandit/features.js';
import { isRobust, iterates, type MethodName, methodNames, methodSettings } from '../bandit/methods.js';
import {
  type BanditSetting,
  checkSetting,
  type DataBalance,
  dataBalances,
  type ResponseRule,
  responseRules,
} from '../bandit/preferences.js';
import type { BanditReport } from '../bandit/report.js';
import { InputError } from '../errors.js';
import { writeFileWhole, writeFolderWhole } from '../files/write.js';
import { counted } from '../terminal/format.js';
import { progress } from '../terminal/progress.js';
import { defineAction, type Output, parseList, parseNumber, parseSeeds } from './command.js';
import { addOut, checkOut, type OutFlags } from './out.js';

interface BanditFlags extends OutFlags {
  features: FeatureMapName;
  responses: ResponseRule;
  data: DataBalance;
  methods: string;
  seeds: string;
  iterations?: string;
  chi?: string;
  groups?: string;
  dimension?: string;
  deterministicRatio?: string;
  referenceTheta?: string;
  ridge?: string;
  adaptiveTheta?: string;
  adaptiveAlpha?: string;
  quiet?: boolean;
}

const allMethods = methodNames.join(',');

/** `group-robust bandit`: any setting of the paper's synthetic experiments, over seeds. */
export function registerBandit(program: Command): void {
  const choice = (flags: string, description: string, choices: readonly string[], initial: string) =>
    new Option(flags, description).choices(choices).default(initial);
  const command = program
    .command('bandit')
    .description('train the six methods on the synthetic two-group bandit and compare their worst group')
    .addOption(choice('--features <map>', 'features of group 1 relative to group 0', featureMapNames, 'swapped'))
    .addOption(choice('--responses <rule>', 'how the two responses of a pair are drawn', responseRules, 'uneven'))
    .addOption(choice('--data <balance>', 'training pairs 150/150 or 60/240', dataBalances, 'imbalanced'))
    .option('--methods <list>', `any of ${allMethods}`, allMethods)
    .option('--seeds <list>', 'seeds and ranges of seeds', '2021-2040')
    .option('--iterations <n>', 'updates of the methods that iterate (default: 10000 for dpo, 100 for gr-ipo)')
    .option('--chi <x>', 'gr- methods: from the mean of the groups (0) to the worst group (1, the default)')
    .option('--groups <k>', 'number of groups (default: 2); odd ones are like group 1, even ones like group 0')
    .option('--dimension <d>', 'number of features, even (default: 4)')
    .option('--deterministic-ratio <q>', 'share of labels that follow the higher reward, one or per group (default: 1)')
    .option('--reference-theta <list>', 'parameters of a log-linear reference policy (default: 0, uniform)')
    .option('--ridge <lambda>', 'add lambda |theta|^2 to every group loss (default: 0)')
    .option('--adaptive-theta <c>', 'dpo methods: AdaGrad-norm steps c / sqrt(sum |mean gradient|^2)')
    .option('--adaptive-alpha <c>', 'gr- methods: steps on alpha times c / sqrt(sum |mean gradient|^2)')
    .option('--quiet', 'no progress');
  addOut(command, '--out <dir>', 'write results.json and results.csv to this folder');
  defineAction<BanditFlags>(command, runBandit);
}

async function runBandit(flags: BanditFlags, output: Output): Promise<BanditReport> {
  const out = checkOut(flags, { folder: /^results\.(json|csv)$/ });
  const setting = settingOf(flags);
  const names = [...new Set(parseList('--methods', flags.methods, methodNames))];
  const seeds = parseSeeds('--seeds', flags.seeds);
  const iterations = parseOptional('--iterations', flags.iterations, { min: 1, integer: true });
  const chi = parseOptional('--chi', flags.chi, { min: 0, max: 1 });
  if (iterations !== undefined && !names.some(iterates))
    refuseIdle('--iterations', names, 'dpo, is-dpo, gr-dpo, gr-ipo');
  if (chi !== undefined && !names.some(isRobust)) refuseIdle('--chi', names, 'gr-dpo, gr-ipo');
  const ridge = parseOptional('--ridge', flags.ridge, { min: 0 });
  const adaptive = {
    theta: parsePositive('--adaptive-theta', flags.adaptiveTheta),
    alpha: parsePositive('--adaptive-alpha', flags.adaptiveAlpha),
  };
  const takesSteps = (name: MethodName) => methodSettings(name).solver === 'gradient';
  if (adaptive.theta !== undefined && !names.some(takesSteps))
    refuseIdle('--adaptive-theta', names, 'dpo, is-dpo, gr-dpo');
  if (adaptive.alpha !== undefined && !names.some(isRobust)) refuseIdle('--adaptive-alpha', names, 'gr-dpo, gr-ipo');

  const { runSeeds } = await import('../bandit/run.js');
  const { banditCsv, banditReport, banditTable } = await import('../bandit/report.js');
  const methods = names.map((name) => ({ name, settings: methodSettings(name, { iterations, chi, ridge, adaptive }) }));
  const bar = progress('bandit', seeds.length, flags.quiet);
  const results = await runSeeds(
    seeds.map((seed) => ({ setting, seed, methods: methods.map(({ settings }) => settings) })),
    { onDone: (done) => bar.update(done) },
  ).finally(() => bar.stop());

  const report = banditReport(setting, methods, results);
  output.log(
    `\n${setting.features} features, ${setting.responses} responses, ${setting.data} data, ${counted(seeds.length, 'seed')} (mean ± standard error)\n`,
  );
  output.log(banditTable(report));
  if (out !== undefined) {
    const write = (folder: string) => {
      writeFileWhole(join(folder, 'results.json'), `${JSON.stringify(report, null, 2)}\n`);
      writeFileWhole(join(folder, 'results.csv'), banditCsv(names, results));
    };
    await writeFolderWhole(out.path, write, out);
    output.log(`\nwritten to ${out.path}`);
  }
  return report;
}

/** @throws InputError that names the flag. */
function settingOf(flags: BanditFlags): BanditSetting {
  const { features, responses, data } = flags;
  const groups = parseOptional('--groups', flags.groups, { min: 1, integer: true });
  const dimension = parseOptional('--dimension', flags.dimension, { min: 2, integer: true });
  const ratios = parseNumbers('--deterministic-ratio', flags.deterministicRatio, { min: 0, max: 1 });
  const referenceTheta = parseNumbers('--reference-theta', flags.referenceTheta);
  const setting = {
    features,
    responses,
    data,
    ...(groups !== undefined && { groups }),
    ...(dimension !== undefined && { dimension }),
    ...(ratios && { deterministicRatio: ratios.length === 1 ? ratios[0] : ratios }),
    ...(referenceTheta && { referenceTheta }),
  };
  checkSetting(setting);
  return setting;
}

function parseNumbers(flag: string, text: string | undefined, bounds?: Parameters<typeof parseNumber>[2]) {
  return text === undefined ? undefined : parseList(flag, text).map((item) => parseNumber(flag, item, bounds));
}

function parsePositive(flag: string, text: string | undefined): number | undefined {
  const value = parseOptional(flag, text, { min: 0 });
  if (value === 0) throw new InputError('must be above zero', { at: { field: flag } });
  return value;
}

function parseOptional(flag: string, text: string | undefined, bounds: Parameters<typeof parseNumber>[2]) {
  return text === undefined ? undefined : parseNumber(flag, text, bounds);
}

/** @throws InputError always: an option that no chosen method reads would be a silent mistake. */
function refuseIdle(flag: string, names: readonly string[], readers: string): never {
  throw new InputError(`has no effect on ${names.join(', ')}`, {
    at: { field: flag },
    fix: `leave it out, or add one of ${readers} to --methods`,
  });
}
