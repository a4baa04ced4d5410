import { describe, expect, it } from 'vitest';
import { normals, openPolicy, packedBatch, randomTrees, responseCount, shakeAdapter } from './gemma-helpers.js';

/** The whole backward pass against central differences in float64, entry by entry. */
describe('the gradient of Σ cotangent · log π, or of scores, in float64', () => {
  it.each<[what: string, model: string, rank: number, scoreHead?: boolean]>([
    ['several key/value heads, odd sizes', 'random:tiny?vocab=23&hidden=9&heads=4&kv=2&head=6&mlp=11&layers=2', 2],
    ['one key/value head, rank 1', 'random:tiny?vocab=17&hidden=12&heads=3&kv=1&head=4&mlp=7&layers=2', 1],
    [
      'a key/value head per query head, three layers',
      'random:tiny?vocab=31&hidden=7&heads=2&kv=2&head=2&mlp=5&layers=3',
      3,
    ],
    ['a score head', 'random:tiny?vocab=19&hidden=8&heads=2&kv=1&head=4&mlp=6&layers=2', 2, true],
  ])('is right with %s', async (_, model, rank, scoreHead = false) => {
    using policy = await openPolicy(model, { dtype: 'float64', threads: 1 });
    await policy.addAdapter({ rank, alpha: 2 * rank }, { scoreHead });
    await shakeAdapter(policy);
    const trees = randomTrees(3, policy.config.vocabulary, 2);
    const batch = packedBatch(trees);
    const cotangents = normals(responseCount(trees), 9);
    const objective = async () => {
      const logps = await policy.logProbabilities(batch, 'policy');
      return logps.reduce((sum, logp, i) => sum + cotangents[i] * logp, 0);
    };
    await policy.forward(batch);
    await policy.backward(cotangents, new Int32Array(trees.length));

    let difference = 0;
    let size = 0;
    for (const { name, shape } of policy.native.trainable()) {
      const gradient = await policy.native.readGradient(name, Float64Array.of(1));
      const values = await policy.native.readTrainable(name);
      expect(values).toHaveLength(shape[0] * shape[1]);
      for (let i = 0; i < values.length; i++) {
        const h = 1e-5;
        const shifted = async (by: number) => {
          await policy.native.writeTrainable(
            name,
            values.map((value, j) => (j === i ? value + by : value)),
          );
          return objective();
        };
        const numeric = ((await shifted(h)) - (await shifted(-h))) / (2 * h);
        difference += (numeric - gradient[i]) ** 2;
        size += numeric ** 2;
      }
      await policy.native.writeTrainable(name, values);
    }
    expect(Math.sqrt(size)).toBeGreaterThan(0.1);
    expect(Math.sqrt(difference / size)).toBeLessThan(1e-6);
  });

  it('is right where only some projections are adapted: backward stops below the first of them', async () => {
    const model = 'random:tiny?vocab=23&hidden=10&heads=2&kv=1&head=4&mlp=9';
    const trees = randomTrees(3, 23, 4);
    const cotangents = normals(responseCount(trees));
    const gradientOf = async (targets: string[]) => {
      using policy = await openPolicy(model, { dtype: 'float64', threads: 1 });
      await policy.addAdapter({ rank: 2, alpha: 4, targets });
      // B = 0: other projections' adapters change nothing, so the gradient of B is that of the full adapter.
      for (const { name } of policy.native.trainable())
        if (name.includes('lora_A')) {
          const values = await policy.native.readTrainable(name);
          await policy.native.writeTrainable(
            name,
            values.map((_, i) => Math.sin(i)),
          );
        }
      await policy.forward(packedBatch(trees));
      await policy.backward(cotangents, new Int32Array(trees.length));
      const name = 'model.layers.1.mlp.down_proj.lora_B.weight';
      return {
        gradient: await policy.native.readGradient(name, Float64Array.of(1)),
        count: policy.native.trainable().length,
      };
    };
    const all = await gradientOf(['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj']);
    const one = await gradientOf(['down_proj']);
    expect([all.count, one.count]).toEqual([28, 4]);
    for (let i = 0; i < one.gradient.length; i++) expect(one.gradient[i]).toBeCloseTo(all.gradient[i], 12);
  });
});
