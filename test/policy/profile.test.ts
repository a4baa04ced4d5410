import { describe, expect, it } from 'vitest';
import { GemmaPolicy } from '../../src/policy/gemma.js';
import { allGradients, normals, packedBatch, randomTrees, responseCount, shakeAdapter } from './gemma-helpers.js';

/** The clock of the model's thread must see both passes and change neither. */

const trees = randomTrees(5, 97, 4);
const batch = packedBatch(trees);

/** One recorded pass and its gradient, with what the clock says of each. */
async function pass(profiled: boolean, recompute: boolean) {
  using policy = await GemmaPolicy.open('random:tiny?vocab=97', { device: 'cpu', threads: 1, recompute });
  await policy.addAdapter({ rank: 2, alpha: 4 });
  await shakeAdapter(policy);
  const clock = async () => (profiled ? await policy.native.profile() : {});
  const first = await clock();
  const logps = await policy.forward(batch);
  const nodes = await policy.native.recordedNodes();
  const forward = await clock();
  await policy.backward(normals(responseCount(trees)), new Int32Array(trees.length));
  const backward = await clock();
  return {
    numbers: { logps, gradient: await allGradients(policy, Float64Array.of(1)), nodes },
    first,
    forward,
    backward,
  };
}

describe.each([false, true])('profiling, layers recomputed: %s', (recompute) => {
  it('leaves the graph its nodes and every number its bits', async () => {
    const [without, profiled] = [await pass(false, recompute), await pass(true, recompute)];
    expect(profiled.numbers).toEqual(without.numbers);
    const names = Object.keys(without.numbers.nodes);
    expect(names.some((name) => /Lora|Recomputed/.test(name))).toBe(true);
    expect(names.filter((name) => /profile|section|marker/i.test(name))).toEqual([]);
  });

  it('starts with the first question, and then accounts for both passes by section', async () => {
    const { first, forward, backward } = await pass(true, recompute);
    expect(Object.values(first).every((seconds) => seconds === 0)).toBe(true);
    for (const seconds of [forward, backward])
      for (const section of ['attention', 'mlp', 'head', 'lora']) expect(seconds[section], section).toBeGreaterThan(0);
    expect(forward.embedding).toBeGreaterThan(0);
    // Without the moments at which the backward pass comes from one section to the next, nearly all would be here.
    const { other, ...sections } = backward;
    expect(other).toBeLessThan(Object.values(sections).reduce((sum, value) => sum + value, 0));
  });
});

it('the nodes of a graph can only be counted where there is one', async () => {
  using policy = await GemmaPolicy.open('random:tiny?vocab=97', { device: 'cpu', threads: 1 });
  await expect(policy.native.recordedNodes()).rejects.toThrow(/there is no graph: call forward with record first/);
});
