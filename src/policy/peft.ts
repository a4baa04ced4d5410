import { existsSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { InputError } from '../errors.js';
import { checked, readJson, refuseSpecial } from '../files/read.js';
import { writeFileWhole } from '../files/write.js';
import { SyncProcess } from '../processes/sync-process.js';
import type { PatternReply, PatternRequest } from './pattern-process.js';
import { SafetensorsFile, type TensorEntry } from './safetensors.js';

/** The files of a PEFT adapter folder. */
export const adapterFiles = { config: 'adapter_config.json', weights: 'adapter_model.safetensors' } as const;

/** The projections LoRA can adapt, by PEFT's short names, each with its place in a layer. */
const projections = {
  q_proj: 'self_attn.q_proj',
  k_proj: 'self_attn.k_proj',
  v_proj: 'self_attn.v_proj',
  o_proj: 'self_attn.o_proj',
  gate_proj: 'mlp.gate_proj',
  up_proj: 'mlp.up_proj',
  down_proj: 'mlp.down_proj',
} as const;
export type LoraTarget = keyof typeof projections;
export const loraTargets = Object.keys(projections) as LoraTarget[];

/** Path of a projection inside its layer, such as "self_attn.q_proj". */
export function projectionPath(target: LoraTarget): string {
  return projections[target];
}

/** LoRA y += (α/r) x Aᵀ Bᵀ as PEFT names it. */
export interface LoraSettings {
  /** r. */
  rank: number;
  /** α; the update is scaled by α/r, or by α/√r when rank-stabilised. */
  alpha: number;
  /** Default: all seven projections. */
  targets?: readonly string[];
  rankStabilised?: boolean;
}

/** The factor on the low-rank update. */
export function loraScale({ rank, alpha, rankStabilised }: LoraSettings): number {
  return alpha / (rankStabilised ? Math.sqrt(rank) : rank);
}

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
  'layers_pattern',
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
  alpha_pattern: 'one alpha for all projections is supported',
  exclude_modules: 'list the wanted projections in target_modules instead',
  fan_in_fan_out: 'transposed weights are not Gemma’s',
  layer_replication: 'replicated layers are not supported',
  layers_to_transform: 'an adapter must cover every layer',
  lora_bias: 'biases are not supported',
  modules_to_save: 'only LoRA weights can be loaded, no whole modules',
  rank_pattern: 'one rank for all projections is supported',
  target_parameters: 'use target_modules',
  trainable_token_indices: 'trained embeddings are not supported: Gemma ties embedding and head',
  use_dora: 'DoRA is not supported',
};

/** Initialisations that also change the base weights; without that change the adapter means something else. */
const changesBase = /^(pissa|olora|corda|loftq|lora_ga)/;

const configSchema = z.looseObject({
  peft_type: z.string(),
  task_type: z.string().nullish(),
  r: z.int().min(1).max(65536),
  lora_alpha: z.number().refine((alpha) => Number.isFinite(Math.fround(alpha)), 'is too large for a number of 32 bits'),
  target_modules: z.union([z.string(), z.array(z.string())]),
  use_rslora: z.boolean().nullish(),
  bias: z.string().nullish(),
  init_lora_weights: z.union([z.boolean(), z.string()]).nullish(),
});

/**
 * Reads adapter_config.json of a PEFT folder for a model of `layers` layers. Refuses whatever this package cannot compute exactly.
 * @throws InputError naming the file and field
 */
export function readAdapterConfig(folder: string, layers: number): LoraSettings & { targets: LoraTarget[] } {
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
  if (config.task_type != null && config.task_type !== 'CAUSAL_LM')
    refuse('task_type', `must be CAUSAL_LM, not "${config.task_type}"`);
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
  checkRank(join(folder, adapterFiles.weights), config.r);
  return {
    rank: config.r,
    alpha: config.lora_alpha,
    targets: matchTargets(config.target_modules, layers, (problem) => refuse('target_modules', problem)),
    rankStabilised: config.use_rslora === true,
  };
}

/**
 * Checks the weights against `r` before anything of that rank is allocated: a typo could make it huge. A file that cannot be read is left
 * to the loading, which explains it in full.
 * @throws InputError naming the file and the first tensor of another rank
 */
function checkRank(file: string, rank: number): void {
  let entries: TensorEntry[];
  try {
    using opened = new SafetensorsFile(file);
    entries = opened.entries;
  } catch {
    return;
  }
  for (const path of Object.values(projections))
    for (const { name, shape } of entries)
      if (name.endsWith(`.${path}.lora_A.weight`) && shape.length === 2 && shape[0] !== rank)
        throw new InputError(
          `has shape [${shape.join(', ')}], but ${adapterFiles.config} has r = ${rank}: expected [${rank}, ${shape[1]}]`,
          { at: { file, tensor: name } },
        );
}

/**
 * PEFT's rule: a list matches ends of module paths; a string is a regular expression over whole paths, or `all-linear`
 * (which PEFT saves as the list of all paths). A projection must be adapted in every layer or in none.
 */
function matchTargets(
  wanted: string | readonly string[],
  layers: number,
  refuse: (problem: string) => never,
): LoraTarget[] {
  if (wanted === 'all-linear') return loraTargets;
  const pathOf = (target: LoraTarget, layer: number) => `model.layers.${layer}.${projections[target]}`;
  const paths = loraTargets.flatMap((target) => Array.from({ length: layers }, (_, n) => pathOf(target, n)));
  const patterns =
    typeof wanted === 'string'
      ? [pathPattern(wanted, [...paths, ...tiedModules], refuse)]
      : wanted.map((name) => ({ name, matches: pathEnd(name) }));
  for (const { name, matches } of patterns) {
    for (const tied of tiedModules)
      if (matches(tied)) refuse(`"${name}" means ${tied}, which cannot be adapted: Gemma ties embedding and head`);
    if (!paths.some(matches)) refuse(`unknown target "${name}"; valid are ${loraTargets.join(', ')}`);
  }
  const found = loraTargets.filter((target) => {
    const adapted = Array.from({ length: layers }, (_, n) =>
      patterns.some(({ matches }) => matches(pathOf(target, n))),
    );
    const count = adapted.filter(Boolean).length;
    if (count > 0 && count < layers) refuse(`has ${target} in ${count} of ${layers} layers; it must be in all or none`);
    return count > 0;
  });
  if (found.length === 0) refuse('is empty: nothing would be adapted');
  return found;
}

const tiedModules = ['lm_head', 'model.embed_tokens'];

function pathEnd(name: string): (path: string) => boolean {
  return (path) => path === name || path.endsWith(`.${name}`);
}

/** Limits in MB and seconds on a regular expression: one from a file may be crafted so that it never ends. */
const PATTERN_LIMITS = { memory: 64, seconds: 10 };
const patternRunner = new SyncProcess<PatternRequest, PatternReply>(
  new URL('./pattern-process.js', import.meta.url).href,
  PATTERN_LIMITS.memory,
);

function pathPattern(pattern: string, paths: readonly string[], refuse: (problem: string) => never) {
  const outcome = patternRunner.ask({ pattern, texts: paths }, PATTERN_LIMITS.seconds);
  if (typeof outcome === 'string') {
    const { memory, seconds } = PATTERN_LIMITS;
    return refuse(
      `its regular expression takes more than ${outcome === 'late' ? `${seconds} s` : `${memory} MB`}; list the projections`,
    );
  }
  const { reply } = outcome;
  if ('problem' in reply) return refuse(`is not a regular expression: ${reply.problem}`);
  const matched = new Set(paths.filter((_, i) => reply.matched[i]));
  return { name: pattern, matches: (path: string) => matched.has(path) };
}

/** Writes adapter_config.json as PEFT reads it. */
export function writeAdapterConfig(
  folder: string,
  lora: LoraSettings,
  base: { baseModel?: string; revision?: string },
): void {
  const config = {
    alpha_pattern: {},
    base_model_name_or_path: base.baseModel ?? null,
    bias: 'none',
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    layers_to_transform: null,
    lora_alpha: lora.alpha,
    lora_dropout: 0,
    modules_to_save: null,
    peft_type: 'LORA',
    r: lora.rank,
    rank_pattern: {},
    revision: base.revision ?? null,
    target_modules: lora.targets ?? loraTargets,
    task_type: 'CAUSAL_LM',
    use_dora: false,
    use_rslora: lora.rankStabilised === true,
  };
  writeFileWhole(join(folder, adapterFiles.config), `${JSON.stringify(config, null, 2)}\n`);
}
