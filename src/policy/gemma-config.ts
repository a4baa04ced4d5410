import { existsSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { InputError } from '../errors.js';
import { checked, readJson } from '../files/read.js';
import type { NativeGemmaConfig } from '../native/types.js';
import { checkpointFiles, tensorNames } from './checkpoint-files.js';
import { plainName } from './weight-names.js';

/** What a model is made of: a checkpoint on disk, or random weights of a named shape. */
export type GemmaSource = {
  config: NativeGemmaConfig;
  /** Id of the BOS token, with which every prompt starts. */
  bos: number;
} & (
  | { kind: 'checkpoint'; files: string[]; multimodal: boolean }
  | { kind: 'random'; seed: number; standardDeviation: number }
);

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
  const { model_type: modelType, text_config: text, bos_token_id: ownBos } = json as Record<string, unknown>;
  const multimodal = modelType === multimodalType;
  const bos = multimodal ? (text as { bos_token_id?: unknown }).bos_token_id : ownBos;
  const files = checkpointFiles(model);
  checkLayers({ layers: config.layers, multimodal }, files, file);
  return {
    kind: 'checkpoint',
    config,
    bos: Number.isInteger(bos) ? (bos as number) : defaultBos,
    files,
    multimodal,
  };
}

/**
 * Checks the number of layers against the weights before anything is allocated for that many: a typo could make it huge. Files that
 * cannot be read, and other sizes, are left to the loading, which explains them in full before it allocates anything.
 * @throws InputError naming the field
 */
function checkLayers(
  { layers, multimodal }: { layers: number; multimodal: boolean },
  files: readonly string[],
  configFile: string,
): void {
  const names = files.map(tensorNames);
  if (names.includes(undefined)) return;
  const numbers = names.flatMap((some) =>
    [...(some ?? [])].map((name) => /^model\.layers\.(\d+)\./.exec(plainName(name, multimodal))?.[1]),
  );
  const found = new Set(numbers.filter((number) => number !== undefined)).size;
  if (layers > found)
    throw new InputError(`is ${layers}, but the weights have ${found} layers`, {
      at: { file: configFile, field: `${multimodal ? 'text_config.' : ''}num_hidden_layers` },
      fix: 'take config.json and weights from one checkpoint',
    });
}

const size = z
  .int()
  .min(1)
  .max(2 ** 30);
const positive = z.number().positive();

// Loose: keys about generation, training or bookkeeping do not concern the forward pass.
const ropeSchema = z.looseObject({
  rope_theta: positive.nullish(),
  rope_type: z.string().nullish(),
  type: z.string().nullish(),
  factor: positive.nullish(),
});
type RopeKeys = z.infer<typeof ropeSchema>;

const configSchema = z.looseObject({
  vocab_size: size,
  hidden_size: size,
  intermediate_size: size,
  num_hidden_layers: size,
  num_attention_heads: size,
  num_key_value_heads: size,
  head_dim: size,
  rms_norm_eps: positive.default(1e-6),
  hidden_act: z.string().nullish(),
  hidden_activation: z.string().nullish(),
  query_pre_attn_scalar: positive.optional(),
  attn_logit_softcapping: positive.nullish(),
  final_logit_softcapping: positive.nullish(),
  sliding_window: size.nullish(),
  layer_types: z.array(z.enum(['sliding_attention', 'full_attention'])).nullish(),
  sliding_window_pattern: size.max(1000).optional(),
  rope_theta: positive.nullish(),
  rope_local_base_freq: positive.nullish(),
  rope_scaling: ropeSchema.nullish(),
  rope_parameters: z
    .looseObject({ full_attention: ropeSchema.nullish(), sliding_attention: ropeSchema.nullish() })
    .and(ropeSchema)
    .nullish(),
});
type HuggingFaceConfig = z.infer<typeof configSchema>;

/** Keys of config.json that ask for something not supported here; ignoring one would silently give a wrong model. */
const refusals: [field: string, harmless: (value: unknown) => boolean, reason: string][] = [
  ['attention_bias', (value) => !value, 'biases in attention are not supported'],
  ['tie_word_embeddings', (value) => value !== false, 'Gemma ties its head to its embedding; untied is not supported'],
  ['use_bidirectional_attention', (value) => !value, 'only causal attention is supported'],
  ['quantization_config', (value) => value == null, 'quantised checkpoints are not supported'],
];

/** What makes a generation: the layout of its layers, and what transformers takes where its config.json leaves a key out. */
interface Generation {
  norms: NativeGemmaConfig['norms'];
  queryKeyNorms: boolean;
  /** Soft caps that have an effect; the others must be absent or null. In Gemma 3 transformers has attention's and ignores it. */
  caps: readonly string[];
  windows: boolean;
  /** Where `layer_types` is absent, every `period`-th layer attends to all positions before it. */
  period: number;
  /** Whether windows have a rotary base of their own. */
  localRope: boolean;
  defaults: Partial<HuggingFaceConfig>;
}

/**
 * Defaults of transformers' Gemma3TextConfig, the same from its first version (4.50) on: files leave out what equals them, as those of the
 * hub's google/gemma-3-4b-pt, 12b and 27b do. They all have the other sizes and `sliding_window`, so that one without is an error.
 */
const defaultsOf3 = {
  vocab_size: 262208,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  head_dim: 256,
  query_pre_attn_scalar: 256,
  rope_theta: 1e6,
  rope_local_base_freq: 1e4,
};

const gemma3Text: Generation = {
  norms: 'around',
  queryKeyNorms: true,
  caps: ['final_logit_softcapping'],
  windows: true,
  period: 6,
  localRope: true,
  defaults: defaultsOf3,
};

/** The model that sees images, whose language model `text_config` describes. */
const multimodalType = 'gemma3';

const generations: Record<string, Generation> = {
  gemma: {
    norms: 'before',
    queryKeyNorms: false,
    caps: [],
    windows: false,
    period: 1,
    localRope: false,
    defaults: {},
  },
  gemma2: {
    norms: 'around',
    queryKeyNorms: false,
    caps: ['attn_logit_softcapping', 'final_logit_softcapping'],
    windows: true,
    period: 2,
    localRope: false,
    defaults: { query_pre_attn_scalar: 256 },
  },
  gemma3_text: gemma3Text,
  // transformers leaves its logits uncapped, whatever the key says.
  [multimodalType]: { ...gemma3Text, caps: [] },
};

/**
 * Reads Hugging Face's config.json of a Gemma 1, 2 or 3, with the key names of old and new transformers; of a Gemma 3 that sees images the
 * language model alone. In a Gemma 1 `gelu` means the tanh form: early configs said `gelu` by mistake.
 * @throws InputError naming the field, also where its value asks for something that is not supported
 */
export function parseGemmaConfig(value: unknown, file: string): NativeGemmaConfig {
  const whole = checked(z.looseObject({ text_config: z.looseObject({}).nullish() }), value, { file });
  const name = String(whole.model_type);
  const generation = Object.hasOwn(generations, name) ? generations[name] : undefined;
  const inText = name === multimodalType ? 'text_config.' : '';
  const refuse: Refuse = (field, problem, fix) => {
    throw new InputError(problem, { at: { file, field: inText + field }, fix });
  };
  const refuseKeys = (keys: Record<string, unknown>, place = '') => {
    for (const [field, harmless, reason] of refusals)
      if (!harmless(keys[field]))
        throw new InputError(`${reason} (found ${JSON.stringify(keys[field])})`, {
          at: { file, field: place + field },
        });
  };
  if (!generation)
    throw new InputError(
      `must be one of ${Object.keys(generations).join(', ')}, not ${JSON.stringify(whole.model_type)}`,
      {
        at: { file, field: 'model_type' },
        fix: 'use a Gemma of generation 1, 2 or 3, such as google/gemma-2b, google/gemma-2-2b or google/gemma-3-270m',
      },
    );
  const { architectures } = whole;
  if (Array.isArray(architectures) && architectures.some((made) => String(made).endsWith('ForSequenceClassification')))
    throw new InputError('is a reward model or classifier in one piece, which gives no answers', {
      at: { file, field: 'architectures' },
      fix: 'name the model that it was made of, and for its scores the adapter (--adapter) that was merged into it',
    });
  refuseKeys(whole);
  const raw = inText ? textConfigOf(whole, file) : whole;
  if (inText) refuseKeys(raw, inText);
  const completed = { ...generation.defaults, ...raw };
  const config = inText
    ? checked(z.object({ text_config: configSchema }), { text_config: completed }, { file }).text_config
    : checked(configSchema, completed, { file });
  for (const field of ['hidden_activation', 'hidden_act'] as const) {
    const activation = config[field];
    if (activation != null && activation !== 'gelu' && activation !== 'gelu_pytorch_tanh')
      refuse(field, `must be "gelu_pytorch_tanh" or "gelu", not "${activation}"`);
    if (activation === 'gelu' && field === 'hidden_activation' && name !== 'gemma')
      refuse(
        field,
        'is "gelu", the exact form, but only the tanh form is supported',
        'write "gelu_pytorch_tanh" if meant',
      );
  }
  for (const field of ['attn_logit_softcapping', 'final_logit_softcapping'] as const) {
    if (!generation.caps.includes(field) && config[field] != null)
      refuse(field, `this soft-capping belongs to another Gemma, not to model_type "${name}"`);
    // transformers would take 50 and 30, which a reader of the file cannot see.
    if (name === 'gemma2' && config[field] === undefined)
      refuse(field, 'is missing', 'write its value, or null for none');
  }
  const layers = config.num_hidden_layers;
  return withConsistentHeads(
    {
      layers,
      hidden: config.hidden_size,
      heads: config.num_attention_heads,
      keyValueHeads: config.num_key_value_heads,
      headSize: config.head_dim,
      mlp: config.intermediate_size,
      vocabulary: config.vocab_size,
      rmsEpsilon: config.rms_norm_eps,
      norms: generation.norms,
      queryKeyNorms: generation.queryKeyNorms,
      attentionScale:
        (generation.windows ? (config.query_pre_attn_scalar ?? config.head_dim) : config.head_dim) ** -0.5,
      attentionCap: config.attn_logit_softcapping ?? 0,
      logitCap: config.final_logit_softcapping ?? 0,
      ...attentionOfLayers(config, layers, generation, refuse),
    },
    { keyValueHeads: 'num_key_value_heads', headSize: 'head_dim' },
    refuse,
  );
}

type Refuse = (field: string, problem: string, fix?: string) => never;

/** @throws InputError where the model that sees images does not describe its language model as a Gemma 3 */
function textConfigOf(
  { text_config: text }: { text_config?: Record<string, unknown> | null },
  file: string,
): Record<string, unknown> {
  const refuse = (field: string, problem: string): never => {
    throw new InputError(problem, { at: { file, field } });
  };
  if (text == null) return refuse('text_config', 'is missing: it describes the language model');
  if (text.model_type !== undefined && text.model_type !== 'gemma3_text')
    refuse('text_config.model_type', `must be gemma3_text, not ${JSON.stringify(text.model_type)}`);
  return text;
}

function attentionOfLayers(
  config: HuggingFaceConfig,
  layers: number,
  generation: Generation,
  refuse: Refuse,
): Pick<NativeGemmaConfig, 'attentionKinds' | 'layerPattern'> {
  const { layer_types: types, sliding_window: window, sliding_window_pattern: period = generation.period } = config;
  if (types && types.length !== layers) refuse('layer_types', `has ${types.length} entries for ${layers} layers`);
  // Only Gemma 3 reads the key; the others would use another pattern than it says.
  if (!types && !generation.localRope && period !== generation.period)
    refuse(
      'sliding_window_pattern',
      `must be ${generation.period} in this generation, not ${period}`,
      'give layer_types',
    );
  const layerPattern = types
    ? types.map((type) => Number(type === 'sliding_attention'))
    : Array.from({ length: period }, (_, n) => Number(n + 1 < period));
  if (!generation.windows)
    for (const [field, isThere] of [
      ['sliding_window', window != null],
      ['layer_types', layerPattern.includes(1)],
    ] as const)
      if (isThere) refuse(field, 'windows belong to later Gemmas, not to model_type "gemma"');
  const full = { window: 0, ...ropeOf(config, 'full_attention', generation, refuse) };
  if (!layerPattern.includes(1)) return { attentionKinds: [full], layerPattern: [0] };
  const sliding = {
    window: window ?? refuse('sliding_window', 'is missing'),
    ...ropeOf(config, 'sliding_attention', generation, refuse),
  };
  return { attentionKinds: [full, sliding], layerPattern };
}

/**
 * The rotary embedding of one kind of layers, as transformers 5 reads it. Gemma 1 and 2 have one for all layers, in `rope_parameters`
 * or, older, in `rope_theta` and `rope_scaling`. Gemma 3 has one of each kind: in `rope_parameters` by kind; where that says no base,
 * `rope_theta` and, of windows, `rope_local_base_freq`. `rope_scaling` never holds for its windows.
 */
function ropeOf(
  config: HuggingFaceConfig,
  kind: 'full_attention' | 'sliding_attention',
  { localRope, defaults }: Generation,
  refuse: Refuse,
): { ropeTheta: number; ropeFactor: number } {
  const { rope_parameters: parameters, rope_scaling: scaling } = config;
  const byKind = parameters != null && ('full_attention' in parameters || 'sliding_attention' in parameters);
  if (parameters != null && byKind !== localRope)
    refuse(
      'rope_parameters',
      localRope ? 'must have "full_attention" and "sliding_attention"' : 'must be of all layers',
    );
  if (parameters != null && scaling != null)
    refuse('rope_scaling', 'is given beside rope_parameters', 'remove the one that does not hold');
  const isLocal = localRope && kind === 'sliding_attention';
  const field = parameters == null ? 'rope_scaling' : localRope ? `rope_parameters.${kind}` : 'rope_parameters';
  const rope: RopeKeys = (localRope ? parameters?.[kind] : parameters) ?? (isLocal ? {} : (scaling ?? {}));
  // transformers 4 goes by it, transformers 5 passes it over: the factor is lost.
  if (localRope && rope.rope_type == null && rope.type != null && rope.type !== 'default')
    refuse(`${field}.type`, 'is read in this generation by some versions of transformers only', 'call it rope_type');
  const type = rope.rope_type ?? rope.type ?? 'default';
  if (type !== 'default' && type !== 'linear')
    refuse(`${field}.rope_type`, `must be "default" or "linear", not "${type}"`);
  const factor = type === 'linear' ? (rope.factor ?? refuse(`${field}.factor`, 'is missing')) : 1;
  const baseName = isLocal ? 'rope_local_base_freq' : 'rope_theta';
  const base = config[baseName] ?? defaults[baseName] ?? 10000;
  return { ropeTheta: rope.rope_theta ?? base, ropeFactor: factor };
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

/** A shape of a generation, written as its config.json has it. */
function shape(
  modelType: string,
  [layers, hidden, heads, keyValueHeads, headSize, mlp, vocabulary]: number[],
  keys: Record<string, unknown> = {},
): NativeGemmaConfig {
  const config = {
    model_type: modelType,
    num_hidden_layers: layers,
    hidden_size: hidden,
    num_attention_heads: heads,
    num_key_value_heads: keyValueHeads,
    head_dim: headSize,
    intermediate_size: mlp,
    vocab_size: vocabulary,
    ...keys,
  };
  return parseGemmaConfig(config, 'a named shape');
}

const gemma2 = { attn_logit_softcapping: 50, final_logit_softcapping: 30, sliding_window: 4096 };

// Large enough that untrained features tell prompts apart, and that the tied head, whose logits this scales, can be
// confident of one token in 1024.
const tiny = { standardDeviation: 0.2 };
const real = { standardDeviation: 0.02 };
/** Sizes: layers, hidden, heads, key heads, head size, MLP, vocabulary. */
const namedShapes: Record<string, { config: NativeGemmaConfig; standardDeviation: number }> = {
  tiny: { config: shape('gemma', [2, 64, 4, 1, 16, 256, 1024]), ...tiny },
  'gemma-2b': { config: shape('gemma', [18, 2048, 8, 1, 256, 16384, 256000]), ...real },
  'gemma-7b': { config: shape('gemma', [28, 3072, 16, 16, 256, 24576, 256000]), ...real },
  'gemma-2-2b': { config: shape('gemma2', [26, 2304, 8, 4, 256, 9216, 256000], gemma2), ...real },
  'gemma-2-9b': { config: shape('gemma2', [42, 3584, 16, 8, 256, 14336, 256000], gemma2), ...real },
  'gemma-3-270m': {
    config: shape('gemma3_text', [18, 640, 4, 1, 256, 2048, 262144], { sliding_window: 512 }),
    ...real,
  },
  'gemma-3-1b': {
    config: shape('gemma3_text', [26, 1152, 4, 1, 256, 6912, 262144], { sliding_window: 512 }),
    ...real,
  },
  'gemma-3-4b': {
    config: shape('gemma3_text', [34, 2560, 8, 4, 256, 10240, 262208], {
      sliding_window: 1024,
      rope_scaling: { rope_type: 'linear', factor: 8 },
    }),
    ...real,
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
} as const;

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
  const named = name !== undefined && Object.hasOwn(namedShapes, name) ? namedShapes[name] : undefined;
  if (!named)
    return refuse(
      '--model',
      `no random model "${name}"`,
      `use ${Object.keys(namedShapes)
        .map((n) => `random:${n}`)
        .join(' or ')}`,
    );
  const { config, standardDeviation } = named;
  const result = { ...config };
  let seed = 0;
  const seen = new Set<string>();
  for (const [key, text] of new URLSearchParams(query)) {
    const field = `--model ${key}`;
    if (key !== 'seed' && !Object.hasOwn(shapeParameters, key))
      refuse(
        field,
        'is not a parameter of a random model',
        `use ${[...Object.keys(shapeParameters), 'seed'].join(', ')}`,
      );
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
  if (result.headSize !== config.headSize && config.norms === 'before') result.attentionScale = result.headSize ** -0.5;
  withConsistentHeads(result, { keyValueHeads: '--model kv', headSize: '--model head' }, refuse);
  return { config: result, seed, standardDeviation };
}
