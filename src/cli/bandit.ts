import { join } from 'node:path';
import { type Command, Option } from '@commander-js/extra-typings';
import { paperSeeds } from '../bandit/expected.js';
import { type FeatureMapName, featureMapNames } from '../bandit/features.js';
import {
  allMethodNames,
  checkOptions,
  limitedOptions,
  type MethodName,
  methodNames,
  methodSettings,
  readsOption,
} from '../bandit/methods.js';
import {
  type BanditSetting,
  checkSetting,
  type DataBalance,
  dataBalances,
  type ResponseRule,
  responseRules,
  trainingSizes,
} from '../bandit/preferences.js';
import type { BanditReport } from '../bandit/report.js';
import { InputError, present } from '../errors.js';
import { issueText } from '../files/read.js';
import { writeFileWhole, writeFolderWhole } from '../files/write.js';
import { isMoving, type WeightSettings } from '../objective/group-weights.js';
import { counted } from '../terminal/format.js';
import { progress } from '../terminal/progress.js';
import {
  countOption,
  defineAction,
  numberOption,
  type Output,
  parsedOption,
  parseMapping,
  parseNames,
  parseNumber,
  parseNumbers,
  parsePositive,
  parseSeeds,
} from './command.js';
import { addOut, checkOut, type OutFlags } from './out.js';

interface BanditFlags extends OutFlags {
  features: FeatureMapName;
  responses: ResponseRule;
  data: DataBalance;
  methods: readonly MethodName[];
  seeds: readonly number[];
  iterations?: number;
  beta?: number;
  thetaStep?: number;
  alphaStep?: number;
  adjustment?: number[];
  labelSmoothing?: number;
  batch?: number;
  chi?: number;
  weighting?: object;
  groups?: number;
  dimension?: number;
  deterministicRatio?: number[];
  referenceTheta?: number[];
  ridge?: number;
  radius?: number;
  average?: boolean;
  adaptiveTheta?: number;
  adaptiveAlpha?: number;
  quiet?: boolean;
}

/** `group-robust bandit`: any setting of the paper's synthetic experiments, over seeds. */
export function registerBandit(program: Command): void {
  const command = program
    .command('bandit')
    .description('train the six methods on the synthetic two-group bandit and compare their worst group')
    .addOption(
      new Option('--features <map>', 'features of group 1 relative to group 0')
        .choices(featureMapNames)
        .default('swapped'),
    )
    .addOption(
      new Option('--responses <rule>', 'how the two responses of a pair are drawn')
        .choices(responseRules)
        .default('uneven'),
    )
    .addOption(
      new Option('--data <balance>', 'training pairs 150/150 or 60/240').choices(dataBalances).default('imbalanced'),
    )
    .addOption(
      parsedOption('--methods <list>', `any of ${allMethodNames.join(',')}`, (flag, text) =>
        parseNames(flag, text, allMethodNames),
      ).default(methodNames, 'the six of dpo and ipo'),
    )
    .addOption(parsedOption('--seeds <list>', 'seeds and ranges of seeds', parseSeeds).default(paperSeeds, '2021-2040'))
    .addOption(
      countOption('--iterations <n>', 'updates of the methods that iterate (default: 10000 for dpo, 100 for gr-ipo)', {
        min: 1,
      }),
    )
    .addOption(parsedOption('--beta <x>', 'beta of every loss (default: 0.1 for ipo, else 1)', parsePositive))
    .addOption(
      parsedOption(
        '--theta-step <x>',
        'gradient steps on theta of this size, for ipo in place of its regression (default: 0.9, for ipo 0.5)',
        parsePositive,
      ),
    )
    .addOption(
      numberOption('--alpha-step <x>', 'gr- methods: steps on alpha (default: 0.01 for gr-ipo, else 0.5)', { min: 0 }),
    )
    .addOption(
      parsedOption(
        '--adjustment <c>',
        'gr- methods: C of C/sqrt(n_g): one value, or one per group (default: 0)',
        (flag, text) => parseNumbers(flag, text, { min: 0 }),
      ),
    )
    .addOption(
      parsedOption('--label-smoothing <e>', 'dpo methods: epsilon of conservative DPO, below 0.5', (flag, text) => {
        const value = parseNumber(flag, text, { min: 0, max: 0.5 });
        if (value === 0.5) throw new InputError('must be below 0.5', { at: { field: flag } });
        return value;
      }),
    )
    .addOption(
      countOption(
        '--batch <n>',
        'pairs of a gradient step, in random order (default: all); ipo takes gradient steps then',
        {
          min: 1,
        },
      ),
    )
    .addOption(
      numberOption('--chi <x>', 'gr- methods: from the mean of the groups (0) to the worst group (1, the default)', {
        min: 0,
        max: 1,
      }),
    )
    .addOption(
      parsedOption(
        '--weighting <yaml>',
        "gr- methods: how groups count, in the keys of a configuration's objective, such as '{weights: optimistic, step: 0.5, ambiguity: {set: cvar, level: 0.3}}'",
        (flag, text) => parseMapping(flag, text, '{weights: best-response, iterate: average}'),
      ),
    )
    .addOption(
      countOption('--groups <k>', 'number of groups (default: 2); odd ones are like group 1, even ones like group 0', {
        min: 1,
      }),
    )
    .addOption(countOption('--dimension <d>', 'number of features, even (default: 4)', { min: 2 }))
    .addOption(
      parsedOption(
        '--deterministic-ratio <q>',
        'share of labels that follow the higher reward: one value, or one per group (default: 1)',
        (flag, text) => parseNumbers(flag, text, { min: 0, max: 1 }),
      ),
    )
    .addOption(
      parsedOption(
        '--reference-theta <list>',
        'parameters of a log-linear reference policy (default: 0, uniform)',
        parseNumbers,
      ),
    )
    .addOption(numberOption('--ridge <lambda>', 'add lambda |theta|^2 to every group loss (default: 0)', { min: 0 }))
    .addOption(
      parsedOption('--radius <B>', 'dpo methods: keep theta in the ball |theta| <= B (default: free)', parsePositive),
    )
    .option('--average', 'methods that iterate: judge the mean of all iterates, not the last one')
    .addOption(
      parsedOption(
        '--adaptive-theta <c>',
        'dpo methods: AdaGrad-norm steps c / sqrt(sum |mean gradient|^2)',
        parsePositive,
      ),
    )
    .addOption(
      parsedOption(
        '--adaptive-alpha <c>',
        'gr- methods: steps on alpha times c / sqrt(sum |mean gradient|^2)',
        parsePositive,
      ),
    )
    .option('--quiet', 'no progress');
  defineAction(addOut(command, '--out <dir>', 'write results.json and results.csv to this folder'), runBandit);
}

async function runBandit(flags: BanditFlags, output: Output): Promise<BanditReport> {
  const out = checkOut(flags, { folder: /^results\.(json|csv)$/ });
  const setting = settingOf(flags);
  const { methods: names, seeds, iterations, chi, ridge, beta, thetaStep, alphaStep, labelSmoothing, batch } = flags;
  const { radius, average } = flags;
  const { adjustment: adjustments, adaptiveTheta, adaptiveAlpha } = flags;
  const adjustment = adjustments?.length === 1 ? adjustments[0] : adjustments;
  const adaptive = { theta: adaptiveTheta, alpha: adaptiveAlpha };
  const weighting = flags.weighting && (await checkedWeighting(flags.weighting));
  const steps = { beta, thetaStep, alphaStep, adjustment, labelSmoothing, batch };
  const options = { iterations, chi, weighting, ridge, radius, average, adaptive, ...steps };
  for (const option of limitedOptions) {
    const reads = (name: MethodName) => readsOption(name, option, options);
    if (flags[option] !== undefined && !names.some(reads))
      refuseIdle(flagOf(option), names, methodNames.filter(reads).join(', '));
  }
  for (const name of names) checkOptions(name, options, (option) => ({ field: flagOf(option) }));

  const { runSeeds } = await import('../bandit/run.js');
  const { checkMethod } = await import('../bandit/training.js');
  const { banditCsv, banditReport, banditTable } = await import('../bandit/report.js');
  const methods = names.map((name) => ({ name, settings: methodSettings(name, options) }));
  // In the threads of the runs it would be no error of the input.
  const sizes = trainingSizes(setting);
  for (const { settings } of methods) checkMethod(settings, sizes);
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

/** @throws InputError that names the key at fault */
async function checkedWeighting(given: object): Promise<WeightSettings> {
  const { weightingSchema } = await import('../train/objective-config.js');
  const parsed = weightingSchema.safeParse(given, { error: issueText });
  if (parsed.success) {
    if (isMoving(parsed.data)) return parsed.data;
    throw new InputError(`${parsed.data.weights} weights do not move, so they make no gr- method`, {
      at: { field: '--weighting weights' },
      fix: 'use ipo, dpo, is-ipo or is-dpo, or weights that move',
    });
  }
  const { path, message } = present(parsed.error.issues[0]);
  throw new InputError(message, { at: { field: ['--weighting', ...path].join(' ') } });
}

/** @throws InputError that names the flag. */
function settingOf(flags: BanditFlags): BanditSetting {
  const { features, responses, data, groups, dimension, deterministicRatio: ratios, referenceTheta } = flags;
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

/** alphaStep → --alpha-step */
function flagOf(option: string): string {
  return `--${option.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

/** @throws InputError always: an option that no chosen method reads would be a silent mistake. */
function refuseIdle(flag: string, names: readonly string[], readers: string): never {
  throw new InputError(`has no effect on ${names.join(', ')}`, {
    at: { field: flag },
    fix: `leave it out, or add one of ${readers} to --methods`,
  });
}
