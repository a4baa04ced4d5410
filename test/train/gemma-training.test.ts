import { describe, expect, it } from 'vitest';
import type { PairDataset } from '../../src/data/pairs/dataset.js';
import { loadNative } from '../../src/native/load.js';
import { Random } from '../../src/numbers/random.js';
import { GemmaPolicy } from '../../src/policy/gemma.js';
import { resolveConfig } from '../../src/train/config.js';
import type { MetricsLine } from '../../src/train/metrics-line.js';
import { trainPolicy } from '../../src/train/trainer.js';
import {
  allValues,
  largestDifference,
  normals,
  packedBatch,
  randomTrees,
  responseCount,
} from '../policy/gemma-helpers.js';

/** Training a Gemma by the loop that the command line uses, and for long. */

/** 24 pairs of two groups, two to a prompt. */
function someData(): PairDataset {
  const random = Random.stream(5, 'training test');
  const ids = (longest: number) => Int32Array.from({ length: 1 + random.integer(longest) }, () => random.integer(1024));
  const prompts = Array.from({ length: 12 }, () => ids(30));
  const pairs = Array.from({ length: 24 }, (_, i) => ({
    id: `made.jsonl:${i + 1}`,
    group: Math.floor(i / 2) % 2,
    prompt: prompts[Math.floor(i / 2)],
    chosen: ids(5),
    rejected: ids(5),
    weight: 1,
  }));
  return {
    file: 'made.jsonl',
    groups: ['a', 'b'],
    pairs,
    counts: [12, 12],
    report: {
      dropped: { empty: 0, degenerate: 0, tooLong: 0 },
      boundaryDiffers: { count: 0, firstLines: [] },
      warnings: [],
    },
  };
}

async function train(batch: object, seed = 1) {
  const settings = resolveConfig(
    {
      model: 'random:tiny',
      output: 'none',
      data: { train: 'none' },
      objective: { loss: 'ipo', beta: 0.1, weights: 'mirror-ascent', step: 0.01 },
      // AdamW divides by the gradient's size, which turns rounding of tiny gradients into whole steps; with a large epsilon
      // the step stays in proportion to the gradient.
      optimizer: { learningRate: 1, epsilon: 1e3 },
      batch,
      steps: 6,
      seed,
    },
    () => ({}),
  );
  using policy = await GemmaPolicy.open('random:tiny', { threads: 1 });
  const { betas, epsilon, weightDecay } = settings.optimizer;
  await policy.addAdapter({ rank: 4, alpha: 8 }, { seed, accumulators: 2, optimizer: { betas, epsilon, weightDecay } });
  const start = await allValues(policy);
  const data = someData();
  const lines: MetricsLine[] = [];
  const alpha = await trainPolicy(policy, data, data, settings, { onStep: (line) => lines.push(line) });
  const values = await allValues(policy);
  return { lines, alpha: alpha.flat(), values, moved: largestDifference(values, start) };
}

describe('training a Gemma', () => {
  it('repeats to the bit, and takes the same steps in micro-batches of any size', async () => {
    const whole = await train({ size: 12 });
    expect(await train({ size: 12 })).toEqual(whole);
    expect((await train({ size: 12 }, 2)).values).not.toEqual(whole.values);
    expect(whole.moved).toBeGreaterThan(1e-3);
    for (const micro of [1, 5, 6]) {
      const cut = await train({ size: 12, micro });
      expect(largestDifference(cut.values, whole.values)).toBeLessThan(1e-5 * whole.moved);
      expect(largestDifference(cut.alpha, whole.alpha)).toBeLessThan(1e-6);
      cut.lines.forEach((line, step) => {
        // A margin that rounding alone decides may fall on either side of 0.
        for (const [name, value] of Object.entries(line))
          if (typeof value === 'number' && !/rewards\/accuracies|worst\/accuracy/.test(name))
            expect(Math.abs(value - (whole.lines[step][name] as number)), `${name} of step ${step}`).toBeLessThan(
              1e-5 * Math.max(1, Math.abs(value)),
            );
      });
    }
  });

  it('for 1,000 steps keeps no tensor and no memory', async () => {
    using policy = await GemmaPolicy.open('random:tiny?layers=1', { threads: 1 });
    await policy.addAdapter({ rank: 4, alpha: 8 }, { accumulators: 2 });
    await policy.freezeReference();
    const trees = randomTrees(12, 1024);
    const batch = packedBatch(trees);
    const cotangents = normals(responseCount(trees));
    const groups = Int32Array.from(trees, (_, tree) => (tree < 5 ? 0 : 1));
    const steps = async (count: number) => {
      for (let i = 0; i < count; i++) {
        await policy.logProbabilities(batch, 'reference');
        await policy.forward(batch);
        await policy.backward(cotangents, groups);
        await policy.step(Float64Array.of(0.3, 0.7), { learningRate: 1e-4, maxGradNorm: 1 });
      }
    };
    await steps(200);
    const [tensors, { rss }] = [loadNative().liveTensors(), process.memoryUsage()];
    await steps(800);
    expect(loadNative().liveTensors()).toBe(tensors);
    // One float32 activation [tokens, mlp] kept per step would be 80 MB by now; V8's own heap comes and goes by 15 MB.
    expect(batch.tokens.length * 256 * 4 * 800).toBeGreaterThan(80e6);
    expect(process.memoryUsage().rss - rss).toBeLessThan(30e6);
  });

  it('leaves the event loop free during a step', async () => {
    using policy = await GemmaPolicy.open('random:gemma-2b?layers=2&hidden=512&mlp=4096&vocab=16000', { threads: 1 });
    await policy.addAdapter({ rank: 8, alpha: 16 });
    const trees = randomTrees(40, 16000);
    const batch = packedBatch(trees);
    const cotangents = normals(responseCount(trees));
    let ticks = 0;
    const timer = setInterval(() => ticks++, 10);
    const start = performance.now();
    await policy.forward(batch);
    const forward = { ticks, ms: performance.now() - start };
    await policy.backward(cotangents, new Int32Array(trees.length));
    await policy.step(Float64Array.of(1), { learningRate: 1e-4 });
    const backward = { ticks: ticks - forward.ticks, ms: performance.now() - start - forward.ms };
    clearInterval(timer);
    for (const phase of [forward, backward]) {
      expect(phase.ms).toBeGreaterThan(100);
      expect(phase.ticks).toBeGreaterThan(phase.ms / 10 / 4);
    }
  });
});
