import { SyncProcess } from '../processes/sync-process.js';
import type { PatternReply, PatternRequest } from './pattern-process.js';

/** Which modules an adapter changes, and how: PEFT's rules on their paths, as PEFT 0.21 has them (tuners_utils.py, lora/model.py). */

/** The projections LoRA can adapt, by PEFT's short names, each with its place in a layer; in the order they are applied. */
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

/** LoRA y += scale · x Aᵀ Bᵀ as PEFT names it. */
export interface LoraSettings {
  /** r. */
  rank: number;
  /** α; the update is scaled by α/r, or by α/√r when rank-stabilised. */
  alpha: number;
  /** Ends of module paths, or a regular expression over whole ones. Default: all seven projections of every layer. */
  targets?: string | readonly string[];
  rankStabilised?: boolean;
  /** Ranks of other modules than `rank` holds for; the first key counts that is a regular expression of the end of a path. */
  rankPattern?: Readonly<Record<string, number>>;
  /** The same of α. */
  alphaPattern?: Readonly<Record<string, number>>;
  /** Modules left out, named as in `targets`. */
  excludeModules?: string | readonly string[];
  /** The only layers that get an update; not with a regular expression as `targets`. */
  layersToTransform?: number | readonly number[];
  /** What stands before a layer's number in a path, as regular expressions. Default: anything. */
  layersPattern?: string | readonly string[];
}

/** What an adapter does to a module. */
export interface Adaptation {
  rank: number;
  scale: number;
}

/** What it does to one projection of one layer. */
export interface AdaptedModule extends Adaptation {
  layer: number;
  target: LoraTarget;
}

export interface AdaptedModel {
  layers: number;
  /** Before "layers.0.…" and "embed_tokens" in the paths of its modules. */
  prefix: string;
  /** Paths of linear modules outside the language model, which an adapter may name; undefined: none. */
  others?: readonly string[];
}

/** @param key the setting at fault */
export type RefuseLora = (key: keyof LoraSettings, problem: string) => never;

/** Path of a projection from the model's prefix on, such as "layers.0.self_attn.q_proj". */
export function projectionPath({ layer, target }: Pick<AdaptedModule, 'layer' | 'target'>): string {
  return `layers.${layer}.${projections[target]}`;
}

/**
 * The adapted projections, layer by layer, and which of the model's `others` are adapted too. Embedding and head, which Gemma ties, are
 * refused, and so is what would adapt no projection at all.
 * @throws InputError by `refuse`
 */
export function adaptedModules(
  lora: LoraSettings,
  { layers, prefix, others }: AdaptedModel,
  refuse: RefuseLora,
): { modules: AdaptedModule[]; others: Map<string, Adaptation> } {
  const places = new Map<string, Pick<AdaptedModule, 'layer' | 'target'>>();
  for (let layer = 0; layer < layers; layer++)
    for (const target of loraTargets) places.set(prefix + projectionPath({ layer, target }), { layer, target });
  const paths = [...places.keys()];
  const tied = ['lm_head', `${prefix}embed_tokens`];
  const known = [...paths, ...(others ?? [])];
  const { targets = loraTargets } = lora;
  if (typeof targets === 'string' && lora.layersToTransform !== undefined)
    refuse('layersToTransform', 'needs a list as target_modules, as in PEFT');
  const isExpression = typeof targets === 'string' && targets.toLowerCase() !== 'all-linear';
  const wanted = typeof targets !== 'string' || isExpression ? targets : known;
  const adaptations = adaptationsOf({ ...lora, targets: wanted }, [...known, ...tied], refuse);
  const nameOf = (path: string) => (typeof wanted === 'string' ? wanted : wanted.find((name) => pathEnd(name)(path)));
  for (const path of tied)
    if (adaptations.has(path))
      refuse('targets', `"${nameOf(path)}" means ${path}, which cannot be adapted: Gemma ties embedding and head`);
  const valid = `valid are ${loraTargets.join(', ')}`;
  // Beside a part for images there are modules that only its own names would tell.
  if (typeof wanted !== 'string' && others === undefined)
    for (const name of wanted)
      if (![...paths, ...tied].some(pathEnd(name))) refuse('targets', `unknown target "${name}"; ${valid}`);
  const modules = [...places].flatMap(([path, place]) => {
    const found = adaptations.get(path);
    return found ? [{ ...place, ...found }] : [];
  });
  if (modules.length === 0)
    refuse(
      'targets',
      isExpression
        ? `unknown target "${targets}"; ${valid}`
        : 'is empty, or all of it is left out: nothing would be adapted',
    );
  return { modules, others: new Map([...adaptations].filter(([path]) => others?.includes(path))) };
}

/** What the adapter does to those of `paths` that it changes. */
function adaptationsOf(
  lora: LoraSettings & { targets: string | readonly string[] },
  paths: readonly string[],
  refuse: RefuseLora,
): Map<string, Adaptation> {
  const excluded = named('excludeModules', lora.excludeModules ?? [], paths, refuse);
  const targeted = named('targets', lora.targets, paths, refuse);
  const inLayers = layerFilter(lora, paths, refuse);
  // As in PEFT, layers_to_transform selects among what ends of paths mean; a whole path means itself.
  const isWhole = (path: string) => typeof lora.targets !== 'string' && lora.targets.includes(path);
  const adapted = paths.filter((path) => !excluded(path) && targeted(path) && (inLayers(path) || isWhole(path)));
  const rankOf = patterned('rankPattern', lora.rankPattern, lora.rank, adapted, refuse);
  const alphaOf = patterned('alphaPattern', lora.alphaPattern, lora.alpha, adapted, refuse);
  return new Map(
    adapted.map((path) => {
      const rank = rankOf(path);
      return [path, { rank, scale: alphaOf(path) / (lora.rankStabilised ? Math.sqrt(rank) : rank) }];
    }),
  );
}

type Test = (path: string) => boolean;

function pathEnd(name: string): Test {
  return (path) => path === name || path.endsWith(`.${name}`);
}

/** A list names ends of paths; a text is a regular expression of whole ones, none where it is empty. */
function named(
  key: 'targets' | 'excludeModules',
  wanted: string | readonly string[],
  paths: readonly string[],
  refuse: RefuseLora,
): Test {
  if (wanted === '' || wanted.length === 0) return () => false;
  if (typeof wanted !== 'string') {
    const ends = wanted.map(pathEnd);
    return (path) => ends.some((end) => end(path));
  }
  const [found = []] = matchAll(key, [`(?:${wanted})$`], paths, refuse);
  const matched = new Set(paths.filter((_, i) => found[i] !== null));
  return (path) => matched.has(path);
}

function layerFilter(
  { layersToTransform: wanted, layersPattern = [] }: LoraSettings,
  paths: readonly string[],
  refuse: RefuseLora,
): Test {
  const patterns = typeof layersPattern === 'string' ? [layersPattern].filter(Boolean) : layersPattern;
  if (wanted === undefined) {
    if (patterns.length > 0) refuse('layersPattern', 'needs layers_to_transform, as in PEFT');
    return () => true;
  }
  const layers = typeof wanted === 'number' ? [wanted] : wanted;
  if (layers.length === 0) return () => true;
  const expressions = patterns.length === 0 ? ['.*?\\.[^.]*'] : patterns.map((pattern) => `(?:^|.*?\\.)${pattern}`);
  const found = matchAll(
    'layersPattern',
    expressions.map((expression) => `${expression}\\.(?<idx>\\d+)\\.`),
    paths,
    refuse,
  );
  const layerOf = new Map(paths.map((path, i) => [path, found.find((matches) => matches[i] !== null)?.[i]]));
  return (path) => layers.some((layer) => layerOf.get(path) === String(layer));
}

/** The value of the first key that matches the end of a path, else `value`. */
function patterned(
  key: 'rankPattern' | 'alphaPattern',
  pattern: Readonly<Record<string, number>> = {},
  value: number,
  paths: readonly string[],
  refuse: RefuseLora,
): (path: string) => number {
  const entries = Object.entries(pattern);
  if (entries.length === 0) return () => value;
  const found = matchAll(
    key,
    entries.map(([name]) => `(.*\\.)?(${name})$`),
    paths,
    refuse,
  );
  const values = new Map(paths.map((path, i) => [path, entries.find((_, n) => found[n]?.[i] !== null)?.[1] ?? value]));
  return (path) => values.get(path) ?? value;
}

/** Limits in MB and seconds on regular expressions: one from a file may be crafted so that it never ends. */
const PATTERN_LIMITS = { memory: 64, seconds: 10 };
const patternRunner = new SyncProcess<PatternRequest, PatternReply>(
  new URL('./pattern-process.js', import.meta.url).href,
  PATTERN_LIMITS.memory,
);

function matchAll(
  key: keyof LoraSettings,
  expressions: readonly string[],
  texts: readonly string[],
  refuse: RefuseLora,
): (string | null)[][] {
  const outcome = patternRunner.ask({ expressions, texts }, PATTERN_LIMITS.seconds);
  if (typeof outcome === 'string') {
    const { memory, seconds } = PATTERN_LIMITS;
    return refuse(
      key,
      `its regular expression takes more than ${outcome === 'late' ? `${seconds} s` : `${memory} MB`}; list the projections`,
    );
  }
  const { reply } = outcome;
  if ('problem' in reply) return refuse(key, `is not a regular expression: ${reply.problem}`);
  return reply.matches;
}
