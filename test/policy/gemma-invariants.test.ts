import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { loadNative } from '../../src/native/load.js';
import type { DType, NativeKernels } from '../../src/native/types.js';
import type { GemmaPolicy } from '../../src/policy/gemma.js';
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
  type Tree,
} from './gemma-helpers.js';

const SMALL = 'random:tiny?vocab=97&hidden=40&heads=6&kv=2&head=10&mlp=56';
const lora = { rank: 3, alpha: 6 };

/** One thread: these models are too small to share out, and the machine may be busy. */
async function openSmall(accumulators = 1, dtype: DType = 'float32', device?: string): Promise<GemmaPolicy> {
  const policy = await openPolicy(SMALL, { dtype, device, threads: 1 });
  await policy.addAdapter(lora, { accumulators });
  await shakeAdapter(policy);
  return policy;
}

describe('a batch of trees', () => {
  it('scores as its trees do one by one, and as separate sequences do', async () => {
    using policy = await openSmall();
    const trees = randomTrees(6, 97);
    const together = await policy.logProbabilities(packedBatch(trees), 'policy');
    const oneByOne: number[] = [];
    const separate: number[] = [];
    for (const tree of trees) {
      oneByOne.push(...(await policy.logProbabilities(packedBatch([tree]), 'policy')));
      for (const response of tree.responses)
        separate.push(
          ...(await policy.logProbabilities(packedBatch([{ prompt: tree.prompt, responses: [response] }]), 'policy')),
        );
    }
    expect(largestDifference(oneByOne, together)).toBeLessThan(1e-5);
    expect(largestDifference(separate, together)).toBeLessThan(1e-5);
  });

  it('has the gradient of its separate sequences', async () => {
    using policy = await openSmall(2, 'float64');
    const trees = randomTrees(4, 97, 3);
    const cotangents = normals(responseCount(trees));
    await policy.forward(packedBatch(trees));
    await policy.backward(cotangents, new Int32Array(trees.length));
    const split: Tree[] = trees.flatMap(({ prompt, responses }) =>
      responses.map((response) => ({ prompt, responses: [response] })),
    );
    await policy.forward(packedBatch(split));
    await policy.backward(cotangents, new Int32Array(split.length).fill(1));
    expect(
      relativeError(
        await allGradients(policy, Float64Array.of(0, 1)),
        await allGradients(policy, Float64Array.of(1, 0)),
      ),
    ).toBeLessThan(1e-12);
  });

  it('depends on the order of prompt tokens, and not on other responses or trees', async () => {
    using policy = await openSmall();
    const score = (trees: Tree[]) => policy.logProbabilities(packedBatch(trees), 'policy');
    const [base] = await score([{ prompt: [2, 5, 9], responses: [[7, 1]] }]);
    const [withSibling] = await score([
      {
        prompt: [2, 5, 9],
        responses: [
          [7, 1],
          [8, 8, 8],
        ],
      },
    ]);
    const [swapped] = await score([{ prompt: [5, 2, 9], responses: [[7, 1]] }]);
    expect(Math.abs(withSibling - base)).toBeLessThan(1e-5);
    expect(Math.abs(swapped - base)).toBeGreaterThan(1e-3);
  });

  it('gives probabilities: those of all one-token responses sum to one', async () => {
    using policy = await openSmall();
    const responses = Array.from({ length: 97 }, (_, token) => [token]);
    const logps = await policy.logProbabilities(packedBatch([{ prompt: [2, 50, 60], responses }]), 'policy');
    expect(Math.abs(logps.reduce((sum, logp) => sum + Math.exp(logp), 0) - 1)).toBeLessThan(1e-6);
  });

  it('adds up token by token: log p(ab) = log p(a) + log p(b after a)', async () => {
    using policy = await openSmall();
    const logps = await policy.logProbabilities(
      packedBatch([
        { prompt: [2, 50], responses: [[60, 70], [60]] },
        { prompt: [2, 50, 60], responses: [[70]] },
      ]),
      'policy',
    );
    expect(Math.abs(logps[0] - logps[1] - logps[2])).toBeLessThan(1e-5);
  });

  it('adds up so, with its gradients, when attention takes prompts and responses in several tiles of 64 rows', async () => {
    using policy = await openSmall(2, 'float64');
    const ids = (length: number, seed: number) => Int32Array.from({ length }, (_, i) => (i * i + 13 * i + seed) % 97);
    const prompt = ids(150, 1);
    const responses = [ids(140, 2), ids(2, 3), ids(64, 4), ids(70, 5), ids(1, 6)];
    const cotangents = normals(responses.length);
    const whole = await policy.forward(packedBatch([{ prompt, responses }]));
    await policy.backward(cotangents, Int32Array.of(0));

    // Every response cut in two: p(ab) = p(a) p(b after a); those of one token stay whole.
    const parts: Tree[] = [];
    const partCotangents: number[] = [];
    const sums = new Float64Array(responses.length);
    const owners: number[] = [];
    for (const [r, response] of responses.entries()) {
      const cut = Math.ceil(response.length * 0.4);
      const pieces = [{ prompt, responses: [response.slice(0, cut)] }];
      if (cut < response.length)
        pieces.push({ prompt: Int32Array.of(...prompt, ...response.slice(0, cut)), responses: [response.slice(cut)] });
      for (const piece of pieces) {
        parts.push(piece);
        partCotangents.push(cotangents[r]);
        owners.push(r);
      }
    }
    const pieces = await policy.forward(packedBatch(parts));
    await policy.backward(Float64Array.from(partCotangents), new Int32Array(parts.length).fill(1));
    for (const [i, owner] of owners.entries()) sums[owner] += pieces[i];
    expect(largestDifference(sums, whole)).toBeLessThan(1e-10);
    expect(
      relativeError(
        await allGradients(policy, Float64Array.of(0, 1)),
        await allGradients(policy, Float64Array.of(1, 0)),
      ),
    ).toBeLessThan(1e-12);
  });
});

describe('attention by sequences, as a GPU computes it', () => {
  afterAll(() => loadNative().setKernels('fused'));

  it.each(['gemma-tiny', 'gemma2-tiny', 'gemma3-tiny'])(
    'is in float64 that of trees with a mask, with its gradient: %s',
    async (checkpoint) => {
      using policy = await openPolicy(fixture(checkpoint), { device: 'cpu', dtype: 'float64', threads: 1 });
      await policy.addAdapter(lora, { accumulators: 1 });
      await shakeAdapter(policy);
      const { vocabulary } = policy.config;
      // Responses of one token have no row, and no sequence.
      const trees = [...randomTrees(5, vocabulary, 4), { prompt: Int32Array.of(2), responses: [Int32Array.of(1)] }];
      const batch = packedBatch(trees);
      const cotangents = normals(responseCount(trees));
      const outcome = async (kernels: NativeKernels) => {
        loadNative().setKernels(kernels);
        const scores = await policy.forward(batch);
        const nodes = await policy.native.recordedNodes();
        await policy.backward(cotangents, new Int32Array(trees.length));
        const gradient = await allGradients(policy, Float64Array.of(1));
        await policy.discardGradients();
        return { scores, gradient, nodes };
      };
      const sequences = await outcome('gpu-plan');
      const masked = await outcome('libtorch');
      expect(relativeError(sequences.scores, masked.scores)).toBeLessThan(1e-13);
      expect(relativeError(sequences.gradient, masked.gradient)).toBeLessThan(1e-12);
      // Not one implementation compared with itself.
      expect(sequences.nodes).not.toEqual(masked.nodes);
    },
  );
});

describe('a vocabulary that the head takes in several chunks of rows', () => {
  const vocabulary = 2 ** 18;
  const folder = mkdtempSync(join(tmpdir(), 'gemma-invariants-'));
  afterAll(() => {
    loadNative().setKernels('fused');
    rmSync(folder, { recursive: true, force: true });
  });

  /** A Gemma 2 whose logits are far beyond their cap, as no random model's are. */
  function writeCapped(): string {
    const [hidden, mlp] = [8, 8];
    const config = {
      ...fixtureJson<object>('gemma2-tiny/config.json'),
      ...{
        vocab_size: vocabulary,
        hidden_size: hidden,
        intermediate_size: mlp,
        num_hidden_layers: 1,
        layer_types: null,
      },
      ...{ num_attention_heads: 2, num_key_value_heads: 1, head_dim: 4, final_logit_softcapping: 3 },
    };
    writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
    const shapes: Record<string, number[]> = {
      'model.embed_tokens.weight': [vocabulary, hidden],
      'model.norm.weight': [hidden],
    };
    const ofLayer = {
      'self_attn.q_proj': [8, hidden],
      'self_attn.k_proj': [4, hidden],
      'self_attn.v_proj': [4, hidden],
      'self_attn.o_proj': [hidden, 8],
      'mlp.gate_proj': [mlp, hidden],
      'mlp.up_proj': [mlp, hidden],
      'mlp.down_proj': [hidden, mlp],
      input_layernorm: [hidden],
      post_attention_layernorm: [hidden],
      pre_feedforward_layernorm: [hidden],
      post_feedforward_layernorm: [hidden],
    };
    for (const [name, shape] of Object.entries(ofLayer)) shapes[`model.layers.0.${name}.weight`] = shape;
    let end = 0;
    const header: Record<string, object> = {};
    const parts = Object.entries(shapes).map(([name, shape], seed) => {
      const values = Float32Array.from(
        normals(
          shape.reduce((a, b) => a * b),
          seed,
        ),
      );
      header[name] = { dtype: 'F32', shape, data_offsets: [end, end + values.byteLength] };
      end += values.byteLength;
      return Buffer.from(values.buffer);
    });
    const json = Buffer.from(JSON.stringify(header));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(json.length));
    writeFileSync(join(folder, 'model.safetensors'), Buffer.concat([length, json, ...parts]));
    return folder;
  }
  const capped = writeCapped();

  it.each([
    [`random:tiny?layers=1&vocab=${vocabulary}&hidden=8&mlp=8`, 'fused'],
    [`random:tiny?layers=1&vocab=${vocabulary}&hidden=8&mlp=8`, 'libtorch'],
    [capped, 'fused'],
    [capped, 'libtorch'],
  ] as const)('gives the log-probs and the gradient of single responses: %s, %s kernels', async (model, kernels) => {
    loadNative().setKernels(kernels);
    using policy = await openPolicy(model, { threads: 1 });
    await policy.addAdapter(lora, { accumulators: 2 });
    await shakeAdapter(policy);
    const ids = (n: number, seed: number) =>
      Int32Array.from({ length: n }, (_, i) => (seed * 7919 + i * 104729) % vocabulary);
    // Its first and its last word too.
    const ends = Int32Array.of(0, vocabulary - 1, 0);
    const trees = Array.from({ length: 4 }, (_, t) => ({
      prompt: ids(3, t),
      responses: [Int32Array.of(...ids(12, t + 9), ...ends)],
    }));
    const together = await policy.forward(packedBatch(trees));
    await policy.backward(Float64Array.of(1, -2, 3, 0.5), new Int32Array(4));
    for (const [t, tree] of trees.entries()) {
      const [alone] = await policy.forward(packedBatch([tree]));
      expect(Math.abs(alone - together[t])).toBeLessThan(1e-4);
      await policy.backward(Float64Array.of([1, -2, 3, 0.5][t]), Int32Array.of(1));
    }
    const gradient = await allGradients(policy, Float64Array.of(0, 1));
    // The cap's slope is 1 − t² of capped logits with t near 1, so their rounding, and the order in which a processor sums
    // products, weigh a thousandfold.
    const tolerance = model === capped ? 1e-3 : 1e-5;
    expect(relativeError(await allGradients(policy, Float64Array.of(1, 0)), gradient)).toBeLessThan(tolerance);

    // Both ways of it in the type that judges the others.
    using exact = await openPolicy(model, { threads: 1, dtype: 'float64' });
    await exact.addAdapter(lora);
    await shakeAdapter(exact);
    expect(relativeError(together, await exact.forward(packedBatch(trees)))).toBeLessThan(1e-6);
    await exact.backward(Float64Array.of(1, -2, 3, 0.5), new Int32Array(4));
    expect(relativeError(gradient, await allGradients(exact, Float64Array.of(1)))).toBeLessThan(
      Math.max(tolerance, 1e-4),
    );
  });
});

describe('gradient accumulators', () => {
  it('keep groups apart exactly, in whatever order the trees come', async () => {
    using policy = await openSmall(3, 'float64');
    const trees = randomTrees(7, 97, 5);
    const groups = Int32Array.of(2, 0, 0, 1, 2, 1, 0);
    const cotangents = normals(responseCount(trees), 1);
    await policy.forward(packedBatch(trees));
    await policy.backward(cotangents, groups);
    const alpha = [0.2, 0.5, 0.3];
    const combined = await allGradients(policy, Float64Array.from(alpha));
    await policy.step(new Float64Array(3), { learningRate: 0 });

    const weighted = cotangents.slice();
    let response = 0;
    for (const [t, tree] of trees.entries())
      for (let r = 0; r < tree.responses.length; r++) weighted[response++] *= alpha[groups[t]];
    await policy.forward(packedBatch(trees));
    await policy.backward(weighted, new Int32Array(trees.length));
    const total = await allGradients(policy, Float64Array.of(1, 0, 0));
    expect(relativeError(combined, total)).toBeLessThan(1e-12);
  });

  it('make 4, 2 + 2 and 3 + 1 micro-batches the same step', async () => {
    const trees = randomTrees(4, 97, 8);
    const groups = Int32Array.of(0, 1, 0, 1);
    const stepped = async (sizes: number[]) => {
      using policy = await openSmall(2);
      let begin = 0;
      for (const size of sizes) {
        const part = trees.slice(begin, begin + size);
        const before = responseCount(trees.slice(0, begin));
        await policy.forward(packedBatch(part));
        await policy.backward(
          normals(responseCount(trees)).slice(before, before + responseCount(part)),
          groups.slice(begin, begin + size),
        );
        begin += size;
      }
      const gradient = await allGradients(policy, Float64Array.of(0.3, 0.7));
      await policy.step(Float64Array.of(0.3, 0.7), { learningRate: 1e-2, maxGradNorm: 1 });
      return { gradient, values: await allValues(policy) };
    };
    const whole = await stepped([4]);
    for (const sizes of [
      [2, 2],
      [3, 1],
    ]) {
      const cut = await stepped(sizes);
      expect(relativeError(cut.gradient, whole.gradient)).toBeLessThan(1e-6);
      // Adam's first step is the gradient's sign where the gradient is far above epsilon, so compare in norm.
      expect(relativeError(cut.values, whole.values)).toBeLessThan(1e-6);
    }
  });

  it('count nothing without a coefficient', async () => {
    const trees = randomTrees(3, 97);
    const stepped = async (coefficients: number[]) => {
      using policy = await openSmall(3);
      await policy.forward(packedBatch(trees));
      await policy.backward(normals(responseCount(trees)), Int32Array.of(0, 2, 0));
      const { gradNorm } = await policy.step(Float64Array.from(coefficients), { learningRate: 1e-2 });
      return { gradNorm, values: await allValues(policy) };
    };
    const fewer = await stepped([0.7]);
    expect(fewer).toEqual(await stepped([0.7, 0, 0]));
    expect(fewer.gradNorm).not.toBe((await stepped([0.7, 0, 0.5])).gradNorm);
  });

  it('are empty after a step', async () => {
    using policy = await openSmall(2);
    const trees = randomTrees(2, 97);
    await policy.forward(packedBatch(trees));
    await policy.backward(normals(responseCount(trees)), Int32Array.of(0, 1));
    await policy.step(Float64Array.of(1, 1), { learningRate: 1e-3 });
    expect((await allGradients(policy, Float64Array.of(1, 1))).every((g) => g === 0)).toBe(true);
  });
});

describe('a step', () => {
  it('cuts the gradient to the norm and reports the norm before', async () => {
    using policy = await openSmall();
    const trees = randomTrees(3, 97);
    const forwardBackward = async () => {
      await policy.forward(packedBatch(trees));
      await policy.backward(normals(responseCount(trees)), new Int32Array(3));
    };
    await forwardBackward();
    const gradient = await allGradients(policy, Float64Array.of(1));
    const norm = Math.hypot(...gradient);
    const before = await allValues(policy);
    const { gradNorm } = await policy.step(Float64Array.of(1), { learningRate: 1e-3, maxGradNorm: norm / 10 });
    expect(Math.abs(gradNorm / norm - 1)).toBeLessThan(1e-6);
    const after = await allValues(policy);
    // First AdamW step by hand: m̂ = g, v̂ = g², on the clipped gradient; default epsilon 1e-8, no decay.
    const byHand = before.map((value, i) => value - (1e-3 * gradient[i]) / 10 / (Math.abs(gradient[i]) / 10 + 1e-8));
    expect(largestDifference(after, byHand)).toBeLessThan(1e-6);
  });

  it('changes nothing when the gradient is not finite, and starts afresh after', async () => {
    using policy = await openSmall();
    const trees = randomTrees(2, 97);
    const before = await allValues(policy);
    await policy.forward(packedBatch(trees));
    const cotangents = normals(responseCount(trees));
    cotangents[0] = Number.NaN;
    await policy.backward(cotangents, new Int32Array(2));
    const { gradNorm } = await policy.step(Float64Array.of(1), { learningRate: 1e-2 });
    expect(gradNorm).toBeNaN();
    expect(await allValues(policy)).toEqual(before);
    await policy.forward(packedBatch(trees));
    await policy.backward(normals(responseCount(trees)), new Int32Array(2));
    const next = await policy.step(Float64Array.of(1), { learningRate: 1e-2 });
    expect(next.gradNorm).toBeGreaterThan(0);
    expect((await allValues(policy)).every(Number.isFinite)).toBe(true);
  });
});

describe('the adapter', () => {
  it('starts random in A, zero in B, and so changes nothing; training moves both', async () => {
    using policy = await openPolicy(SMALL, { threads: 1 });
    await policy.addAdapter(lora, { seed: 4 });
    const trees = randomTrees(3, 97);
    expect(await policy.logProbabilities(packedBatch(trees), 'policy')).toEqual(
      await policy.logProbabilities(packedBatch(trees), 'base'),
    );
    for (const { name, shape } of policy.native.trainable()) {
      const values = await policy.native.readTrainable(name);
      const bound = 1 / Math.sqrt(shape[1]);
      if (name.includes('lora_B')) expect(values.every((x) => x === 0)).toBe(true);
      else {
        expect(Math.max(...values.map(Math.abs))).toBeLessThanOrEqual(bound);
        // Uniform on ±bound: the root mean square is bound/√3.
        const rms = Math.sqrt(values.reduce((sum, x) => sum + x * x, 0) / values.length);
        expect(Math.abs(rms / (bound / Math.sqrt(3)) - 1)).toBeLessThan(0.2);
      }
    }
    const start = await allValues(policy);
    for (let i = 0; i < 2; i++) {
      await policy.forward(packedBatch(trees));
      await policy.backward(normals(responseCount(trees)), new Int32Array(3));
      await policy.step(Float64Array.of(1), { learningRate: 1e-2 });
    }
    expect((await allValues(policy)).every((value, i) => value !== start[i])).toBe(true);
  });

  it('freezes into a reference that training does not move', async () => {
    using policy = await openSmall();
    const batch = packedBatch(randomTrees(3, 97));
    const base = await policy.logProbabilities(batch, 'base');
    expect(await policy.logProbabilities(batch, 'reference')).toEqual(base);
    await policy.freezeReference();
    const frozen = await policy.logProbabilities(batch, 'policy');
    expect(await policy.logProbabilities(batch, 'reference')).toEqual(frozen);
    await policy.forward(batch);
    await policy.backward(normals(frozen.length), new Int32Array(3));
    await policy.step(Float64Array.of(1), { learningRate: 1e-2 });
    expect(await policy.logProbabilities(batch, 'reference')).toEqual(frozen);
    expect(await policy.logProbabilities(batch, 'base')).toEqual(base);
    expect(largestDifference(await policy.logProbabilities(batch, 'policy'), frozen)).toBeGreaterThan(1e-3);
  });
});

describe('numerics of Gemma', () => {
  it('is one model in all types: float64 and bfloat16 agree with float32 to their precision', async () => {
    const batch = packedBatch([
      ...randomTrees(4, 97),
      { prompt: Array.from({ length: 300 }, (_, i) => i % 97), responses: [[1, 2, 3]] },
    ]);
    const scores: Record<string, Float64Array> = {};
    for (const dtype of ['float32', 'float64', 'bfloat16'] as const) {
      using policy = await openPolicy(SMALL, { dtype, threads: 1 });
      scores[dtype] = await policy.logProbabilities(batch, 'base');
    }
    expect(largestDifference(scores.float32, scores.float64)).toBeLessThan(1e-4);
    expect(relativeError(scores.bfloat16, scores.float64)).toBeLessThan(1e-2);
  });
});

describe('running', () => {
  it('repeats to the bit for one seed, and differs for another', async () => {
    const run = async (seed: number) => {
      using policy = await openPolicy(SMALL, { threads: 2 });
      await policy.addAdapter(lora, { seed });
      const trees = randomTrees(5, 97);
      for (let i = 0; i < 3; i++) {
        await policy.forward(packedBatch(trees));
        await policy.backward(normals(responseCount(trees), i), new Int32Array(5));
        await policy.step(Float64Array.of(1), { learningRate: 1e-2, maxGradNorm: 1 });
      }
      return await allValues(policy);
    };
    const first = await run(1);
    expect(await run(1)).toEqual(first);
    expect(largestDifference(await run(2), first)).toBeGreaterThan(1e-3);
  });

  it('keeps calls in order: four steps at once are four steps in a row', async () => {
    const trees = randomTrees(3, 97);
    const run = async (atOnce: boolean) => {
      using policy = await openSmall();
      const oneStep = (i: number) => [
        policy.forward(packedBatch(trees)),
        policy.backward(normals(responseCount(trees), i), new Int32Array(3)),
        policy.step(Float64Array.of(1), { learningRate: 1e-2 }),
      ];
      if (atOnce) await Promise.all([0, 1, 2, 3].flatMap(oneStep));
      else for (const i of [0, 1, 2, 3]) for (const call of oneStep(i)) await call;
      return await allValues(policy);
    };
    expect(await run(true)).toEqual(await run(false));
  });

  it('waits twice a step for a card, for log-probabilities and a norm; a build without CUDA says that it has none', async () => {
    using policy = await openSmall();
    if (!loadNative().nativeInfo().cudaBuilt) {
      await expect(policy.native.synchronisations()).rejects.toThrow('no card to wait for in a build without CUDA');
      return;
    }
    const trees = randomTrees(3, 97);
    const waits: number[] = [];
    for (let step = 0; step < 3; step++) {
      await policy.forward(packedBatch(trees));
      await policy.backward(normals(responseCount(trees)), new Int32Array(3));
      await policy.step(Float64Array.of(1), { learningRate: 1e-4 });
      waits.push(await policy.native.synchronisations());
    }
    // The first call starts the count.
    expect(waits).toEqual(policy.device === 'cpu' ? [0, 0, 0] : [0, 2, 2]);
  });

  it('leaks no tensor in 200 steps, nor after dispose', async () => {
    const { liveTensors } = loadNative();
    /** The count once models disposed of earlier are gone. */
    const settled = async () => {
      let count = liveTensors();
      for (let calm = 0; calm < 5; calm++) {
        await new Promise((resolve) => setTimeout(resolve, 10));
        if (liveTensors() !== count) calm = 0;
        count = liveTensors();
      }
      return count;
    };
    const trees = randomTrees(3, 97);
    const batch = packedBatch(trees);
    const before = await settled();
    {
      // Only the CPU's tensors are counted.
      using policy = await openSmall(1, 'float32', 'cpu');
      const oneStep = async () => {
        await policy.forward(batch);
        await policy.backward(normals(responseCount(trees)), new Int32Array(3));
        await policy.step(Float64Array.of(1), { learningRate: 1e-4 });
        await policy.logProbabilities(batch, 'reference');
      };
      await oneStep();
      const trained = liveTensors();
      expect(trained).toBeGreaterThan(before);
      for (let i = 0; i < 200; i++) await oneStep();
      expect(liveTensors()).toBe(trained);
      // A forward pass that never meets its backward is replaced, not kept.
      await policy.forward(batch);
      const recorded = liveTensors();
      expect(recorded).toBeGreaterThan(trained);
      await policy.forward(batch);
      expect(liveTensors()).toBe(recorded);
    }
    expect(await settled()).toBe(before);
  });

  it('rejects with DISPOSED after dispose, once what was queued is done', async () => {
    const policy = await openSmall();
    const batch = packedBatch(randomTrees(2, 97));
    const queued = policy.logProbabilities(batch, 'policy');
    policy.dispose();
    policy.dispose();
    expect((await queued).every(Number.isFinite)).toBe(true);
    await expect(policy.logProbabilities(batch, 'policy')).rejects.toMatchObject({ code: 'DISPOSED' });
    await expect(policy.step(Float64Array.of(1), { learningRate: 0 })).rejects.toMatchObject({ code: 'DISPOSED' });
    await expect(policy.addAdapter(lora)).rejects.toMatchObject({ code: 'DISPOSED' });
    expect(() => policy.native.trainable()).toThrow(expect.objectContaining({ code: 'DISPOSED' }));
  });
});
