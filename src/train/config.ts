import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { parseTemplate, plainTemplate } from '../data/pairs/prompt-template.js';
import { samplerKinds } from '../data/pairs/sampler.js';
import { InputError, type InputLocation, present } from '../errors.js';
import { issueText, refuseSpecial } from '../files/read.js';
import { lineOf, parseYaml, printYaml } from '../files/yaml.js';
import { maxThreads } from '../native/types.js';
import { scalings } from '../objective/aggregate.js';
import { ambiguityNames } from '../objective/ambiguity.js';
import { methodPrefixes, type WeightingName, weightingNames } from '../objective/group-weights.js';
import { lossNames } from '../objective/losses.js';
import { stepScheduleNames } from '../objective/moving-weights.js';
import { type PairLossName, pairLossNames } from '../objective/pairs.js';
import { referenceFreeLossNames } from '../objective/reference-free.js';
import { loraTargets } from '../policy/adapted-modules.js';
import { deviceNames, devicePattern } from '../policy/device.js';
import { keyAdvice, valueAdvice } from './other-names.js';
import { watchedLosses } from './plateau.js';
import { scheduleNames } from './schedule.js';

/** The configuration of a training run: a YAML file, validated here; the description of each key stands beside it. */

const positive = z.number().positive();
const count = z.number().int().positive();
/** A factor on float32 numbers. The limit is beyond any use, and products still fit into float32. */
const factor = positive.max(1e6);
const distinct = <T extends z.ZodType<string>>(name: T) =>
  z
    .array(name)
    .nonempty('must have at least one entry')
    .refine((names) => new Set(names).size === names.length, 'holds the same name twice; remove one')
    .meta({ uniqueItems: true });
const distinctNames = distinct(z.string().min(1));

const promptTemplate = z.string().superRefine((text, context) => {
  try {
    parseTemplate(text);
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    context.addIssue({ code: 'custom', message: `${error.problem}; ${error.fix}` });
  }
});

const shares = z.union([z.enum(['pairs', 'uniform']), z.array(positive).nonempty()]);

/** The keys of an ambiguity set as a file has them. */
const ambiguityKeys = z.strictObject({
  set: z.enum(ambiguityNames).describe('The whole `simplex`, or a set around the shares p of the groups.'),
  level: positive.max(1).optional().describe('q of cvar: α_g ≤ p_g/q, so the mean over the worst share q counts.'),
  radius: positive.optional().describe('r of kl, Σ α_g log(α_g/p_g) ≤ r, and of chi-square, Σ p_g (α_g/p_g − 1)² ≤ r.'),
  shares: shares
    .optional()
    .describe('p: `pairs` (N_g/N, the default), `uniform`, or a number per group; not with simplex.'),
});
const { level, radius } = ambiguityKeys.shape;
const ambiguityPart = z.discriminatedUnion('set', [
  z.object({ set: z.literal('simplex') }),
  z.object({ set: z.literal('cvar'), level: level.unwrap(), shares: shares.optional() }),
  z.object({ set: z.enum(['kl', 'chi-square']), radius: radius.unwrap(), shares: shares.optional() }),
]);

const ambiguitySchema = ambiguityKeys
  .superRefine((ambiguity, context) => {
    const { set } = ambiguity;
    const taken = {
      simplex: [],
      cvar: ['level', 'shares'],
      kl: ['radius', 'shares'],
      'chi-square': ['radius', 'shares'],
    };
    for (const key of ['level', 'radius', 'shares'] as const) {
      const takes = (taken[set] as string[]).includes(key);
      if (!takes && ambiguity[key] !== undefined)
        context.addIssue({ code: 'custom', path: [key], message: `does nothing with set: ${set}; remove it` });
      if (takes && key !== 'shares' && ambiguity[key] === undefined)
        context.addIssue({ code: 'custom', path: [key], message: `is needed with set: ${set}` });
    }
  })
  .transform((keys) => ambiguityPart.parse(keys));

/** The keys of the objective as a file has them; which of them go together is checked in {@link objectiveSchema}. */
export const objectiveKeys = z.strictObject({
  loss: z
    .enum(pairLossNames)
    .describe(
      'Loss of a pair; simpo and orpo need no reference, reward trains a reward model by the Bradley-Terry loss, sft fine-tunes on the chosen responses alone.',
    ),
  beta: positive.optional().describe('β of the preference loss, λ of orpo; every loss but reward and sft needs it.'),
  labelSmoothing: z
    .number()
    .min(0)
    .lt(0.5)
    .optional()
    .describe(
      'ε, the share of labels thought to be flipped: of conservative DPO (dpo), the same of reward, or of rdpo, which needs it.',
    ),
  gamma: z.number().min(0).optional().describe('γ, the margin that simpo asks for, simpo only. Default 0.'),
  tilt: z
    .number()
    .refine((tau) => tau !== 0, 'must not be 0; the mean, which it leads to from either side far out, is the default')
    .optional()
    .describe(
      "τ of the tilted loss τ log mean e^(l/τ) over pairs, in place of their mean: above 0 KL-robust, below 0 Dr.DPO with β' = −τ. Over the whole batch with weights erm (batch.sampler: proportional), else over each group. Not with sft.",
    ),
  reduction: z
    .enum(['sum', 'mean'])
    .optional()
    .describe(
      'Sum token log-probs of a response (the paper, and the default) or average them; simpo and orpo always do the latter. Not with reward.',
    ),
  weights: z
    .enum(weightingNames)
    .default('erm')
    .describe(
      'How groups count: erm by their pairs, uniform all the same, importance by pairWeights, the others by α, which follows the losses: mirror-ascent (GR-DPO, GR-IPO), optimistic mirror ascent, best-response (hard max), exp3 (one group drawn a step).',
    ),
  ambiguity: ambiguitySchema.optional().describe('What α may be, with weights that move. Default: the whole simplex.'),
  step: z
    .number()
    .min(0)
    .optional()
    .describe('η_α, the step size of α; mirror-ascent, optimistic and exp3, which need it.'),
  schedule: z
    .enum(stepScheduleNames)
    .optional()
    .describe(
      'How η_α goes on, where there is one: `constant` (the default), `inverse-root`, step/√t, or `adaptive`, step/√(sum of the squared ranges of the signals so far).',
    ),
  chi: z
    .number()
    .min(0)
    .max(1)
    .optional()
    .describe(
      'χ in [0, 1], with weights that move: (1−χ) μ + χ α; 1, the default, is fully robust; at 0 α counts nowhere, nor do the keys that move it.',
    ),
  mixture: shares
    .optional()
    .describe('μ of chi, which must be below 1: `uniform` (the default), `pairs` (N_g/N), or a number per group.'),
  adjustment: z
    .union([z.number().min(0), z.array(z.number().min(0))])
    .optional()
    .describe('C or [C_g] of the adjustment C/√n_g, with weights that move.'),
  floor: z.number().min(0).optional().describe('Least α of any group, with weights that move, on the simplex.'),
  order: z
    .enum(['alternating', 'simultaneous'])
    .optional()
    .describe('α before θ, or both from the old state; with weights that move, but for exp3, which is simultaneous.'),
  iterate: z
    .enum(['last', 'average'])
    .optional()
    .describe('θ uses the last α (the default) or the mean of all so far; with weights that move, but for exp3.'),
  scaling: z
    .enum(scalings)
    .optional()
    .describe(
      "Group signals of weights that move: `normalised` (the default), unbiased; `paper`, not divided by the batch size, as in the authors' code; `batch-mean`, the mean over the group's pairs in the batch, not with rdpo.",
    ),
  pairWeights: z
    .array(z.number().min(0))
    .optional()
    .describe('Weight of one pair of each group, importance only; default 1/N_g.'),
});
const { beta, labelSmoothing, gamma, tilt, reduction, step, chi, adjustment, floor, order, scaling, pairWeights } =
  objectiveKeys.shape;
const { schedule, mixture, iterate } = objectiveKeys.shape;
const ambiguity = ambiguityPart.optional();

const common = { reduction: reduction.unwrap() };
const free = { beta: beta.unwrap(), reduction: z.literal('mean'), tilt };
/** Every loss, and every weighting, with the keys that it needs and those that it may have. */
const lossPart = z.discriminatedUnion('loss', [
  z.object({ loss: z.literal('sft'), ...common }),
  z.object({ loss: z.literal('dpo'), beta: beta.unwrap(), labelSmoothing, ...common, tilt }),
  z.object({ loss: z.literal('rdpo'), beta: beta.unwrap(), labelSmoothing: labelSmoothing.unwrap(), ...common, tilt }),
  z.object({ loss: z.enum(lossNames).exclude(['dpo', 'rdpo']), beta: beta.unwrap(), ...common, tilt }),
  z.object({ loss: z.literal('simpo'), ...free, gamma }),
  z.object({ loss: z.literal('orpo'), ...free }),
  z.object({ loss: z.literal('reward'), labelSmoothing, tilt }),
]);

function isReferenceFree(loss: PairLossName): boolean {
  return (referenceFreeLossNames as readonly string[]).includes(loss);
}

function hasBeta(loss: PairLossName): boolean {
  return loss !== 'sft' && loss !== 'reward';
}

const entropic = { step: step.unwrap(), schedule };
const moving = { chi, mixture, adjustment, floor, scaling, ambiguity };
const weightsPart = z.discriminatedUnion('weights', [
  z.object({ weights: z.literal('erm') }),
  z.object({ weights: z.literal('uniform') }),
  z.object({ weights: z.literal('importance'), pairWeights }),
  z.object({ weights: z.literal('mirror-ascent'), ...entropic, ...moving, order, iterate }),
  z.object({ weights: z.literal('optimistic'), ...entropic, ...moving, order, iterate }),
  z.object({ weights: z.literal('best-response'), ...moving, order, iterate }),
  z.object({ weights: z.literal('exp3'), ...entropic, ...moving }),
]);
const objectiveParts = z.intersection(lossPart, weightsPart);

/** The weightings that take each key, by key. */
const weightingKeys = new Map<keyof WeightingKeys, WeightingName[]>();
for (const { shape } of weightsPart.options)
  for (const key of Object.keys(shape) as (keyof WeightingKeys)[])
    if (key !== 'weights') weightingKeys.set(key, [...(weightingKeys.get(key) ?? []), shape.weights.value]);

/** Whether these weights have a step size η_α. */
function hasStep(weights: WeightingName): boolean {
  return weightingKeys.get('step')?.includes(weights) ?? false;
}

type Refuse = (key: string, problem: string) => void;

function refuserIn(context: z.RefinementCtx): Refuse {
  return (key, problem) => context.addIssue({ code: 'custom', path: [key], message: problem });
}

type WeightingKeys = Omit<
  z.infer<typeof objectiveKeys>,
  'loss' | 'beta' | 'labelSmoothing' | 'gamma' | 'tilt' | 'reduction'
>;

/** Refuses keys that do nothing together, or lack one. */
function checkWeighting(keys: WeightingKeys, refuse: Refuse): void {
  const { weights } = keys;
  for (const [key, takers] of weightingKeys)
    if (!takers.includes(weights) && keys[key] !== undefined)
      refuse(key, `does nothing with weights: ${weights}; remove it or set weights: ${takers[0]}`);
  if (hasStep(weights) && keys.step === undefined)
    refuse(
      'step',
      `is needed with weights: ${weights}; the paper has 0.01 for IPO bandits, 8e-6 for Gemma with batches of 16`,
    );
  checkAdversary(keys, refuse);
}

/** As {@link checkWeighting}, of what α may be and what it counts for. */
function checkAdversary(keys: Pick<WeightingKeys, 'ambiguity' | 'chi' | 'mixture' | 'floor'>, refuse: Refuse): void {
  if (keys.mixture !== undefined && (keys.chi ?? 1) === 1)
    refuse('mixture', 'does nothing with chi: 1, the default; remove it or set chi below 1');
  const { set = 'simplex' } = keys.ambiguity ?? {};
  if (keys.floor !== undefined && set !== 'simplex')
    refuse('floor', `has no meaning with the ambiguity set ${set}; remove it, or set chi below 1`);
}

/** What α may be, by itself, for exact values, where it does not move. */
export const adversarySchema = objectiveKeys
  .pick({ ambiguity: true, chi: true, mixture: true, adjustment: true, floor: true })
  .superRefine((keys, context) => checkAdversary(keys, refuserIn(context)));

/** How groups count, by itself, where every step has all pairs, so that no scaling of the signals differs from another. */
export const weightingSchema = objectiveKeys
  .omit({ loss: true, beta: true, labelSmoothing: true, gamma: true, tilt: true, reduction: true, scaling: true })
  .superRefine((keys, context) => checkWeighting(keys, refuserIn(context)))
  .transform((keys) => weightsPart.parse(keys));

/**
 * What is minimised. `loss` and `weights` together name the method: ipo + mirror-ascent is GR-IPO, dpo + importance is
 * IS-DPO, ipo + erm is IPO, sft fine-tunes on the chosen responses alone.
 *
 * A file is checked against the flat keys, so that an error can name the other key that makes one useless, and an editor can complete them;
 * the result is one of the unions.
 */
export const objectiveSchema = objectiveKeys
  .superRefine((objective, context) => {
    const refuse = refuserIn(context);
    const { loss } = objective;
    if (!hasBeta(loss) && objective.beta !== undefined) refuse('beta', `does nothing with loss: ${loss}; remove it`);
    if (hasBeta(loss) && objective.beta === undefined)
      refuse(
        'beta',
        `is needed with loss: ${loss}; the paper has 0.01 for Gemma, 0.1 for IPO bandits, 1 for DPO bandits`,
      );
    if (loss !== 'dpo' && loss !== 'rdpo' && loss !== 'reward' && objective.labelSmoothing !== undefined)
      refuse('labelSmoothing', `does nothing with loss: ${loss}; remove labelSmoothing or set loss: dpo`);
    if (loss === 'rdpo' && !(objective.labelSmoothing ?? 0))
      refuse('labelSmoothing', 'is needed with loss: rdpo, above 0: the share of labels that are flipped');
    if (loss !== 'simpo' && objective.gamma !== undefined)
      refuse('gamma', `does nothing with loss: ${loss}; remove it or set loss: simpo`);
    if (loss === 'sft' && objective.tilt !== undefined) refuse('tilt', 'does nothing with loss: sft; remove it');
    if (isReferenceFree(loss) && objective.reduction === 'sum')
      refuse('reduction', `must be mean with loss: ${loss}, which is made of means; leave it out`);
    if (loss === 'reward' && objective.reduction !== undefined)
      refuse('reduction', 'does nothing with loss: reward, which has one score of a whole response; remove it');
    if (loss === 'rdpo' && objective.scaling === 'batch-mean')
      refuse(
        'scaling',
        'batch-mean is not for loss: rdpo, whose losses may be below 0, the signal of a group that the batch lacks, which would then count as the worst; remove it',
      );
    checkWeighting(objective, refuse);
  })
  .transform((keys) =>
    objectiveParts.parse({ ...keys, reduction: keys.reduction ?? (isReferenceFree(keys.loss) ? 'mean' : 'sum') }),
  );

export type Objective = z.infer<typeof objectiveSchema>;

/** When `schedule: plateau` cuts the learning rate, and when it ends the run; see plateau.ts. Defaults as in the authors' code. */
const plateauSchema = z.strictObject({
  watch: z
    .enum(watchedLosses)
    .default('worst-group')
    .describe('The validation loss that has to fall: of the worst group, or the mean over groups.'),
  factor: positive.lt(1).default(0.1).describe('A cut multiplies the learning rate by this.'),
  stepFactor: positive.max(1).optional().describe('A cut multiplies η_α by this, where there is one. Default 0.5.'),
  patience: z
    .number()
    .int()
    .min(0)
    .default(4)
    .describe('Evaluations in a row that may bring no improvement; the next one cuts.'),
  threshold: z
    .number()
    .min(0)
    .lt(1)
    .default(1e-3)
    .describe('An improvement is a loss that is lower than the best one by more than this fraction of it.'),
  stopBelow: positive
    .default(1.001e-8)
    .describe(
      'The run ends when the learning rate has been cut below this; at the first cut where it is learningRate itself.',
    ),
});

const loraSchema = z.strictObject({
  rank: count.default(8).describe('r, the rank of the update.'),
  alpha: factor.default(32).describe('The update is scaled by alpha/rank.'),
  targets: distinct(z.enum(loraTargets))
    .default([...loraTargets])
    .describe('Projections that get an update, e.g. [q_proj, v_proj]. Default: all seven.'),
});

/** Settings of a new adapter where the configuration has none. */
export const defaultLora = loraSchema.parse({});

export const configSchema = z.strictObject({
  model: z
    .string()
    .min(1)
    .describe(
      'A Hugging Face checkpoint folder, an id of the hub (google/gemma-2b, or google/gemma-2b@REVISION), or random:NAME?key=value.',
    ),
  tokenizer: z
    .string()
    .min(1)
    .optional()
    .describe("tokenizer.json, its folder or an id of the hub, to use instead of the model's own."),
  adapter: z
    .string()
    .min(1)
    .optional()
    .describe('PEFT folder, or an id of the hub, to start from; default: a new adapter on the base model.'),
  reference: z
    .enum(['start', 'base'])
    .optional()
    .describe(
      'With `adapter`: the reference is a frozen copy of it (`start`, the default) or the model without it (`base`).',
    ),
  device: z
    .string()
    .regex(devicePattern, `must be ${deviceNames}`)
    .default('auto')
    .describe(
      'Where the model is computed: `cpu`, `cuda`, `cuda:N` or `auto`, a GPU where the addon is built for CUDA and sees one, else the CPU. A run can be resumed on another one; its last bits may then differ.',
    ),
  dtype: z
    .enum(['float32', 'bfloat16', 'float64'])
    .optional()
    .describe(
      'Type of the base weights and activations; adapters and losses are float32 or better. Default: `float32` on the CPU, `bfloat16` on a GPU, and in a run that goes on what it began with.',
    ),
  baseDtype: z
    .enum(['float32', 'bfloat16', 'float64'])
    .optional()
    .describe(
      'Type the base weights are kept in; default `dtype`. bfloat16 halves their memory, and a checkpoint in bfloat16 loses nothing: the weights are widened to `dtype` for every product.',
    ),
  recompute: z
    .boolean()
    .default(false)
    .describe(
      'Keep only the input of each layer for the backward pass, and compute the layers again: less memory, more time.',
    ),
  threads: count.max(maxThreads).optional().describe('LibTorch threads; default: all cores.'),
  seed: z.number().int().min(0).default(0).describe("Seeds the adapter's start and the order of the data."),
  output: z.string().min(1).describe('Run folder; must not exist yet, except with --resume.'),
  data: z
    .strictObject({
      train: z.string().min(1).describe('Files of pairs: JSONL, CSV or Parquet, by their ending.'),
      validation: z.string().min(1).optional().describe('Watched while training.'),
      test: z.string().min(1).optional().describe('Scored once, at the end.'),
      groups: distinctNames
        .optional()
        .describe(
          'The groups and their order; a pair of another is an error. Default: as they first appear in the training file.',
        ),
      groupBy: z
        .union([z.string().min(1), distinctNames, z.strictObject({ overlap: distinctNames })], {
          error: 'must be a column, a list of columns, or { overlap: [columns] }',
        })
        .default('group')
        .describe(
          'Column that names the group, or several, whose cross product then makes the groups (`country=x/sex=y`); or `{ overlap: [country, sex] }`, where a pair is of several groups, `country=x` and `sex=y`.',
        ),
      people: z
        .strictObject({
          file: z.string().min(1).describe('JSONL, CSV or Parquet, with a row for each person.'),
          key: z.string().min(1).describe('Column of this file and of the pairs that says who it is, such as user_id.'),
        })
        .optional()
        .describe(
          'People whose preferences the pairs are: `groupBy` may name fields of theirs, inner ones with dots (`location.special_region`).',
        ),
      template: promptTemplate
        .optional()
        .describe(
          'What becomes of each prompt, or of the first turn of a conversation (the system, else the user): a text with {prompt} and {group}, such as "Imagine you are from {group}. {prompt}". Default: prompts as they are.',
        ),
      maxLength: count.default(512).describe('Most tokens of a prompt with its longer response.'),
      unusable: z
        .enum(['error', 'drop'])
        .default('error')
        .describe(
          'A pair that is too long, or has an empty text or equal responses: an error, or left out and counted.',
        ),
    })
    .describe('The pairs and their groups.'),
  objective: objectiveSchema.describe('What is minimised.'),
  lora: loraSchema.optional().describe('LoRA settings of a new adapter; not with `adapter`, which has its own.'),
  optimizer: z
    .strictObject({
      learningRate: factor.default(1e-4).describe('The highest rate.'),
      betas: z
        .tuple([z.number().min(0).lt(1), z.number().min(0).lt(1)])
        .default([0.9, 0.999])
        .describe('Decay of the two moments.'),
      epsilon: positive.default(1e-8).describe('Added to the root of the second moment.'),
      weightDecay: z.number().min(0).default(0.01).describe('Decoupled weight decay.'),
      maxGradNorm: positive.default(10).describe('Gradient norms above this are cut to it.'),
      averageFrom: count
        .optional()
        .describe(
          'From this step on the policy that is evaluated and saved is the mean of the adapters after it and each later step, A and B each by itself; 1 averages over all steps. Default: the last adapter.',
        ),
      warmupSteps: z
        .number()
        .int()
        .min(0)
        .optional()
        .describe('Optimiser steps over which the rate rises linearly. Default 0.'),
      warmupRatio: z
        .number()
        .min(0)
        .lt(1)
        .optional()
        .describe('The same as a fraction of all steps, rounded up; give only one of the two.'),
      schedule: z
        .enum(scheduleNames)
        .default('constant')
        .describe(
          'After that: `constant`, `linear` or `cosine` down to 0 at the end of the run, or `plateau`: cut when a validation loss stops falling.',
        ),
      plateau: plateauSchema.optional().describe('With `schedule: plateau` only.'),
    })
    .prefault({})
    .describe('AdamW.'),
  batch: z
    .strictObject({
      size: count.default(16).describe('Pairs per optimiser step.'),
      micro: count
        .optional()
        .describe('Pairs scored at once; the step does not depend on it beyond rounding. Default: size.'),
      sampler: z
        .enum(samplerKinds)
        .default('proportional')
        .describe(
          'proportional: every pair once per epoch, shuffled; balanced: group uniform, then a pair of it; stratified: a fixed number of each group in every batch. Pairs of one prompt come one after another in all three.',
        ),
    })
    .prefault({})
    .describe('How pairs are drawn.'),
  epochs: positive.optional().describe('Passes over the training pairs; give this or `steps`.'),
  steps: count.optional().describe('Optimiser steps.'),
  evaluateEvery: count.optional().describe('Steps between validations. Default: once per epoch.'),
  checkpoint: z
    .strictObject({
      every: count.default(100).describe('Optimiser steps between checkpoints.'),
      keep: count.default(2).describe('How many of the newest are kept.'),
      best: z
        .boolean()
        .default(false)
        .describe(
          'Keep the one with the smallest worst-group validation loss besides, and write its adapter to adapter-best.',
        ),
    })
    .prefault({})
    .describe('What `--resume` continues from; a run that is asked to stop, or ends, saves too.'),
  distributed: z
    .strictObject({
      timeout: positive
        .max(1e7)
        .optional()
        .describe('Seconds that a process may keep the others waiting before they give up. Default 600.'),
    })
    .optional()
    .describe('Of a run on several processes (docs/many-machines.md).'),
  nonFinite: z
    .strictObject({
      action: z
        .enum(['stop', 'skip'])
        .default('stop')
        .describe('`stop` the run, or `skip` the step and go on with the next batch.'),
      limit: count.optional().describe('Most steps to skip before the run stops; skip only. Default 10.'),
    })
    .prefault({})
    .describe(
      'What to do about a step whose loss or gradient is not finite; such a step never changes weights or α. An evaluation that is not finite always stops the run.',
    ),
});

export type TrainConfig = z.infer<typeof configSchema>;

/**
 * Checks a parsed configuration and fills in the defaults.
 * @param locate where the user has written a key, such as the line of a file
 * @throws InputError naming all keys at fault and what to do; unknown keys are errors.
 */
export function resolveConfig(raw: unknown, locate: (path: PropertyKey[]) => InputLocation = () => ({})): TrainConfig {
  const parsed = configSchema
    .superRefine((config, context) => {
      const refuse = (path: string[], message: string) => context.addIssue({ code: 'custom', path, message });
      if ((config.epochs === undefined) === (config.steps === undefined))
        refuse(['epochs'], 'give either epochs or steps');
      if (config.adapter !== undefined && config.lora !== undefined)
        refuse(['lora'], 'does nothing with adapter, which has its own rank and targets; remove one of the two');
      const { groupBy } = config.data;
      if (typeof groupBy === 'string' && groupBy.startsWith('overlap:'))
        refuse(
          ['data', 'groupBy'],
          `is a flag's way to say it; write { overlap: [${groupBy.slice('overlap:'.length).split(',').join(', ')}] }`,
        );
      const { averageFrom } = config.optimizer;
      if (averageFrom !== undefined && config.steps !== undefined && averageFrom > config.steps)
        refuse(['optimizer', 'averageFrom'], `exceeds steps ${config.steps}; lower it, or leave it out`);
      const { loss } = config.objective;
      const compares = loss !== 'sft' && loss !== 'reward' && !isReferenceFree(loss);
      if (config.reference !== undefined && (config.adapter === undefined || !compares))
        refuse(
          ['reference'],
          'does nothing without an adapter to start from and a loss that compares with a reference; remove it',
        );
      const tilted = 'tilt' in config.objective && config.objective.tilt !== undefined;
      if (tilted && config.batch.micro !== undefined)
        refuse(['batch', 'micro'], 'does nothing with objective.tilt, whose loss needs all pairs of a step; remove it');
      // Other samplers draw some groups more often than erm counts them, and the loss of all groups together cannot be weighted group by group.
      if (tilted && config.objective.weights === 'erm' && config.batch.sampler !== 'proportional')
        refuse(
          ['batch', 'sampler'],
          'must be proportional with objective.tilt and weights: erm, whose loss is one of the whole batch; or set objective.weights: uniform, which tilts group by group',
        );
      // Without dtype it is asked again once the device has decided that.
      const { baseDtype, dtype = 'float32' } = config;
      if (baseDtype !== undefined && baseDtype !== 'bfloat16' && baseDtype !== dtype)
        refuse(['baseDtype'], `must be bfloat16, or dtype (${dtype}), which is the default`);
      if ((config.batch.micro ?? 1) > config.batch.size)
        refuse(['batch', 'micro'], `exceeds batch.size ${config.batch.size}; lower it`);
      if (config.evaluateEvery !== undefined && config.data.validation === undefined)
        refuse(['evaluateEvery'], 'does nothing without data.validation; remove it or name a validation file');
      const { schedule, plateau, learningRate, warmupSteps, warmupRatio } = config.optimizer;
      if (warmupSteps !== undefined && warmupRatio !== undefined)
        refuse(['optimizer', 'warmupRatio'], 'says the same as warmupSteps; remove one of the two');
      if (schedule !== 'plateau' && plateau !== undefined)
        refuse(['optimizer', 'plateau'], `does nothing with schedule: ${schedule}; remove it or set schedule: plateau`);
      if (schedule === 'plateau' && config.data.validation === undefined)
        refuse(
          ['optimizer', 'schedule'],
          'plateau needs data.validation, whose loss it watches; name a validation file',
        );
      if (plateau?.stepFactor !== undefined && !hasStep(config.objective.weights))
        refuse(
          ['optimizer', 'plateau', 'stepFactor'],
          `does nothing with weights: ${config.objective.weights}; remove it or set weights: mirror-ascent`,
        );
      if (plateau && plateau.stopBelow > learningRate)
        refuse(['optimizer', 'plateau', 'stopBelow'], `exceeds learningRate ${learningRate}; lower it`);
      if (config.checkpoint.best && config.data.validation === undefined)
        refuse(['checkpoint', 'best'], 'needs data.validation, by which the best is chosen; name a file or remove it');
      if (config.nonFinite.limit !== undefined && config.nonFinite.action !== 'skip')
        refuse(['nonFinite', 'limit'], 'does nothing with action: stop; remove it or set action: skip');
    })
    .safeParse(raw, { error: issueText });
  if (parsed.success) {
    const config = parsed.data;
    if (config.optimizer.warmupRatio === undefined) config.optimizer.warmupSteps ??= 0;
    if (config.optimizer.schedule === 'plateau') config.optimizer.plateau ??= plateauSchema.parse({});
    if (config.adapter === undefined) config.lora ??= defaultLora;
    // It changes no prompt, so a run with it is the run without one.
    if (config.data.template === plainTemplate.text) delete config.data.template;
    return config;
  }
  const { issues } = parsed.error;
  const unknown = issues.flatMap((issue) =>
    issue.code === 'unrecognized_keys' ? unknownKeys(raw, issue.path, issue.keys, locate) : [],
  );
  // Where there are unknown keys, only those are reported: a misspelt key would also be reported as missing.
  const faults =
    unknown.length > 0
      ? unknown
      : issues.map(({ message, path }) => {
          const at = { ...locate(path), field: path.join('.') || '(top level)' };
          const value = valueAt(raw, path);
          const name = path.join('.');
          return new InputError(message, { at, fix: textAdvice(name, value, message) ?? valueAdvice(name, value) });
        });
  const [fault, ...others] = faults;
  throw present(fault).followedBy(others);
}

/** A text that begins with a brace, a bracket or a star is something else in YAML. */
function textAdvice(name: string, value: unknown, message: string): string | undefined {
  return isObject(value) && message.startsWith('must be text')
    ? `put the text in quotes, which --set needs inside those of the shell: --set '${name}="…"'`
    : undefined;
}

function unknownKeys(
  raw: unknown,
  parent: PropertyKey[],
  keys: readonly string[],
  locate: (path: PropertyKey[]) => InputLocation,
): InputError[] {
  const siblings = keysAt(parent);
  const beside = valueAt(raw, parent);
  // The list of keys is shown only once.
  let otherwise = `keys in this place: ${siblings.join(', ')}`;
  return keys.map((key) => {
    const path = [...parent, key];
    let fix = keyAdvice(key, siblings, configKeys(), isObject(beside) ? beside : {});
    if (fix === undefined) [fix, otherwise] = [otherwise, 'remove it'];
    return new InputError('unknown key', { at: { ...locate(path), field: path.join('.') }, fix });
  });
}

function valueAt(raw: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((value, key) => (isObject(value) ? value[key] : undefined), raw);
}

/**
 * Reads a YAML configuration, applies `--set key=value` overrides (values are YAML), and resolves it.
 * @param from where the overrides are from, for errors
 */
export function loadConfig(file: string, overrides: readonly string[] = [], from = '--set'): TrainConfig {
  refuseSpecial(file, { once: true });
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throw new InputError('cannot be read', { at: { file }, fix: 'name an existing YAML file', cause });
  }
  const parsed = parseYaml(text, { file });
  const raw = parsed.value ?? {};
  if (!isObject(raw) || Array.isArray(raw))
    throw new InputError('is not a YAML mapping', {
      at: { file, line: 1 },
      fix: 'write keys and values, e.g. model: random:tiny',
    });
  const overridden = overrides.map((override) => applyOverride(raw, override, from));
  return resolveConfig(raw, (path) => {
    if (overridden.some((key) => key === path.slice(0, key.split('.').length).join('.'))) return { file: from };
    return { file, line: lineOf(parsed, path) };
  });
}

/** The resolved configuration as YAML, defaults included. */
export function printConfig(config: TrainConfig): string {
  return printYaml(config);
}

/** Name of the method a loss and its group weights make, e.g. "gr-ipo", or "gr-cvar-ipo" with another ambiguity set than the simplex. */
export function methodName(objective: Objective): string {
  const set = 'ambiguity' in objective ? objective.ambiguity?.set : undefined;
  return methodPrefixes[objective.weights] + (set === undefined || set === 'simplex' ? '' : `${set}-`) + objective.loss;
}

/** Returns the key. */
function applyOverride(raw: Record<PropertyKey, unknown>, override: string, from: string): string {
  const at = { field: from };
  const split = override.indexOf('=');
  if (split <= 0) throw new InputError(`"${override}" is not key=value`, { at, fix: 'e.g. --set objective.beta=0.1' });
  const name = override.slice(0, split);
  const parents = name.split('.');
  const last = parents.splice(-1);
  const text = override.slice(split + 1);
  const quotes = `the value is YAML; quotes around text go inside those of the shell: --set '${name}="…"'`;
  const { value } = parseYaml(text, { field: `${from} ${name}` }, quotes);
  let node = raw;
  for (const key of parents) {
    node[key] ??= {};
    const child = node[key];
    if (!isObject(child) || Array.isArray(child) || key === '__proto__')
      throw new InputError(`"${name}" is not a key: "${key}" holds a value`, { at });
    node = child;
  }
  for (const key of last)
    if (value === null) delete node[key];
    else node[key] = value;
  return name;
}

function isObject(value: unknown): value is Record<PropertyKey, unknown> {
  return typeof value === 'object' && value !== null;
}

/** Every key of the configuration with its parents, such as `optimizer.learningRate`. */
export function configKeys(): string[] {
  const below = (schema: z.core.$ZodType, path: string[]): string[] => [
    ...(path.length > 0 ? [path.join('.')] : []),
    ...Object.entries(keysOf(schema)).flatMap(([key, child]) => below(child, [...path, key])),
  ];
  return below(configSchema, []);
}

function keysAt(path: PropertyKey[]): string[] {
  const schema = path.reduce<z.core.$ZodType | undefined>((parent, key) => keysOf(parent)[String(key)], configSchema);
  return Object.keys(keysOf(schema));
}

/** What a mapping may hold, as it stands in a file; nothing for anything else. */
function keysOf(schema: z.core.$ZodType | undefined): Readonly<Record<string, z.core.$ZodType>> {
  if (schema instanceof z.ZodObject) return schema.shape;
  if (schema instanceof z.ZodPipe) return keysOf(schema.in);
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault)
    return keysOf(schema.unwrap());
  return {};
}
