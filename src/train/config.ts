import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { samplerKinds } from '../data/pairs/sampler.js';
import { InputError, type InputLocation } from '../errors.js';
import { issueText, refuseSpecial } from '../files/read.js';
import { parseYaml, printYaml } from '../files/yaml.js';
import { maxThreads } from '../native/types.js';
import { methodPrefixes, type WeightSettings, weightingNames } from '../objective/group-weights.js';
import { type LossSettings, lossNames } from '../objective/losses.js';
import { loraTargets } from '../policy/peft.js';
import { keyAdvice, valueAdvice } from './other-names.js';
import { watchedLosses } from './plateau.js';
import { scheduleNames } from './schedule.js';

/** The configuration of a training run: a YAML file, validated here; the description of each key stands beside it. */

const positive = z.number().positive();
const count = z.number().int().positive();
/** A factor on float32 numbers; beyond any use, and what is made of it still has to fit into one. */
const factor = positive.max(1e6);
const distinct = <T extends z.ZodType<string>>(name: T) =>
  z
    .array(name)
    .nonempty()
    .refine((names) => new Set(names).size === names.length, 'holds the same name twice; remove one')
    .meta({ uniqueItems: true });
const distinctNames = distinct(z.string().min(1));

/**
 * What is minimised. `loss` and `weights` together name the method: ipo + mirror-ascent is GR-IPO, dpo + importance is
 * IS-DPO, ipo + erm is IPO, sft fine-tunes on the chosen responses alone.
 */
export const objectiveSchema = z
  .strictObject({
    loss: z.enum([...lossNames, 'sft']).describe('Loss of a pair; sft fine-tunes on the chosen responses alone.'),
    beta: positive.optional().describe('β of the preference loss; every loss but sft needs it.'),
    labelSmoothing: z.number().min(0).lt(0.5).optional().describe('ε of conservative DPO, dpo only.'),
    reduction: z
      .enum(['sum', 'mean'])
      .default('sum')
      .describe('Sum token log-probs of a response (the paper) or average them.'),
    weights: z
      .enum(weightingNames)
      .default('erm')
      .describe(
        'How groups count: erm by their pairs, uniform all the same, importance by pairWeights, mirror-ascent by α, which follows the losses (GR-DPO, GR-IPO).',
      ),
    step: z.number().min(0).optional().describe('η_α, the step size of the mirror ascent, mirror-ascent only.'),
    chi: z.number().min(0).max(1).optional().describe('χ in [0, 1], mirror-ascent only; 1 is fully robust.'),
    adjustment: z
      .union([z.number().min(0), z.array(z.number().min(0))])
      .optional()
      .describe('C or [C_g] of the adjustment C/√n_g, mirror-ascent only.'),
    floor: z.number().min(0).optional().describe('Least α of any group, mirror-ascent only.'),
    order: z
      .enum(['alternating', 'simultaneous'])
      .optional()
      .describe('α before θ, or both from the old state; mirror-ascent only.'),
    scaling: z
      .enum(['normalised', 'paper'])
      .optional()
      .describe(
        "`paper`: group signals are not divided by the batch size, as in the authors' code; mirror-ascent only.",
      ),
    pairWeights: z
      .array(z.number().min(0))
      .optional()
      .describe('Weight of one pair of each group, importance only; default 1/N_g.'),
  })
  .superRefine((objective, context) => {
    const refuse = (key: string, problem: string) =>
      context.addIssue({ code: 'custom', path: [key], message: problem });
    const { loss, weights } = objective;
    if (loss === 'sft' && objective.beta !== undefined) refuse('beta', 'does nothing with loss: sft; remove it');
    if (loss !== 'sft' && objective.beta === undefined)
      refuse(
        'beta',
        `is needed with loss: ${loss}; the paper has 0.01 for Gemma, 0.1 for IPO bandits, 1 for DPO bandits`,
      );
    if (loss !== 'dpo' && objective.labelSmoothing !== undefined)
      refuse('labelSmoothing', `does nothing with loss: ${loss}; remove labelSmoothing or set loss: dpo`);
    for (const key of ['step', 'chi', 'adjustment', 'floor', 'order', 'scaling'] as const)
      if (weights !== 'mirror-ascent' && objective[key] !== undefined)
        refuse(key, `does nothing with weights: ${weights}; remove it or set weights: mirror-ascent`);
    if (weights === 'mirror-ascent' && objective.step === undefined)
      refuse(
        'step',
        'is needed with weights: mirror-ascent; the paper has 0.01 for IPO bandits, 8e-6 for Gemma with batches of 16',
      );
    if (weights !== 'importance' && objective.pairWeights !== undefined)
      refuse('pairWeights', `does nothing with weights: ${weights}; remove it or set weights: importance`);
  });

export type Objective = z.infer<typeof objectiveSchema>;

/** When `schedule: plateau` cuts the learning rate, and when it ends the run; see plateau.ts. The defaults are the authors'. */
const plateauSchema = z.strictObject({
  watch: z
    .enum(watchedLosses)
    .default('worst-group')
    .describe('The validation loss that has to fall: of the worst group, or the mean over groups.'),
  factor: positive.lt(1).default(0.1).describe('A cut multiplies the learning rate by this.'),
  stepFactor: positive.max(1).optional().describe('A cut multiplies η_α by this, mirror-ascent only. Default 0.5.'),
  patience: z
    .number()
    .int()
    .min(0)
    .default(4)
    .describe('So many evaluations in a row may be no improvement; the next one cuts.'),
  threshold: z
    .number()
    .min(0)
    .lt(1)
    .default(1e-3)
    .describe('An improvement lies below the best loss by more than this part of it.'),
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
  dtype: z
    .enum(['float32', 'bfloat16', 'float64'])
    .default('float32')
    .describe('Type of the base weights and activations; adapters and losses are float32 or better.'),
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
  output: z.string().min(1).describe('Run folder; must not exist, but for --resume.'),
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
        .union([z.string().min(1), distinctNames])
        .default('group')
        .describe(
          'Column that names the group, or several, whose cross product then makes the groups (`country=x/sex=y`).',
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
  lora: loraSchema.optional().describe('LoRA of a new adapter; not with `adapter`, whose own settings hold.'),
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
        .describe('The same as a part of all steps, rounded up; give one of the two.'),
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
      keep: count.default(2).describe('The newest so many are kept.'),
      best: z
        .boolean()
        .default(false)
        .describe(
          'Keep the one with the smallest worst-group validation loss besides, and write its adapter to adapter-best.',
        ),
    })
    .prefault({})
    .describe('What `--resume` continues from; a run that is asked to stop, or ends, saves too.'),
  nonFinite: z
    .strictObject({
      action: z
        .enum(['stop', 'skip'])
        .default('stop')
        .describe('`stop` the run, or `skip` the step and go on with the next batch.'),
      limit: count.optional().describe('Most steps of a run to skip, then it stops; skip only. Default 10.'),
    })
    .prefault({})
    .describe(
      'What to do with a step whose loss or gradient is not finite; it never changes weights or α. An evaluation that is not finite always stops the run.',
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
        refuse(['lora'], 'does nothing with adapter, whose own rank and targets hold; remove one of the two');
      if (config.reference !== undefined && (config.adapter === undefined || config.objective.loss === 'sft'))
        refuse(['reference'], 'does nothing without an adapter to start from and a preference loss; remove it');
      if (config.baseDtype !== undefined && config.baseDtype !== 'bfloat16' && config.baseDtype !== config.dtype)
        refuse(['baseDtype'], `must be bfloat16, or dtype (${config.dtype}), which is the default`);
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
      if (plateau?.stepFactor !== undefined && config.objective.weights !== 'mirror-ascent')
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
    if (config.adapter === undefined) config.lora ??= loraSchema.parse({});
    return config;
  }
  const { issues } = parsed.error;
  const unknown = issues.flatMap((issue) =>
    issue.code === 'unrecognized_keys' ? unknownKeys(raw, issue.path, issue.keys, locate) : [],
  );
  // Where there are unknown keys, only those: of a key that is misspelt, the one that was meant is reported as missing too.
  const faults =
    unknown.length > 0
      ? unknown
      : issues.map(({ message, path }) => {
          const at = { ...locate(path), field: path.join('.') || '(top level)' };
          return new InputError(message, { at, fix: valueAdvice(path.join('.'), valueAt(raw, path)) });
        });
  throw faults[0].followedBy(faults.slice(1));
}

function unknownKeys(
  raw: unknown,
  parent: PropertyKey[],
  keys: readonly string[],
  locate: (path: PropertyKey[]) => InputLocation,
): InputError[] {
  const siblings = keysAt(parent);
  // Once is enough.
  let otherwise = `keys in this place: ${siblings.join(', ')}`;
  return keys.map((key) => {
    const path = [...parent, key];
    let fix = keyAdvice(key, siblings, configKeys(), valueAt(raw, parent) as Record<string, unknown>);
    if (fix === undefined) [fix, otherwise] = [otherwise, 'remove it'];
    return new InputError('unknown key', { at: { ...locate(path), field: path.join('.') }, fix });
  });
}

function valueAt(raw: unknown, path: PropertyKey[]): unknown {
  return path.reduce((value, key) => (value as Record<PropertyKey, unknown> | undefined)?.[key], raw);
}

/** Reads a YAML configuration, applies `--set key=value` overrides (values are YAML), and resolves it. */
export function loadConfig(file: string, overrides: string[] = []): TrainConfig {
  refuseSpecial(file, { once: true });
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throw new InputError('cannot be read', { at: { file }, fix: 'name an existing YAML file', cause });
  }
  const { value, document, lines } = parseYaml(text, { file });
  const raw = value ?? {};
  if (typeof raw !== 'object' || Array.isArray(raw))
    throw new InputError('is no YAML mapping', {
      at: { file, line: 1 },
      fix: 'write keys and values, e.g. model: random:tiny',
    });
  const overridden = overrides.map((override) => applyOverride(raw, override));
  return resolveConfig(raw, (path) => {
    if (overridden.some((key) => key === path.slice(0, key.split('.').length).join('.'))) return { file: '--set' };
    for (let length = path.length; length > 0; length--) {
      const node = document.getIn(path.slice(0, length), true) as { range?: [number, number, number] } | undefined;
      if (node?.range) return { file, line: lines.linePos(node.range[0]).line };
    }
    return { file };
  });
}

/** The resolved configuration as YAML, defaults included. */
export function printConfig(config: TrainConfig): string {
  return printYaml(config);
}

/** Name of the method a loss and its group weights make, e.g. "gr-ipo". */
export function methodName(objective: Objective): string {
  return methodPrefixes[objective.weights] + objective.loss;
}

/** The part of the objective that src/objective/losses.ts takes; undefined for sft. */
export function lossSettings({ loss, beta, labelSmoothing }: Objective): LossSettings | undefined {
  return loss === 'sft' ? undefined : { loss, beta: beta as number, labelSmoothing };
}

/** The part of the objective that src/objective/group-weights.ts takes. */
export function weightSettings(objective: Objective): WeightSettings {
  const { weights, step = 0, chi, adjustment, floor, order, pairWeights } = objective;
  switch (weights) {
    case 'mirror-ascent':
      return { weights, step, chi, adjustment, floor, order };
    case 'importance':
      return { weights, pairWeights };
    default:
      return { weights };
  }
}

/** Returns the key. */
function applyOverride(raw: unknown, override: string): string {
  const at = { field: '--set' };
  const split = override.indexOf('=');
  if (split <= 0) throw new InputError(`"${override}" is not key=value`, { at, fix: 'e.g. --set objective.beta=0.1' });
  const path = override.slice(0, split).split('.');
  const { value } = parseYaml(override.slice(split + 1), { field: `--set ${path.join('.')}` });
  let node = raw as Record<string, unknown>;
  for (const key of path.slice(0, -1)) {
    node[key] ??= {};
    if (typeof node[key] !== 'object' || Array.isArray(node[key]) || key === '__proto__')
      throw new InputError(`"${path.join('.')}" is no key: "${key}" holds a value`, { at });
    node = node[key] as Record<string, unknown>;
  }
  const last = path[path.length - 1];
  if (value === null) delete node[last];
  else node[last] = value;
  return path.join('.');
}

/** Every key of the configuration with its parents, such as `optimizer.learningRate`. */
export function configKeys(): string[] {
  const below = (schema: z.ZodType, path: string[]): string[] => {
    const { shape } = unwrap(schema) as Partial<typeof configSchema>;
    return [
      ...(path.length > 0 ? [path.join('.')] : []),
      ...Object.entries(shape ?? {}).flatMap(([key, child]) => below(child, [...path, key])),
    ];
  };
  return below(configSchema, []);
}

function keysAt(path: PropertyKey[]): string[] {
  let schema: z.ZodType = configSchema;
  for (const key of path) schema = unwrap((unwrap(schema) as typeof configSchema).shape[key as 'data']);
  return Object.keys((unwrap(schema) as typeof configSchema).shape);
}

function unwrap(schema: z.ZodType): z.ZodType {
  const { innerType } = schema.def as { innerType?: z.ZodType };
  return innerType ? unwrap(innerType) : schema;
}
