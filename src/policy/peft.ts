import { existsSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { InputError } from '../errors.js';
import { checked, readJson, refuseSpecial } from '../files/read.js';
import { writeFileWhole } from '../files/write.js';
import {
  type Adaptation,
  type AdaptedModule,
  adaptedModules,
  type LoraSettings,
  loraTargets,
  projectionPath,
} from './adapted-modules.js';
import { SafetensorsFile, type TensorEntry } from './safetensors.js';
import { isVision, peftNames, plainName } from './weight-names.js';

/** The files of a PEFT adapter folder. */
export const adapterFiles = { config: 'adapter_config.json', weights: 'adapter_model.safetensors' } as const;

const empty = (value: unknown): boolean =>
  value == null || value === false || (typeof value === 'object' && Object.keys(value).length === 0);

/** Keys that do not change what a finished adapter computes. */
const ignored = new Set([
  'auto_mapping',
  'base_model_name_or_path',
  'corda_config',
  'ensure_weight_tying',
  'eva_config',
  'inference_mode',
  'lora_dropout',
  'lora_ga_config',
  'loftq_config',
  'megatron_core',
  'peft_version',
  'qalora_group_size',
  'revision',
]);

/** Keys that must be off, and why; any other unknown key must be empty too. */
const refused: Record<string, string> = {
  alora_invocation_tokens: 'activated LoRA is not supported',
  fan_in_fan_out: 'transposed weights are not Gemma’s',
  layer_replication: 'replicated layers are not supported',
  lora_bias: 'biases are not supported',
  target_parameters: 'use target_modules',
  trainable_token_indices: 'trained embeddings are not supported: Gemma ties embedding and head',
  use_dora: 'DoRA is not supported',
};

/** Initialisations that also change the base weights; without that change the adapter means something else. */
const changesBase = /^(pissa|olora|corda|loftq|lora_ga)/;

const rank = z.int().min(1).max(65536);
const alpha = z.number().refine((value) => Number.isFinite(Math.fround(value)), 'is too large for a number of 32 bits');
const names = z.union([z.string(), z.array(z.string())]);
const layer = z.int().min(0);

const configSchema = z.looseObject({
  peft_type: z.string(),
  task_type: z.string().nullish(),
  r: rank,
  lora_alpha: alpha,
  target_modules: names,
  use_rslora: z.boolean().nullish(),
  rank_pattern: z.record(z.string(), rank).nullish(),
  alpha_pattern: z.record(z.string(), alpha).nullish(),
  exclude_modules: names.nullish(),
  layers_to_transform: z.union([layer, z.array(layer)]).nullish(),
  layers_pattern: names.nullish(),
  bias: z.string().nullish(),
  init_lora_weights: z.union([z.boolean(), z.string()]).nullish(),
  modules_to_save: z.array(z.string()).nullish(),
});

/** The head of a `…ForSequenceClassification` of transformers, by module and by tensor; with one label, a reward model. */
const scoreModule = 'score';
export const scoreTensor = `${scoreModule}.weight`;
/** What PEFT says of an adapter with such a head: besides `score`, it lists what other models call theirs. */
const rewardTask = 'SEQ_CLS';
const headModules = [scoreModule, 'classifier'];

/** PEFT's keys of the settings. */
const keys = {
  rank: 'r',
  alpha: 'lora_alpha',
  targets: 'target_modules',
  rankStabilised: 'use_rslora',
  rankPattern: 'rank_pattern',
  alphaPattern: 'alpha_pattern',
  excludeModules: 'exclude_modules',
  layersToTransform: 'layers_to_transform',
  layersPattern: 'layers_pattern',
} as const satisfies Record<keyof LoraSettings, keyof z.infer<typeof configSchema>>;

export interface PeftAdapter {
  settings: LoraSettings;
  modules: AdaptedModule[];
  /** Whether it has the score head of a reward model. */
  scoreHead: boolean;
  /** What it does to the vision model, by path, such as "vision_tower.encoder.layers.0.mlp.fc1". */
  visionModules: Map<string, Adaptation>;
}

/**
 * Reads adapter_config.json of a PEFT folder. Refuses whatever this package cannot compute exactly.
 * @throws InputError naming the file and field
 */
export function readAdapter(
  folder: string,
  { layers, multimodal }: { layers: number; multimodal: boolean },
): PeftAdapter {
  const file = join(folder, adapterFiles.config);
  for (const name of Object.values(adapterFiles))
    if (!existsSync(join(folder, name)))
      throw new InputError('no such file', {
        at: { file: join(folder, name) },
        fix: 'give a folder with adapter_config.json and adapter_model.safetensors, as PEFT and group-robust train write it',
      });
  refuseSpecial(join(folder, adapterFiles.weights));
  const config = checked(configSchema, readJson(file), { file });
  const refuse = (field: string, problem: string): never => {
    throw new InputError(problem, { at: { file, field } });
  };
  if (config.peft_type !== 'LORA') refuse('peft_type', `only LORA is supported, not "${config.peft_type}"`);
  const scoreHead = config.task_type === rewardTask;
  if (config.task_type != null && config.task_type !== 'CAUSAL_LM' && !scoreHead)
    refuse('task_type', `must be CAUSAL_LM, or ${rewardTask} for a reward model, not "${config.task_type}"`);
  const whole = config.modules_to_save ?? [];
  if (scoreHead && !whole.includes(scoreModule))
    refuse('modules_to_save', `must hold "${scoreModule}" with task_type ${rewardTask}: the head of a reward model`);
  if (whole.some((name) => !scoreHead || !headModules.includes(name)))
    refuse(
      'modules_to_save',
      `only LoRA weights can be loaded, no whole modules but the "${scoreModule}" of ${rewardTask} (found ${JSON.stringify(whole)})`,
    );
  if (config.bias != null && config.bias !== 'none') refuse('bias', `must be "none", not "${config.bias}"`);
  if (typeof config.init_lora_weights === 'string' && changesBase.test(config.init_lora_weights))
    refuse(
      'init_lora_weights',
      `"${config.init_lora_weights}" also changes the base weights; convert the adapter first`,
    );
  for (const [key, value] of Object.entries(config)) {
    if (Object.hasOwn(configSchema.shape, key) || ignored.has(key) || empty(value)) continue;
    refuse(key, `${refused[key] ?? 'is not known to this version'} (found ${JSON.stringify(value)})`);
  }
  const given: LoraSettings = {
    rank: config.r,
    alpha: config.lora_alpha,
    targets: config.target_modules,
    rankStabilised: config.use_rslora === true,
  };
  for (const key of ['rankPattern', 'alphaPattern', 'excludeModules', 'layersToTransform', 'layersPattern'] as const)
    if (!empty(config[keys[key]])) Object.assign(given, { [key]: config[keys[key]] });
  if (multimodal)
    for (const key of ['rankPattern', 'alphaPattern'] as const) refuseOlderNames(keys[key], given[key], refuse);
  const weights = headerOf(join(folder, adapterFiles.weights));
  const scoreName = peftPrefix + scoreTensor;
  if (scoreHead && weights.length > 0 && !weights.some(({ name }) => name === scoreName))
    throw new InputError('is missing, the head of a reward model', {
      at: { file: join(folder, adapterFiles.weights), tensor: scoreName },
    });
  const inVision = weights.filter(({ name }) => multimodal && isVision(bareName(name)));
  const visionPaths = new Set(inVision.map(({ name }) => modulePath(plainName(bareName(name), multimodal))));
  const { modules, others } = adaptedModules(
    given,
    {
      layers,
      prefix: peftNames(multimodal).model,
      others: multimodal ? [...visionPaths].map((path) => `model.${path}`) : undefined,
    },
    (key, problem) => refuse(keys[key], problem),
  );
  checkRanks(join(folder, adapterFiles.weights), weights, modules, multimodal);
  return {
    settings: plainest(given, modules, layers),
    modules,
    scoreHead,
    visionModules: new Map([...others].map(([path, adaptation]) => [path.replace(/^model\./, ''), adaptation])),
  };
}

/** Whether an adapter folder says that it is a reward model; {@link readAdapter} checks all of it. */
export function isRewardAdapter(folder: string): boolean {
  const file = join(folder, adapterFiles.config);
  return existsSync(file) && (readJson(file) as { task_type?: unknown } | null)?.task_type === rewardTask;
}

/** Weights are read under the names of every version of transformers, but a pattern with older ones would match nothing today, in PEFT too. */
function refuseOlderNames(
  field: string,
  pattern: Readonly<Record<string, number>> = {},
  refuse: (field: string, problem: string) => never,
): void {
  const older = Object.keys(pattern).find((key) => /language_model\\?\.model\b|\bvision_model\b/.test(key));
  if (older !== undefined)
    refuse(
      field,
      `"${older}" has names of an older transformers; its modules are model.language_model.… and model.vision_tower.… now`,
    );
}

/** Before the names of an adapter's weights. */
export const peftPrefix = 'base_model.model.';

/** The name of an adapter's weight without what PEFT puts before all of them. */
export function bareName(name: string): string {
  return name.startsWith(peftPrefix) ? name.slice(peftPrefix.length) : name;
}

/** The name that an adapter's weight has in every form, see {@link plainName}. */
export function plainPeftName(name: string, multimodal: boolean): string {
  return name.startsWith(peftPrefix) ? peftPrefix + plainName(bareName(name), multimodal) : name;
}

/** "….q_proj.lora_A.weight" → "….q_proj" */
function modulePath(name: string): string {
  return name.replace(/\.lora_[AB]\.weight$/, '');
}

/** What is in a safetensors file; nothing where it cannot be read, which loading then explains in full. */
function headerOf(file: string): readonly TensorEntry[] {
  try {
    using opened = new SafetensorsFile(file);
    return opened.entries;
  } catch {
    return [];
  }
}

/**
 * Checks the weights against the ranks before anything of those is allocated: a typo could make one huge.
 * @throws InputError naming the file and the first tensor of another rank
 */
function checkRanks(
  file: string,
  weights: readonly TensorEntry[],
  modules: readonly AdaptedModule[],
  multimodal: boolean,
): void {
  const entries = new Map(weights.map((entry) => [plainPeftName(entry.name, multimodal), entry]));
  for (const module of modules) {
    const entry = entries.get(`${peftPrefix}model.${projectionPath(module)}.lora_A.weight`);
    if (entry?.shape.length === 2 && entry.shape[0] !== module.rank)
      throw new InputError(
        `has shape [${entry.shape.join(', ')}], but ${adapterFiles.config} has rank ${module.rank}: expected [${module.rank}, ${entry.shape[1]}]`,
        { at: { file, tensor: entry.name } },
      );
  }
}

/** The settings with names of projections alone, where the adapted ones are so in all layers. */
function plainest(given: LoraSettings, modules: readonly AdaptedModule[], layers: number): LoraSettings {
  const found = new Set(modules.map(({ target }) => target));
  if (modules.length < layers * found.size) return given;
  const { excludeModules: _, layersToTransform: __, layersPattern: ___, ...rest } = given;
  return { ...rest, targets: loraTargets.filter((target) => found.has(target)) };
}

/** The vision model, which is not trained here, as PEFT names modules to leave out: by an expression of whole paths. */
const visionModules = '.*vision_tower.*';

/** `excluded` and the vision model. */
function withoutVision(excluded: string | readonly string[] = []): string {
  if (excluded.length === 0) return visionModules;
  if (typeof excluded !== 'string') {
    const ends = excluded.map((name) => name.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')).join('|');
    return `(?:.*\\.)?(?:${ends})|${visionModules}`;
  }
  return excluded.endsWith(visionModules) ? excluded : `(?:${excluded})|${visionModules}`;
}

/** Writes adapter_config.json as PEFT reads it. @param of `multimodal` of the model, whose modules PEFT finds by it */
export function writeAdapterConfig(
  folder: string,
  lora: LoraSettings,
  base: { baseModel?: string; revision?: string },
  { multimodal, scoreHead }: { multimodal: boolean; scoreHead: boolean },
): void {
  const config = {
    alpha_pattern: lora.alphaPattern ?? {},
    base_model_name_or_path: base.baseModel ?? null,
    bias: 'none',
    exclude_modules: (multimodal ? withoutVision(lora.excludeModules) : lora.excludeModules) ?? null,
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    layers_pattern: lora.layersPattern ?? null,
    layers_to_transform: lora.layersToTransform ?? null,
    lora_alpha: lora.alpha,
    lora_dropout: 0,
    modules_to_save: scoreHead ? [scoreModule] : null,
    peft_type: 'LORA',
    r: lora.rank,
    rank_pattern: lora.rankPattern ?? {},
    revision: base.revision ?? null,
    target_modules: lora.targets ?? loraTargets,
    task_type: scoreHead ? rewardTask : 'CAUSAL_LM',
    use_dora: false,
    use_rslora: lora.rankStabilised === true,
  };
  writeFileWhole(join(folder, adapterFiles.config), `${JSON.stringify(config, null, 2)}\n`);
}
