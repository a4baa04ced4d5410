import { cpSync, existsSync, openSync, readFileSync, rmSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { GemmaOptions } from '../../src/policy/gemma.js';
import { temporaryFolder } from '../temporary-folder.js';
import {
  allGradients,
  allValues,
  fixture,
  fixtureJson,
  largestDifference,
  normals,
  openPolicy,
  packedBatch,
  randomTrees,
  relativeError,
  responseCount,
  shakeAdapter,
} from './gemma-helpers.js';

/** Options that change where numbers are kept, or how often they are computed, must not change the numbers. */

const folder = temporaryFolder();

/** Log-probabilities, gradient and adapter after one step. */
async function outcome(model: string, options: GemmaOptions, vocabulary: number) {
  using policy = await openPolicy(model, { threads: 1, ...options });
  await policy.addAdapter({ rank: 3, alpha: 6 }, { accumulators: 2 });
  await shakeAdapter(policy);
  const trees = randomTrees(5, vocabulary, 4);
  const logps = await policy.forward(packedBatch(trees));
  await policy.backward(normals(responseCount(trees)), Int32Array.of(0, 1, 0, 0, 1));
  const gradient = await allGradients(policy, Float64Array.of(0.7, 0.3));
  await policy.step(Float64Array.of(0.7, 0.3), { learningRate: 1e-3, maxGradNorm: 1 });
  return { logps, gradient, values: await allValues(policy) };
}

describe('recompute', () => {
  it('gives the same bits', async () => {
    const model = 'random:tiny?vocab=97&hidden=40&heads=6&kv=2&head=10&mlp=56';
    expect(await outcome(model, { recompute: true }, 97)).toEqual(await outcome(model, {}, 97));
  });

  it.each([
    ['some projections', { targets: ['down_proj'] }, 5],
    ['some layers', { layersToTransform: [1, 3] }, 4],
  ])('works where only %s are adapted', async (_, part, layers) => {
    const run = async (recompute: boolean) => {
      using policy = await openPolicy('random:tiny?layers=5', { recompute, threads: 1 });
      await policy.addAdapter({ rank: 2, alpha: 2, ...part });
      await shakeAdapter(policy);
      const batch = packedBatch([{ prompt: [2, 5, 9], responses: [[7, 1], [8]] }]);
      await policy.forward(batch);
      const nodes = Object.entries(await policy.native.recordedNodes());
      // Layers before the first adapted one have no graph at all, those behind it are recomputed whether they have an adapter or not.
      const count = nodes.reduce((sum, [name, n]) => sum + (name.includes('Recomputed') ? n : 0), 0);
      expect(count).toBe(recompute ? layers : 0);
      await policy.backward(Float64Array.of(1, -1), Int32Array.of(0));
      return await allGradients(policy, Float64Array.of(1));
    };
    const gradient = await run(true);
    expect(gradient.some((value) => value !== 0)).toBe(true);
    expect(gradient).toEqual(await run(false));
  });
});

describe('base weights in bfloat16 under float32 arithmetic', () => {
  const { vocab_size: vocabulary } = fixtureJson<{ vocab_size: number }>('gemma-tiny/config.json');

  it('gives the same bits as float32 weights that were rounded beforehand', async () => {
    const rounded = join(folder, 'rounded');
    cpSync(fixture('gemma-tiny'), rounded, { recursive: true });
    roundToBfloat16(join(rounded, 'model.safetensors'));
    expect(await outcome(fixture('gemma-tiny'), { baseDtype: 'bfloat16' }, vocabulary)).toEqual(
      await outcome(rounded, {}, vocabulary),
    );
  });

  it('moves log-probabilities no further than the rounding of the weights does: 2 % of a nat a token here', async () => {
    const trees = randomTrees(8, vocabulary, 1);
    const tokens = trees.flatMap((tree) => tree.responses.map((response) => response.length));
    const scores = async (options: GemmaOptions) => {
      using policy = await openPolicy(fixture('gemma-tiny'), { threads: 1, ...options });
      return policy.logProbabilities(packedBatch(trees), 'policy');
    };
    const exact = await scores({});
    const kept = await scores({ baseDtype: 'bfloat16' });
    const perToken = exact.map((logp, i) => Math.abs(kept[i] - logp) / tokens[i]);
    expect(Math.max(...perToken)).toBeGreaterThan(0);
    expect(Math.max(...perToken)).toBeLessThan(0.02);
  });

  it('is refused for other types', async () => {
    await expect(openPolicy('random:tiny', { dtype: 'bfloat16', baseDtype: 'float32' })).rejects.toThrow(
      /kept in bfloat16 or in the type of the activations/,
    );
  });

  it.skipIf(!existsSync('/proc/self/status'))('leaves a bfloat16 checkpoint in its file', async () => {
    // 0.4 GB of zeros: a hole in the file, and a good model as far as loading goes.
    const vocab = 100_000;
    const shapes = { hidden: 2048, mlp: 8, heads: 1, headSize: 8 };
    const model = zeroCheckpoint(join(folder, 'zeros'), vocab, shapes);
    const before = anonymousMegabytes();
    using policy = await openPolicy(model, { baseDtype: 'bfloat16', threads: 1 });
    expect(anonymousMegabytes() - before).toBeLessThan(120);
    rmSync(model, { recursive: true });
    // The mapping outlives the name.
    const [logp] = await policy.logProbabilities(packedBatch([{ prompt: [2], responses: [[5]] }]), 'policy');
    expect(logp).toBeCloseTo(-Math.log(vocab), 6);
  });
});

describe('matrices that are large enough for oneDNN', () => {
  const model = 'random:tiny?vocab=600&hidden=520&heads=4&kv=1&head=130&mlp=1040';

  it('give what float64 gives, forward and backward', async () => {
    const single = await outcome(model, {}, 600);
    const double = await outcome(model, { dtype: 'float64' }, 600);
    expect(largestDifference(single.logps, double.logps)).toBeLessThan(2e-4);
    expect(relativeError(single.gradient, double.gradient)).toBeLessThan(1e-4);
  });

  it('give what float64 gives from the same bfloat16 weights, on two threads, and the same bits in every run', async () => {
    const options = { baseDtype: 'bfloat16', threads: 2 } as const;
    const single = await outcome(model, options, 600);
    const double = await outcome(model, { dtype: 'float64', baseDtype: 'bfloat16' }, 600);
    expect(largestDifference(single.logps, double.logps)).toBeLessThan(2e-4);
    expect(relativeError(single.gradient, double.gradient)).toBeLessThan(1e-4);
    expect(await outcome(model, options, 600)).toEqual(single);
  });
});

/** Rounds every number of a float32 safetensors file to the nearest bfloat16, ties to even. */
function roundToBfloat16(path: string): void {
  const bytes = readFileSync(path);
  const start = 8 + Number(bytes.readBigUInt64LE());
  for (let at = start; at < bytes.length; at += 4) {
    const bits = bytes.readUInt32LE(at);
    const rounded = (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
    bytes.writeUInt32LE((rounded << 16) >>> 0, at);
  }
  writeFileSync(path, bytes);
}

interface Shapes {
  hidden: number;
  mlp: number;
  heads: number;
  headSize: number;
}

/** One layer, every weight zero, bfloat16. */
function zeroCheckpoint(path: string, vocab: number, { hidden, mlp, heads, headSize }: Shapes): string {
  const layer = 'model.layers.0.';
  const tensors: Record<string, number[]> = {
    'model.embed_tokens.weight': [vocab, hidden],
    [`${layer}input_layernorm.weight`]: [hidden],
    [`${layer}self_attn.q_proj.weight`]: [heads * headSize, hidden],
    [`${layer}self_attn.k_proj.weight`]: [headSize, hidden],
    [`${layer}self_attn.v_proj.weight`]: [headSize, hidden],
    [`${layer}self_attn.o_proj.weight`]: [hidden, heads * headSize],
    [`${layer}mlp.gate_proj.weight`]: [mlp, hidden],
    [`${layer}mlp.up_proj.weight`]: [mlp, hidden],
    [`${layer}mlp.down_proj.weight`]: [hidden, mlp],
    [`${layer}post_attention_layernorm.weight`]: [hidden],
    'model.norm.weight': [hidden],
  };
  let end = 0;
  const entries = Object.entries(tensors).map(([name, shape]) => {
    const begin = end;
    end += 2 * shape.reduce((product, size) => product * size, 1);
    return [name, { dtype: 'BF16', shape, data_offsets: [begin, end] }];
  });
  const json = JSON.stringify(Object.fromEntries(entries));
  const header = Buffer.from(json.padEnd(Math.ceil(json.length / 8) * 8), 'utf8');
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  cpSync(fixture('gemma-tiny'), path, { recursive: true });
  const file = join(path, 'model.safetensors');
  rmSync(file);
  const descriptor = openSync(file, 'w');
  writeSync(descriptor, Buffer.concat([length, header]));
  truncateSync(file, 8 + header.length + end);
  const config = JSON.parse(readFileSync(join(path, 'config.json'), 'utf8')) as object;
  writeFileSync(
    join(path, 'config.json'),
    JSON.stringify({
      ...config,
      num_hidden_layers: 1,
      vocab_size: vocab,
      hidden_size: hidden,
      intermediate_size: mlp,
      num_attention_heads: heads,
      num_key_value_heads: 1,
      head_dim: headSize,
    }),
  );
  return path;
}

/** Memory of this process that no file backs. */
function anonymousMegabytes(): number {
  return Number(/RssAnon:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))![1]) / 1000;
}
