import { afterAll, expect, it } from 'vitest';
import { present } from '../../src/errors.js';
import { loadNative } from '../../src/native/load.js';
import type { NativeKernels } from '../../src/native/types.js';
import { GemmaPolicy } from '../../src/policy/gemma.js';
import {
  allGradients,
  fixture,
  largestDifference,
  normals,
  openPolicy,
  packedBatch,
  randomTrees,
  relativeError,
  responseCount,
  shakeAdapter,
} from './gemma-helpers.js';

afterAll(() => {
  loadNative().setKernels('fused');
  loadNative().limitRegisters(16);
});

/**
 * bfloat16 where it is the default, on a card, and there against LibTorch's plain operations on the same card: `fused` is flash attention
 * and the CUDA kernels. Without one the same plan of attention on the CPU.
 */
const onCard = loadNative().nativeInfo().cudaDevices > 0;
const device = onCard ? 'cuda' : 'cpu';
const own: NativeKernels = onCard ? 'fused' : 'gpu-plan';

it.each([
  // Several key heads; the largest head that flash attention takes.
  ['two key heads', 'random:tiny?vocab=97&hidden=64&heads=4&kv=2&head=16&mlp=64'],
  ['heads of 256', 'random:tiny?vocab=97&hidden=64&heads=4&kv=1&head=256&mlp=64'],
  // A soft cap, which flash attention does not take; windows shorter than the prompts.
  ['Gemma 2', fixture('gemma2-tiny')],
  ['Gemma 3', fixture('gemma3-tiny')],
])(`${device}: %s in bfloat16 scores and learns as by plain operations, with the same bits twice`, async (_, model) => {
  using policy = await GemmaPolicy.open(model, { device, dtype: 'bfloat16', threads: 1 });
  await policy.addAdapter({ rank: 3, alpha: 6 }, { accumulators: 1 });
  await shakeAdapter(policy);
  const { vocabulary } = policy.config;
  // Many responses a prompt, whose keys' gradients are sums of as many; one of a single token, which has no row.
  const trees = [...randomTrees(4, vocabulary, 6), { prompt: Int32Array.of(2), responses: [Int32Array.of(1)] }];
  const batch = packedBatch(trees);
  const cotangents = normals(responseCount(trees));
  const outcome = async (kernels: NativeKernels) => {
    loadNative().setKernels(kernels);
    const scores = await policy.forward(batch);
    await policy.backward(cotangents, new Int32Array(trees.length));
    const gradient = await allGradients(policy, Float64Array.of(1));
    await policy.discardGradients();
    return { scores, gradient };
  };
  const first = await outcome(own);
  expect(await outcome(own)).toEqual(first);
  const plain = await outcome('libtorch');
  // Two ways of rounding to eight bits in every operation were 0.08 and 0.1 apart; a key too many or too few is 1.
  expect(largestDifference(first.scores, plain.scores)).toBeLessThan(0.25);
  expect(relativeError(first.gradient, plain.gradient)).toBeLessThan(0.25);
});

/** What a policy says that depends on its adapter: of responses, or of next tokens. */
const outcomes = {
  async scores(policy: GemmaPolicy) {
    return await policy.logProbabilities(packedBatch(randomTrees(3000, 97, 3)), 'policy');
  },
  async logits(policy: GemmaPolicy) {
    const sequences = [];
    const tokens = Int32Array.from({ length: 97 }, (_, i) => i);
    for (const token of tokens) {
      const { sequence } = await policy.prefill(Int32Array.of(2, token));
      sequences.push(await policy.fork(sequence, 1));
      await policy.release(sequence);
    }
    const logits = Float64Array.from(await policy.decode(sequences, tokens));
    for (const sequence of sequences) await policy.release(sequence);
    return logits;
  },
};

/** By how much an adapter on one projection, whose B is N(0, 0.001²), moves all numbers of an outcome. */
async function effect(outcome: keyof typeof outcomes, target: string, dtype: 'float32' | 'bfloat16') {
  loadNative().setKernels('fused');
  using policy = await openPolicy('random:tiny?layers=1&vocab=97&hidden=64&heads=4&kv=2&head=16&mlp=64', { dtype });
  await policy.addAdapter({ rank: 4, alpha: 4, targets: [target] }, { accumulators: 1 });
  const before = await outcomes[outcome](policy);
  const { name, shape } = present(policy.native.trainable().find(({ name }) => name.includes('lora_B')));
  await policy.native.writeTrainable(
    name,
    normals(shape[0] * shape[1], 1).map((x) => 1e-3 * x),
  );
  return (await outcomes[outcome](policy)).map((after, i) => after - before[i]);
}

it.each([
  ['scores', 'o_proj', 16],
  ['scores', 'down_proj', 16],
  ['scores', 'o_proj', 8],
  ['logits', 'o_proj', 16],
] as const)(
  'does not round away what a small adapter does to %s, on %s, in registers of %i',
  async (outcome, target, registers) => {
    loadNative().limitRegisters(registers);
    const exact = await effect(outcome, target, 'float32');
    const rounded = await effect(outcome, target, 'bfloat16');
    const dot = (a: Float64Array, b: Float64Array) => a.reduce((sum, x, i) => sum + x * b[i], 0);
    const kept = dot(rounded, exact) / dot(exact, exact);
    // 0.92 to 1.05, give or take 0.05 to 0.08; added to products that are rounded already, 0.33 to 0.41.
    expect(kept).toBeGreaterThan(0.7);
    expect(kept).toBeLessThan(1.3);
  },
);
