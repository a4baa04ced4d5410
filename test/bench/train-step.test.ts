import { describe, expect, it } from 'vitest';
import { stepFlops } from '../../src/bench/flops.js';
import { benchmarkTrainStep } from '../../src/bench/train-step.js';
import type { NativeBatch, NativeGemmaConfig } from '../../src/native/types.js';
import { plainGemma } from '../native/plain-gemma.js';

const config: NativeGemmaConfig = { ...plainGemma, hidden: 3, headSize: 2, mlp: 5, vocabulary: 11 };

/** A prompt of 4 tokens with responses of 1 and 3: rows 4 + 0 + 2, of which 1 + 2 predict the 4 targets. */
const batch: NativeBatch = {
  tokens: new Int32Array(8),
  promptLengths: Int32Array.of(4),
  responseCounts: Int32Array.of(2),
  responseLengths: Int32Array.of(1, 3),
};

describe('useful arithmetic of a step', () => {
  it('of one layer, counted by hand', () => {
    const { projections, attention, head } = stepFlops(config, 2, batch);
    // Forward only: k and v 3→2 on 6 rows, q 3→4 on 3. Forward and backward: o 4→3, gate and up 3→5, down 5→3 on 3 rows.
    expect(projections).toBe(2 * 6 * (6 + 6) + 2 * 3 * 12 + 2 * 2 * 3 * (12 + 15 + 15 + 15));
    // The prompt's last row sees 4 positions, the response's two rows 4 + 1 and 4 + 2.
    expect(attention).toBe(12 * 4 * (4 + 5 + 6));
    expect(head).toBe(2 * 2 * 3 * 11 * 3);
  });

  it('of a second layer: all rows, in both directions', () => {
    const one = stepFlops(config, 2, batch).projections;
    const two = stepFlops({ ...config, layers: 2 }, 2, batch).projections;
    // The first layer is on all rows now, still without the gradient of its input; the last one has that too.
    const first = 2 * 6 * (6 + 6 + 12) + 2 * 2 * 6 * (12 + 15 + 15 + 15);
    const last = 2 * 2 * 6 * (6 + 6) + 2 * 2 * 3 * (12 + 12 + 15 + 15 + 15);
    expect(two - one).toBe(first + last - one);
  });

  it('of LoRA, counted by hand', () => {
    // Each number of rank 1: x Aᵀ (in), its Bᵀ (out); dB, the gradient of x Aᵀ (out each), dA (in) and, but for q, k and v, dx (in).
    const [k, q] = [2 * (3 + 2 + 2 + 2 + 3), 2 * (3 + 4 + 4 + 4 + 3)];
    const all = (inputs: number, out: number) => 2 * 3 * (inputs + out);
    const byHand = 6 * 2 * k + 3 * (q + all(4, 3) + 2 * all(3, 5) + all(5, 3));
    for (const rank of [1, 4]) expect(stepFlops(config, rank, batch).lora).toBe(rank * byHand);
  });
});

describe('bench train-step', () => {
  it('holds a step in bfloat16, the type of a GPU, against float32', async () => {
    const sizes = { batch: 2, prompt: 12, response: 2, pairsPerPrompt: 1, steps: 1, threads: 1 };
    const result = await benchmarkTrainStep({ model: 'random:tiny', device: 'cpu', dtype: 'bfloat16', ...sizes });
    expect(result.machine).toMatchObject({ device: 'cpu', dtype: 'bfloat16' });
    expect(result.gradient_error).toBeGreaterThan(0);
    expect(result.gradient_error).toBeLessThan(0.3);
  });

  it('checks, times and accounts for the whole step', async () => {
    const result = await benchmarkTrainStep({
      model: 'random:tiny',
      batch: 4,
      prompt: 12,
      response: 2,
      pairsPerPrompt: 2,
      steps: 3,
      threads: 1,
    });
    expect(result).toMatchObject({ checked: true, tokens_per_second: expect.any(Number) });
    expect(result.gradient_error).toBeLessThan(0.05);
    expect(Object.keys(result.breakdown)).toEqual([
      'other',
      'embedding',
      'attention',
      'mlp',
      'head',
      'lora',
      'optimizer',
      'typescript',
    ]);
    // Of these small matrices none is worth oneDNN's entry.
    expect(result.product_calls).toEqual({ onednn: 0, libtorch: expect.any(Number) });
    expect(result.product_calls.libtorch).toBeGreaterThan(0);
    for (const part of ['attention', 'mlp', 'head', 'lora']) expect(result.breakdown[part], part).toBeGreaterThan(0);
    expect(Math.min(...Object.values(result.breakdown))).toBeGreaterThanOrEqual(0);
    expect(result.pairs_per_second * result.seconds_per_step).toBeCloseTo(4, 9);
    // Two prompts of 12, four pairs of two responses of 3.
    expect(result.tokens_per_second * result.seconds_per_step).toBeCloseTo(24 + 24, 6);
  });
});
