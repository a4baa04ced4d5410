import { afterEach, describe, expect, it } from 'vitest';
import { loadNative } from '../../src/native/load.js';
import type { DType, NativeKernels } from '../../src/native/types.js';
import type { GemmaPolicy } from '../../src/policy/gemma.js';
import { resolveGemma } from '../../src/policy/gemma-config.js';
import { type AnswerSettings, drawAnswers } from '../../src/sample/answers.js';
import { fixture, largestDifference, openPolicy, packedBatch, shakeAdapter } from './gemma-helpers.js';

/** A step with the cache against whole forward passes without one, whose kernels and masks are others. */

afterEach(() => loadNative().setKernels('fused'));

const greedy: AnswerSettings = {
  temperature: 0,
  topP: 1,
  count: 1,
  seed: 0,
  maxTokens: 16,
  batch: 16,
};

/** log softmax of the token after `ids`: every token of the vocabulary scored as a response. */
function scoredNext(policy: GemmaPolicy, ids: ArrayLike<number>): Promise<Float64Array> {
  const responses = Array.from({ length: policy.config.vocabulary }, (_, token) => [token]);
  return policy.logProbabilities(packedBatch([{ prompt: ids, responses }]), 'policy');
}

function logSoftmax(logits: Float32Array): Float64Array {
  const largest = logits.reduce((a, b) => Math.max(a, b));
  const total = Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - largest), 0));
  return Float64Array.from(logits, (logit) => logit - largest - total);
}

const generations = ['gemma-tiny', 'gemma2-tiny', 'gemma3-tiny'];
const kernels: NativeKernels[] = ['fused', 'libtorch'];

// Windows have 8 tokens: one prompt is shorter, one longer.
const prompts = [
  [2, 77, 105],
  [2, 9, 33, 51, 180, 8, 14, 99, 120, 121, 5],
].map((ids, i) => ({ id: `prompts:${i + 1}`, line: i + 1, prompt: Int32Array.from(ids), stops: new Set<number>() }));

describe.each(generations.flatMap((name) => kernels.map((chosen) => ({ name, chosen }))))(
  '$name with its adapter, $chosen kernels',
  ({ name, chosen }) => {
    it('greedy answers and their log-probs are those of whole forward passes', async () => {
      loadNative().setKernels(chosen);
      using policy = await openPolicy(fixture(name), { threads: 1 });
      await policy.loadAdapter(fixture(`${name}/adapter`));
      for await (const { prompt, tokens, logProbability, finishReason } of drawAnswers(policy, prompts, greedy)) {
        const ids = Array.from(prompts[prompt].prompt);
        const [whole] = await policy.logProbabilities(packedBatch([{ prompt: ids, responses: [tokens] }]), 'policy');
        expect(Math.abs(logProbability - whole)).toBeLessThan(1e-5 * Math.abs(whole));
        expect([tokens.length, finishReason]).toEqual([greedy.maxTokens, 'length']);
        for (const token of tokens) {
          const next = await scoredNext(policy, ids);
          expect(next.indexOf(next.reduce((a, b) => Math.max(a, b)))).toBe(token);
          ids.push(token);
        }
      }
    });
  },
);

it.each([4, 8, 16] as const)('answers are the same with registers of %i numbers', async (registers) => {
  using policy = await openPolicy(fixture('gemma3-tiny'), { threads: 1 });
  const draw = async () => {
    const answers = [];
    for await (const { tokens, logProbability } of drawAnswers(policy, prompts, greedy))
      answers.push({ tokens, logProbability: expect.closeTo(logProbability, 4) });
    return answers;
  };
  const expected = await draw();
  loadNative().limitRegisters(registers);
  try {
    expect(loadNative().nativeInfo().registers).toBeLessThanOrEqual(registers);
    expect(await draw()).toEqual(expected);
  } finally {
    loadNative().limitRegisters(16);
  }
});

describe('a step', () => {
  it.each<[DType, DType, number]>([
    ['float32', 'float32', 1e-5],
    ['float64', 'float64', 1e-6],
    ['float32', 'bfloat16', 1e-5],
    // The two ways round at other places.
    ['bfloat16', 'bfloat16', 0.1],
  ])('has the logits of a whole pass in %s over a base of %s', async (dtype, baseDtype, tolerance) => {
    using policy = await openPolicy(fixture('gemma3-tiny'), { threads: 1, dtype, baseDtype });
    await policy.loadAdapter(fixture('gemma3-tiny/adapter'));
    const ids = Array.from(prompts[1].prompt);
    const { sequence, logits } = await policy.prefill(Int32Array.from(ids));
    expect(largestDifference(logSoftmax(logits), await scoredNext(policy, ids))).toBeLessThan(tolerance);
    const longer = await policy.fork(sequence, 12);
    for (let token = 40; token < 52; token++) {
      ids.push(token);
      const next = await policy.decode([longer], Int32Array.of(token));
      expect(largestDifference(logSoftmax(next), await scoredNext(policy, ids))).toBeLessThan(tolerance);
    }
  });

  it.each<[DType, string, number]>([
    ['float32', 'random:gemma-3-270m', 1],
    ['float32', 'random:gemma-2-2b', 2],
    ['bfloat16', 'random:gemma-3-270m', 2],
    ['float64', 'random:gemma-2-2b', 2],
  ])('gives a sequence the same bits whatever stands beside it: %s, %s, %i threads', async (dtype, shape, threads) => {
    // Sizes that fill no register, so that each loop has a rest.
    const model = `${shape}?layers=7&hidden=45&heads=6&kv=3&head=10&mlp=77&vocab=331`;
    using policy = await openPolicy(model, { dtype, threads });
    await policy.addAdapter({ rank: 3, alpha: 5 });
    await shakeAdapter(policy);
    const count = 19;
    const first = Array.from({ length: count }, (_, i) => Int32Array.from({ length: 2 + i }, (_, k) => 7 * i + 5 * k));
    const alone: Float32Array[][] = [];
    const together: Float32Array[][] = first.map(() => []);
    const copies: number[] = [];
    for (const prompt of first) {
      const { sequence } = await policy.prefill(prompt);
      const own = await policy.fork(sequence, 3);
      copies.push(await policy.fork(sequence, 3));
      const steps: Float32Array[] = [];
      for (const token of [300, 4, 250]) steps.push(await policy.decode([own], Int32Array.of(token)));
      alone.push(steps);
    }
    // All of them; then some, in another order, while the others wait.
    for (const [token, chosen] of [
      [300, copies.keys()],
      [4, copies.keys()],
      [250, [11, 3, 17]],
    ] as const) {
      const some = [...chosen];
      const logits = await policy.decode(
        some.map((i) => copies[i]),
        new Int32Array(some.length).fill(token),
      );
      some.forEach((i, row) => {
        together[i].push(logits.slice(row * 331, (row + 1) * 331));
      });
    }
    together.forEach((steps, i) => {
      steps.forEach((logits, step) => {
        expect(Buffer.compare(Buffer.from(logits.buffer), Buffer.from(alone[i][step].buffer)), `${i}, ${step}`).toBe(0);
      });
    });
  });

  it('is refused for what is no sequence, has no room, or was computed by another policy', async () => {
    using policy = await openPolicy(fixture('gemma-tiny'), { threads: 1 });
    await policy.addAdapter({ rank: 2, alpha: 2 });
    const one = Int32Array.of(5);
    await expect(policy.decode([1], one)).rejects.toThrow(/there is no sequence 1/);
    const { sequence } = await policy.prefill(Int32Array.of(2, 6));
    await expect(policy.decode([sequence], one)).rejects.toThrow(/has no room for another token/);
    const copy = await policy.fork(sequence, 2);
    await expect(policy.decode([copy, copy], Int32Array.of(5, 5))).rejects.toThrow(/sequences names one twice/);
    await expect(policy.decode([copy], Int32Array.of(192))).rejects.toThrow(/tokens\[0\] is 192, outside the voca/);
    await expect(policy.prefill(Int32Array.of(2, -1))).rejects.toThrow(/prompt\[1\] is -1, outside the vocabulary/);
    await expect(policy.prefill(new Int32Array())).rejects.toThrow(/the prompt has no tokens/);
    await policy.decode([copy], one);
    await policy.release(sequence);
    await expect(policy.release(sequence)).rejects.toThrow(/was released/);
    await policy.addAdapter({ rank: 2, alpha: 2 });
    await expect(policy.decode([copy], one)).rejects.toThrow(/weights or adapter have changed/);
  });

  it('of a model without weights is refused, of no sequence too', async () => {
    const { config } = resolveGemma('random:tiny?layers=1');
    const { Gemma } = loadNative();
    const model = new Gemma(config, { device: 'cpu', dtype: 'float32', baseDtype: 'float32', recompute: false });
    await expect(model.decode([], new Int32Array())).rejects.toThrow(/the model has no weights yet/);
    model.dispose();
  });
});
