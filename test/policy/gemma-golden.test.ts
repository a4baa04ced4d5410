import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadNative } from '../../src/native/load.js';
import type { NativeKernels } from '../../src/native/types.js';
import { GroupTotals, robustStep } from '../../src/objective/aggregate.js';
import { type LossName, marginLoss } from '../../src/objective/losses.js';
import { MirrorAscent } from '../../src/objective/moving-weights.js';
import { type PairTerms, preferenceTerms } from '../../src/objective/pairs.js';
import type { GemmaPolicy } from '../../src/policy/gemma.js';
import {
  allGradients,
  fixture,
  fixtureJson,
  largestDifference,
  openPolicy,
  packedBatch,
  readSafetensors,
  relativeError,
  type Tree,
} from './gemma-helpers.js';

interface Golden {
  pairs: { group: number; prompt: number[]; chosen: number[]; rejected: number[] }[];
  reference: [number, number][];
  policy: [number, number][];
  losses: Record<
    string,
    {
      kind: LossName;
      beta: number;
      label_smoothing: number;
      alpha: number[];
      per_pair: number[];
      weighted: number;
      grad_norm: number;
    }
  >;
  training: {
    lr: number;
    alpha_step: number;
    betas: [number, number];
    eps: number;
    weight_decay: number;
    max_grad_norm: number;
    trace: { group_losses: number[]; alpha: number[]; weighted: number; grad_norm: number }[];
  };
  after_training: [number, number][];
}

const switches: NativeKernels[] = ['fused', 'libtorch', 'gpu-plan'];
const generations = ['gemma-tiny', 'gemma2-tiny', 'gemma3-tiny'];
const groupSizes = [3, 3, 3];
afterAll(() => loadNative().setKernels('fused'));

describe.each(generations.flatMap((name) => switches.map((kernels) => ({ name, kernels }))))(
  'against transformers and PEFT on $name, $kernels kernels',
  ({ name: checkpoint, kernels }) => {
    const golden = fixtureJson<Golden>(`${checkpoint}/golden.json`);
    const batch = packedBatch(
      golden.pairs.map(({ prompt, chosen, rejected }) => ({ prompt, responses: [chosen, rejected] })),
    );
    const treeGroups = Int32Array.from(golden.pairs, (pair) => pair.group);
    const optimizer = {
      betas: golden.training.betas,
      epsilon: golden.training.eps,
      weightDecay: golden.training.weight_decay,
    };
    const at = (place: number) => (values: ArrayLike<number>) =>
      Float64Array.from(golden.pairs, (_, i) => values[2 * i + place]);
    const [even, odd] = [at(0), at(1)];

    function pairTerms(kind: LossName, beta: number, labelSmoothing: number, logps: Float64Array): PairTerms {
      return preferenceTerms(marginLoss({ loss: kind, beta, labelSmoothing }), 'sum', {
        chosen: even(logps),
        rejected: odd(logps),
        referenceChosen: even(reference),
        referenceRejected: odd(reference),
      });
    }

    function cotangentsOf(terms: PairTerms): Float64Array {
      return Float64Array.from(
        golden.pairs.flatMap((_, i) => [terms.chosenCotangents[i], terms.rejectedCotangents[i]]),
      );
    }

    let policy: GemmaPolicy;
    let logps: Float64Array;
    let reference: Float64Array;

    beforeAll(async () => {
      loadNative().setKernels(kernels);
      policy = await openPolicy(fixture(checkpoint));
      await policy.loadAdapter(fixture(`${checkpoint}/adapter`), { accumulators: 3, optimizer });
      logps = await policy.logProbabilities(batch, 'policy');
      reference = await policy.logProbabilities(batch, 'reference');
    });
    afterAll(() => policy.dispose());

    it('has the log-probs with and without the adapter', async () => {
      expect(largestDifference(logps, golden.policy.flat())).toBeLessThan(1e-5);
      expect(largestDifference(reference, golden.reference.flat())).toBeLessThan(1e-5);
      expect(await policy.logProbabilities(batch, 'base')).toEqual(reference);
    });

    it.each(Object.entries(golden.losses))(
      'has the losses and every LoRA gradient of %s',
      async (setting, expected) => {
        const terms = pairTerms(expected.kind, expected.beta, expected.label_smoothing, logps);
        expect(relativeError(terms.losses, expected.per_pair)).toBeLessThan(1e-5);
        // Not as a ratio: a pair that is right by its margin has a hinge loss of 0.
        for (let i = 0; i < terms.losses.length; i++)
          expect(Math.abs(terms.losses[i] - expected.per_pair[i])).toBeLessThanOrEqual(1e-5 * expected.per_pair[i]);
        const totals = new GroupTotals(3);
        for (const [i, pair] of golden.pairs.entries()) totals.add(pair.group, terms.losses[i]);
        const weighted = totals.means().reduce<number>((sum, mean, g) => sum + expected.alpha[g] * mean!, 0);
        expect(Math.abs(weighted / expected.weighted - 1)).toBeLessThan(1e-5);

        await policy.forward(batch);
        await policy.backward(cotangentsOf(terms), treeGroups);
        const coefficients = Float64Array.from(expected.alpha, (alpha, g) => alpha / groupSizes[g]);
        const stored = readSafetensors(fixture(`${checkpoint}/lora_grads.safetensors`));
        for (const { name } of policy.native.trainable()) {
          const gradient = await policy.native.readGradient(name, coefficients);
          expect(relativeError(gradient, stored.get(`${setting}/${name}`)!), name).toBeLessThan(1e-4);
        }
        expect([...stored.keys()].filter((key) => key.startsWith(`${setting}/`))).toHaveLength(
          policy.native.trainable().length,
        );
        // A step of learning rate 0 reports the norm, changes nothing and empties the accumulators for the next setting.
        const { gradNorm } = await policy.step(coefficients, { learningRate: 0 });
        expect(Math.abs(gradNorm / expected.grad_norm - 1)).toBeLessThan(1e-4);
      },
    );

    it('takes the five training steps', async () => {
      const { lr, alpha_step, max_grad_norm, trace } = golden.training;
      using trained = await openPolicy(fixture(checkpoint));
      await trained.loadAdapter(fixture(`${checkpoint}/adapter`), { accumulators: 3, optimizer });
      const weights = new MirrorAscent({ step: alpha_step }, groupSizes);
      for (const expected of trace) {
        const terms = pairTerms('ipo', 0.1, 0, await trained.forward(batch));
        const totals = new GroupTotals(3);
        for (const [i, pair] of golden.pairs.entries()) totals.add(pair.group, terms.losses[i]);
        const robust = robustStep(totals, weights, [1 / 3, 1 / 3, 1 / 3]);
        await trained.backward(cotangentsOf(terms), treeGroups);
        const { gradNorm } = await trained.step(robust.coefficients, { learningRate: lr, maxGradNorm: max_grad_norm });
        expect(relativeError(totals.means() as number[], expected.group_losses)).toBeLessThan(1e-3);
        expect(relativeError(weights.alpha, expected.alpha)).toBeLessThan(1e-3);
        expect(Math.abs(robust.loss / expected.weighted - 1)).toBeLessThan(1e-3);
        expect(Math.abs(gradNorm / expected.grad_norm - 1)).toBeLessThan(1e-3);
      }
      const after = await trained.logProbabilities(batch, 'policy');
      expect(largestDifference(after, golden.after_training.flat())).toBeLessThan(1e-3);
      expect(await trained.logProbabilities(batch, 'base')).toEqual(reference);
    });
  },
);

describe.each(switches)('against transformers and PEFT on odd sizes in bfloat16 shards, %s kernels', (kernels) => {
  beforeAll(() => loadNative().setKernels(kernels));
  interface OddGolden {
    trees: Tree[];
    base: number[];
    policy: number[];
    policy_bfloat16: number[];
    cotangents: number[];
    gradients: Record<string, number[]>;
  }
  const expected = fixtureJson<OddGolden>('gemma-odd/golden.json');
  const trees = packedBatch(expected.trees);

  it('has the log-probs and the gradient in float32', async () => {
    using policy = await openPolicy(fixture('gemma-odd'));
    await policy.loadAdapter(fixture('gemma-odd/adapter'));
    expect(largestDifference(await policy.logProbabilities(trees, 'base'), expected.base)).toBeLessThan(1e-5);
    expect(largestDifference(await policy.forward(trees), expected.policy)).toBeLessThan(1e-5);
    await policy.backward(Float64Array.from(expected.cotangents), new Int32Array(expected.trees.length));
    const names = policy.native.trainable().map(({ name }) => name);
    expect(new Set(names)).toEqual(new Set(Object.keys(expected.gradients)));
    for (const name of names)
      expect(
        relativeError(await policy.native.readGradient(name, Float64Array.of(1)), expected.gradients[name]),
        name,
      ).toBeLessThan(1e-4);
  });

  it('stays near transformers in bfloat16, at positions bfloat16 cannot represent too', async () => {
    using policy = await openPolicy(fixture('gemma-odd'), { dtype: 'bfloat16' });
    await policy.loadAdapter(fixture('gemma-odd/adapter'));
    const logps = await policy.logProbabilities(trees, 'policy');
    // Both round every activation to 8 bits; they agree to what that rounding costs each of them.
    const cost = largestDifference(expected.policy_bfloat16, expected.policy);
    expect(largestDifference(logps, expected.policy)).toBeLessThan(2 * cost + 0.05);
    await policy.forward(trees);
    await policy.backward(Float64Array.from(expected.cotangents), new Int32Array(expected.trees.length));
    const gradient = await allGradients(policy, Float64Array.of(1));
    const names = policy.native.trainable().map(({ name }) => name);
    expect(
      relativeError(
        gradient,
        names.flatMap((name) => expected.gradients[name]),
      ),
    ).toBeLessThan(0.1);
  });
});
