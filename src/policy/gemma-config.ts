import { existsSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { InputError } from '../errors.js';
import { checked, readJson } from '../files/read.js';
import type { NativeGemmaConfig } from '../native/types.js';
import { checkpointFiles, tensorNames } from './checkpoint-files.js';

/** What a model is made of: a checkpoint on disk, or random weights of a named shape. */
export type GemmaSource = {
  config: NativeGemmaConfig;
  /** Id of the BOS token, with which every prompt starts. */
  bos: number;
} & ({ kind: 'checkpoint'; files: string[] } | { kind: 'random'; seed: number; standardDeviation: number });

/** Gemma's BOS id where config.json does not name one. */
const defaultBos = 2;

/**
 * Resolves `--model`: a folder with config.json and safetensors, or `random:NAME?key=value&…`.
 * @throws InputError naming the file and field, or the parameter, at fault
 */
export function resolveGemma(model: string): GemmaSource {
  if (model.startsWith('random:')) return { kind: 'random', bos: defaultBos, ...parseRandomModel(model) };
  const file = join(model, 'config.json');
  if (!existsSync(file))
    throw new InputError('no such file', {
      at: { file },
      fix:
        'name a model folder with config.json and model.safetensors (or model.safetensors.index.json and its shards); ' +
        'an id of the hub such as google/gemma-2b; or random:tiny',
    });
  const json = readJson(file);
  const config = parseGemmaConfig(json, file);
  const bos = (json as { bos_token_id?: unknown }).bos_token_id;
  const files = checkpointFiles(model);
  checkLayers(config.layers, files, file);
  return {
    kind: 'checkpoint',
    config,
    bos: Number.isInteger(bos) ? (bos as number) : defaultBos,
    files,
  };
}

/**
 * Holds the number of layers against the weights before anything is made of that many, which a slip of the pen would make huge.
 * What cannot be read, and other sizes, are left to the loading, which explains them in full and makes nothing before.
 * @throws InputError naming the field
 */
function checkLayers(layers: number, files: readonly string[], configFile: string): void {
  const names = files.map(tensorNames);
  if (names.includes(undefined)) return;
  const numbers = names.flatMap((some) => [...(some ?? [])].map((name) => /^model\.layers\.(\d+)\./.exec(name)?.[1]));
  const found = new Set(numbers.filter((number) => number !== undefined)).size;
  if (layers > found)
    throw new InputError(`is ${layers}, and the weights are of ${found} layers`, {
      at: { file: configFile, field: 'num_hidden_layers' },
      fix: 'take config.json and weights from one checkpoint',
    });
}

const size = z
  .int()
  .min(1)
  .max(2 ** 30);
const positive = z.number().positive();

// Loose: keys about generation, training or bookkeeping do not concern the forward pass.
const configSchema = z.looseObject({
  vocab_size: size,
  hidden_size: size,
  intermediate_size: size,
  num_hidden_layers: size,
  num_attention_heads: size,
  num_key_value_heads: size,
  head_dim: size,
  rms_norm_eps: positive.default(1e-6),
  rope_theta: positive.nullish(),
  rope_parameters: z.looseObject({ rope_theta: positive.nullish(), rope_type: z.string().nullish() }).nullish(),
  hidden_act: z.string().nullish(),
  hidden_activation: z.string().nullish(),
});

/** Values that ask for something Gemma 1 does not have; ignoring one would give a wrong model in silence. */
const refusals: [field: string, harmless: (value: unknown) => boolean, reason: string][] = [
  ['attn_logit_softcapping', (value) => value == null, 'logit soft-capping belongs to Gemma 2, which is not supported'],
  [
    'final_logit_softcapping',
    (value) => value == null,
    'logit soft-capping belongs to Gemma 2, which is not supported',
  ],
  ['attention_bias', (value) => !value, 'biases in attention are not supported'],
  ['tie_word_embeddings', (value) => value !== false, 'Gemma ties its head to its embedding; untied is not supported'],
  ['rope_scaling', (value) => value == null, 'scaled rotary embedding is not supported'],
  ['use_bidirectional_attention', (value) => !value, 'only causal attention is supported'],
  ['quantization_config', (value) => value == null, 'quantised checkpoints are not supported'],
];

/**
 * Reads Hugging Face's config.json of a Gemma 1, with the key names of old and new transformers. `gelu` means the tanh form:
 * early Gemma configs said `gelu` by mistake.
 * @throws InputError naming the field
 */
export function parseGemmaConfig(value: unknown, file: string): NativeGemmaConfig {
  const raw = checked(z.looseObject({}), value, { file }) as Record<string, unknown>;
  const refuse = (field: string, problem: string, fix?: string): never => {
    throw new InputError(problem, { at: { file, field }, fix });
  };
  if (raw.model_type !== 'gemma')
    refuse(
      'model_type',
      `must be "gemma", not ${JSON.stringify(raw.model_type)}`,
      /^gemma\d/.test(String(raw.model_type))
        ? 'later Gemmas have another architecture (soft-capping, other norms); use a Gemma 1 such as google/gemma-2b'
        : 'use a Gemma 1 checkpoint such as google/gemma-2b',
    );
  for (const [field, harmless, reason] of refusals)
    if (!harmless(raw[field])) refuse(field, `${reason} (found ${JSON.stringify(raw[field])})`);
  const config = checked(configSchema, raw, { file });
  for (const field of ['hidden_activation', 'hidden_act'] as const) {
    const name = config[field];
    if (name != null && name !== 'gelu' && name !== 'gelu_pytorch_tanh')
      refuse(field, `must be "gelu_pytorch_tanh" or "gelu", not "${name}"`);
  }
  const ropeType = config.rope_parameters?.rope_type ?? 'default';
  if (ropeType !== 'default') refuse('rope_parameters.rope_type', `only "default" is supported, not "${ropeType}"`);
  return withConsistentHeads(
    {
      layers: config.num_hidden_layers,
      hidden: config.hidden_size,
      heads: config.num_attention_heads,
      keyValueHeads: config.num_key_value_heads,
      headSize: config.head_dim,
      mlp: config.intermediate_size,
      vocabulary: config.vocab_size,
      rmsEpsilon: config.rms_norm_eps,
      ropeTheta: config.rope_parameters?.rope_theta ?? config.rope_theta ?? 10000,
    },
    { keyValueHeads: 'num_key_value_heads', headSize: 'head_dim' },
    refuse,
  );
}

function withConsistentHeads(
  config: NativeGemmaConfig,
  names: { keyValueHeads: string; headSize: string },
  refuse: (field: string, problem: string) => never,
): NativeGemmaConfig {
  if (config.heads % config.keyValueHeads !== 0)
    refuse(names.keyValueHeads, `${config.keyValueHeads} does not divide the ${config.heads} attention heads`);
  if (config.headSize % 2 !== 0) refuse(names.headSize, `must be even, not ${config.headSize}`);
  return config;
}

const shared = { rmsEpsilon: 1e-6, ropeTheta: 10000 };

const namedShapes: Record<string, { config: NativeGemmaConfig; standardDeviation: number }> = {
  tiny: {
    config: { layers: 2, hidden: 64, heads: 4, keyValueHeads: 1, headSize: 16, mlp: 256, vocabulary: 1024, ...shared },
    // Large enough that untrained features tell prompts apart, and that the tied head, whose logits this scales, can be
    // confident of one token in 1024.
    standardDeviation: 0.2,
  },
  'gemma-2b': {
    config: {
      layers: 18,
      hidden: 2048,
      heads: 8,
      keyValueHeads: 1,
      headSize: 256,
      mlp: 16384,
      vocabulary: 256000,
      ...shared,
    },
    standardDeviation: 0.02,
  },
};

/** Query parameters of `random:` models and the sizes they replace. */
const shapeParameters = {
  layers: 'layers',
  vocab: 'vocabulary',
  hidden: 'hidden',
  heads: 'heads',
  kv: 'keyValueHeads',
  head: 'headSize',
  mlp: 'mlp',
} as const satisfies Record<string, keyof NativeGemmaConfig>;

/**
 * `random:tiny`, `random:gemma-2b?layers=6&vocab=64000&seed=0`: a shape of this table with sizes replaced, and the seed of
 * its weights (default 0).
 * @throws InputError on an unknown name or parameter, or a value that is not a whole number in range
 */
export function parseRandomModel(model: string): {
  config: NativeGemmaConfig;
  seed: number;
  standardDeviation: number;
} {
  const [, name, query = ''] = /^random:([^?]*)(?:\?(.*))?$/s.exec(model) ?? [];
  const refuse = (field: string, problem: string, fix?: string): never => {
    throw new InputError(problem, { at: { field }, fix });
  };
  if (name === undefined || !Object.hasOwn(namedShapes, name))
    return refuse(
      '--model',
      `no random model "${name}"`,
      `use ${Object.keys(namedShapes)
        .map((n) => `random:${n}`)
        .join(' or ')}`,
    );
  const { config, standardDeviation } = namedShapes[name];
  const result = { ...config };
  let seed = 0;
  const seen = new Set<string>();
  for (const [key, text] of new URLSearchParams(query)) {
    const field = `--model ${key}`;
    if (key !== 'seed' && !Object.hasOwn(shapeParameters, key))
      refuse(field, 'is no parameter of a random model', `use ${[...Object.keys(shapeParameters), 'seed'].join(', ')}`);
    if (seen.has(key)) refuse(field, 'is given twice');
    seen.add(key);
    const low = key === 'seed' ? 0 : 1;
    const high = key === 'seed' ? Number.MAX_SAFE_INTEGER : 2 ** 30;
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < low || value > high)
      refuse(field, `must be a whole number from ${low} to ${high}, not "${text}"`);
    if (key === 'seed') seed = value;
    else result[shapeParameters[key as keyof typeof shapeParameters]] = value;
  }
  withConsistentHeads(result, { keyValueHeads: '--model kv', headSize: '--model head' }, refuse);
  return { config: result, seed, standardDeviation };
}
