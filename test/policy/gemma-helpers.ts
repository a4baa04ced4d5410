import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import type { NativeBatch } from '../../src/native/types.js';
import { Random } from '../../src/numbers/random.js';
import { type GemmaOptions, GemmaPolicy } from '../../src/policy/gemma.js';

export interface Tree {
  prompt: ArrayLike<number>;
  responses: ArrayLike<number>[];
}

export function packedBatch(trees: Tree[]): NativeBatch {
  return {
    tokens: Int32Array.from(
      trees.flatMap((tree) => [tree.prompt, ...tree.responses].flatMap((ids) => Array.from(ids))),
    ),
    promptLengths: Int32Array.from(trees, (tree) => tree.prompt.length),
    responseCounts: Int32Array.from(trees, (tree) => tree.responses.length),
    responseLengths: Int32Array.from(trees.flatMap((tree) => tree.responses.map((response) => response.length))),
  };
}

/** Random trees with one to three responses. */
export function randomTrees(count: number, vocabulary: number, seed = 0): Tree[] {
  const random = Random.stream(seed, 'test trees');
  const ids = (longest: number) =>
    Int32Array.from({ length: 1 + random.integer(longest) }, () => random.integer(vocabulary));
  return Array.from({ length: count }, () => ({
    prompt: ids(9),
    responses: Array.from({ length: 1 + random.integer(3) }, () => ids(5)),
  }));
}

export function responseCount(trees: Tree[]): number {
  return trees.reduce((sum, tree) => sum + tree.responses.length, 0);
}

/** In float32 unless something else is asked for, also on a machine with a card, where tests of models run on that. */
export function openPolicy(model: string, options: GemmaOptions = {}): Promise<GemmaPolicy> {
  return GemmaPolicy.open(model, { dtype: 'float32', ...options });
}

/** n numbers from N(0, 1). */
export function normals(n: number, seed = 0): Float64Array {
  const random = Random.stream(seed, 'test normals');
  return Float64Array.from({ length: n }, () => random.normal());
}

export function fixture(path: string): string {
  return fileURLToPath(new URL(`../fixtures/${path}`, import.meta.url));
}

export function fixtureJson<T>(path: string): T {
  return JSON.parse(readFileSync(fixture(path), 'utf8')) as T;
}

/** Every trainable tensor's gradient, laid end to end in the order of trainable(). */
export async function allGradients(policy: GemmaPolicy, coefficients: Float64Array): Promise<Float64Array> {
  const parts: number[] = [];
  for (const { name } of policy.native.trainable())
    parts.push(...(await policy.native.readGradient(name, coefficients)));
  return Float64Array.from(parts);
}

export async function allValues(policy: GemmaPolicy): Promise<Float64Array> {
  const parts: number[] = [];
  for (const { name } of policy.native.trainable()) parts.push(...(await policy.native.readTrainable(name)));
  return Float64Array.from(parts);
}

/** The gradients of the adapter, in accumulator 0, are those of the same names, to 1e-4 each, and there are no others. */
export async function expectGradients(policy: GemmaPolicy, gradients: Record<string, number[]>): Promise<void> {
  const names = policy.native.trainable().map(({ name }) => name);
  expect(new Set(names)).toEqual(new Set(Object.keys(gradients)));
  const norm = (values: ArrayLike<number>) => Math.hypot(...Array.from(values));
  const longest = Math.max(...names.map((name) => norm(gradients[name])));
  for (const name of names) {
    const ours = await policy.native.readGradient(name, Float64Array.of(1));
    const error = norm(gradients[name].map((value, i) => ours[i] - value));
    // A query that sees one key has no gradient at all.
    expect(error, name).toBeLessThan(1e-4 * norm(gradients[name]) + 1e-7 * longest);
  }
}

/** Gives every trainable tensor N(0, 0.2²) values, B too, so that both factors have a gradient. */
export async function shakeAdapter(policy: GemmaPolicy, seed = 0): Promise<void> {
  for (const [i, { name, shape }] of policy.native.trainable().entries())
    await policy.native.writeTrainable(
      name,
      normals(shape[0] * shape[1], seed + i).map((x) => 0.2 * x),
    );
}

export function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) throw new RangeError(`lengths ${a.length} and ${b.length}`);
  let largest = 0;
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs(a[i] - b[i]);
    if (Number.isNaN(difference)) return difference;
    if (difference > largest) largest = difference;
  }
  return largest;
}

/** ‖a − b‖ / ‖b‖ */
export function relativeError(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) throw new RangeError(`lengths ${a.length} and ${b.length}`);
  let difference = 0;
  let size = 0;
  for (let i = 0; i < a.length; i++) {
    difference += (a[i] - b[i]) ** 2;
    size += b[i] ** 2;
  }
  return Math.sqrt(difference / size);
}

/** The tensors of a small float32 safetensors file, read without the addon. */
export function readSafetensors(path: string): Map<string, Float32Array> {
  const bytes = readFileSync(path);
  const headerLength = Number(bytes.readBigUInt64LE());
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + headerLength)) as Record<string, { data_offsets: number[] }>;
  const tensors = new Map<string, Float32Array>();
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const [begin, end] = entry.data_offsets;
    const copy = Uint8Array.from(bytes.subarray(8 + headerLength + begin, 8 + headerLength + end));
    tensors.set(name, new Float32Array(copy.buffer));
  }
  return tensors;
}
