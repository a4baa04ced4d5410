import { z } from 'zod';
import { parseTemplate, plainTemplate } from '../data/pairs/prompt-template.js';
import { samplerKinds } from '../data/pairs/sampler.js';
import { InputError, type InputLocation, present } from '../errors.js';
import { issueText } from '../files/read.js';
import { keysAt, keysOf } from '../files/schema-keys.js';
import { maxThreads } from '../native/types.js';
import { loraTargets } from '../policy/adapted-modules.js';
import { deviceNames, devicePattern } from '../policy/device.js';
import { hasStep, isReferenceFree, objectiveSchema, positive } from './objective-config.js';
import { keyAdvice, valueAdvice } from './other-names.js';
import { watchedLosses } from './plateau.js';
import { scheduleNames } from './schedule.js';

/** The configuration of a training run: a YAML file, validated here; the description of each key stands beside it. */

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
      if (loss === 'rdpo' && config.objective.weights === 'best-response' && config.batch.sampler !== 'stratified')
        refuse(
          ['objective', 'weights'],
          'best-response with loss: rdpo, whose losses may be below 0, would give all weight to a group that the batch lacks; set batch.sampler: stratified, or use mirror-ascent',
        );
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
      const { stopBelow } = plateau ?? plateauSchema.parse({});
      if (schedule === 'plateau' && stopBelow > learningRate)
        refuse(['optimizer', 'plateau', 'stopBelow'], `is ${stopBelow}, above learningRate ${learningRate}; lower it`);
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
  const siblings = keysAt(configSchema, parent);
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

function isObject(value: unknown): value is Record<PropertyKey, unknown> {
  return typeof value === 'object' && value !== null;
}

/** Every key of the configuration with its parents, such as `optimizer.learningRate`. */
export function configKeys(): string[] {
  return keysOf(configSchema);
}
