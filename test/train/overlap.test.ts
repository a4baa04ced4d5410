import { describe, expect, it } from 'vitest';
import type { PairDataset, TokenisedPair } from '../../src/data/pairs/dataset.js';
import { Random } from '../../src/numbers/random.js';
import { logSumExp } from '../../src/objective/simplex.js';
import { resolveConfig } from '../../src/train/config.js';
import { evaluatePairs } from '../../src/train/evaluate.js';
import type { MetricsLine } from '../../src/train/metrics-line.js';
import { pairObjective } from '../../src/train/objective.js';
import type { Objective } from '../../src/train/objective-config.js';
import { Reference, scoredDataset } from '../../src/train/scoring.js';
import { gradientAccumulators, trainPolicy } from '../../src/train/trainer.js';
import { dataset, UnigramPolicy } from './unigram-policy.js';

/** Pairs that are of several groups: [groups, chosen, rejected, weight?], the weights of mean 1. */
function overlapping(rows: [number[], number[], number[], number?][]): PairDataset {
  const keys = [...new Set(rows.map(([groups]) => groups.join()))];
  const made = dataset(rows.map(([groups, ...pair]) => [keys.indexOf(groups.join()), ...pair]));
  const cells = keys.map((key) => key.split(',').map(Number));
  const names = Array.from({ length: Math.max(...cells.flat()) + 1 }, (_, g) => `g${g}`);
  const counts = names.map((_, g) => rows.filter(([groups]) => groups.includes(g)).length);
  return { ...made, groups: names, counts, cells };
}

const some = overlapping([
  [[0, 1], [1, 2], [3], 0.5],
  [[0], [1], [4]],
  [[0, 1, 2], [0, 1], [2, 3], 2],
  [[1], [5], [1, 1], 0.25],
  [[1, 2], [4, 4], [2], 1.25],
  [[0], [2], [0, 5]],
]);
const members = (data: PairDataset, g: number) => data.pairs.filter(({ group }) => data.cells?.[group].includes(g));

const grIpo: Objective = { loss: 'ipo', beta: 0.5, reduction: 'sum', weights: 'mirror-ascent', step: 0.3 };
/** Where the reference is, and where training begins: elsewhere, so that losses differ. */
const reference = [...new UnigramPolicy().theta];
const start = reference.map((x, v) => x + 0.4 * Math.cos(3 * v));

async function run(objective: object, data = some, changes: object = {}, policy = new UnigramPolicy()) {
  policy.theta.set(start);
  const lines: MetricsLine[] = [];
  const config = resolveConfig({
    model: 'none',
    output: 'none',
    data: { train: 'none' },
    objective,
    optimizer: { learningRate: 0.05, maxGradNorm: 1e9 },
    batch: { size: data.pairs.length },
    steps: 1,
    ...changes,
  });
  const alpha = await trainPolicy(policy, data, undefined, config, { onStep: (line) => lines.push(line) });
  return { policy, lines, alpha };
}

/** IPO's loss of a pair for a policy that draws tokens from softmax(θ), by its definition. */
function ipoLoss(theta: ArrayLike<number>, { chosen, rejected }: TokenisedPair): number {
  const logp = (ids: Int32Array, of: ArrayLike<number>) => {
    const total = logSumExp(Float64Array.from(of));
    return [...ids].reduce((sum, token) => sum + of[token] - total, 0);
  };
  const ratio = (ids: Int32Array) => logp(ids, theta) - logp(ids, reference);
  return (ratio(chosen) - ratio(rejected) - 1) ** 2;
}

/** Σ w l / Σ w over the members of a group. */
function groupMean(theta: ArrayLike<number>, data: PairDataset, g: number): number {
  const own = members(data, g);
  const mass = own.reduce((sum, { weight }) => sum + weight, 0);
  return own.reduce((sum, pair) => sum + pair.weight * ipoLoss(theta, pair), 0) / mass;
}

function centralDifferences(value: (theta: number[]) => number): number[] {
  return start.map((_, v) => {
    const at = (step: number) => value(start.map((x, i) => (i === v ? x + step : x)));
    return (at(1e-5) - at(-1e-5)) / 2e-5;
  });
}

const taken = (theta: ArrayLike<number>) => start.map((x, v) => (x - theta[v]) / 0.05);

describe('training on groups that overlap', () => {
  it.each([
    { ...grIpo },
    { ...grIpo, scaling: 'batch-mean' },
    { ...grIpo, weights: 'optimistic', ambiguity: { set: 'cvar', level: 0.7 }, chi: 0.8 },
    { ...grIpo, weights: 'best-response', step: undefined, ambiguity: { set: 'kl', radius: 0.2 } },
    { ...grIpo, weights: 'exp3', chi: 0.5 },
    { ...grIpo, weights: 'importance', step: undefined, pairWeights: [1, 2, 0.5] },
    { ...grIpo, weights: 'uniform', step: undefined },
  ])('takes the gradient of Σ α_g L_g, by finite differences: $weights', async (objective) => {
    const { policy, lines } = await run(objective);
    const drawn = objective.weights === 'exp3';
    // exp3 has all on one group, which its line does not name: it is the one whose mean is the loss.
    const q = some.groups.map((name, g) =>
      drawn
        ? Number(Math.abs(Number(lines[1].loss) - groupMean(start, some, g)) < 1e-12)
        : Number(lines[1][`group/${name}/weight`]),
    );
    expect(q.reduce((sum, weight) => sum + weight, 0)).toBeCloseTo(1, 12);
    const whole = (theta: number[]) => q.reduce((sum, weight, g) => sum + weight * groupMean(theta, some, g), 0);
    expect(lines[1].loss).toBeCloseTo(whole(start), 10);
    centralDifferences(whole).forEach((slope, v) => {
      expect(taken(policy.theta)[v]).toBeCloseTo(slope, 6);
    });
    for (const [g, name] of some.groups.entries()) {
      expect(lines[1][`group/${name}/loss`]).toBeCloseTo(groupMean(start, some, g), 10);
      expect(lines[1][`group/${name}/count`]).toBe(members(some, g).length);
    }
  });

  it('with erm takes that of the plain mean over pairs, however many groups each is of', async () => {
    const mean = (theta: ArrayLike<number>) =>
      some.pairs.reduce((sum, pair) => sum + pair.weight * ipoLoss(theta, pair), 0) / some.pairs.length;
    const { policy, lines } = await run({ ...grIpo, weights: 'erm', step: undefined });
    expect(lines[1].loss).toBeCloseTo(mean(start), 10);
    expect(lines[1].mean_loss).toBeCloseTo(mean(start), 10);
    centralDifferences(mean).forEach((slope, v) => {
      expect(taken(policy.theta)[v]).toBeCloseTo(slope, 6);
    });
  });

  it('moves α by the means over all members', async () => {
    const { alpha } = await run(grIpo);
    const powers = some.groups.map((_, g) => Math.exp(0.3 * groupMean(start, some, g)));
    const total = powers.reduce((sum, power) => sum + power, 0);
    powers.forEach((power, g) => {
      expect(alpha[1][g]).toBeCloseTo(power / total, 10);
    });
  });

  it('does not depend on how batches are cut, nor on how many cells share the accumulators', async () => {
    // Five groups and many sets of them, more than a batch has pairs.
    const random = Random.stream(3, 'overlap');
    const ids = () => Array.from({ length: 1 + random.integer(3) }, () => random.integer(6));
    const many = overlapping(
      Array.from({ length: 40 }, (_, i) => [
        i < 5 ? [i] : [0, 1, 2, 3, 4].filter(() => random.integer(2) === 1).concat(5),
        ids(),
        ids(),
      ]),
    );
    expect(many.cells?.length).toBeGreaterThan(12);
    expect(gradientAccumulators(many, 8)).toBe(8);
    expect(gradientAccumulators(some, 8)).toBe(some.cells?.length);
    expect(gradientAccumulators({ groups: ['a', 'b'] }, 1)).toBe(1);
    expect(gradientAccumulators({ groups: ['a', 'b'] }, 3)).toBe(2);
    class Counting extends UnigramPolicy {
      readonly lengths = new Set<number>();
      override step(coefficients: Float64Array, settings: Parameters<UnigramPolicy['step']>[1]) {
        this.lengths.add(coefficients.length);
        return super.step(coefficients, settings);
      }
      override backward(cotangents: Float64Array, accumulators: Int32Array) {
        expect(Math.max(...accumulators)).toBeLessThan(8);
        super.backward(cotangents, accumulators);
      }
    }
    const policy = new Counting();
    const whole = await run(grIpo, many, { batch: { size: 8 }, steps: 12 }, policy);
    expect([...policy.lengths]).toEqual([8]);
    const cut = await run(grIpo, many, { batch: { size: 8, micro: 3 }, steps: 12 });
    for (const [v, x] of whole.policy.theta.entries()) {
      expect(cut.policy.theta[v]).toBeCloseTo(x, 12);
    }
  });

  it('comes to the worst-group optimum that brute force finds', async () => {
    // Responses of one token: the margin is ⟨d, θ⟩ without a normaliser, and only θ_0 − θ_2 and θ_1 − θ_2 count.
    const linear = overlapping([
      [[0, 1], [0], [2]],
      [[0, 2], [2], [0]],
      [[1, 2], [1], [0]],
      [[1], [2], [1]],
      [[0, 1, 2], [1], [2]],
    ]);
    const at = (a: number, b: number) => reference.map((x, v) => x + (v === 0 ? a : v === 1 ? b : 0));
    const worst = (a: number, b: number) => Math.max(...linear.groups.map((_, g) => groupMean(at(a, b), linear, g)));
    let best = { a: 0, b: 0, value: worst(0, 0) };
    for (let width = 2; width > 1e-4; width /= 3) {
      const centre = best;
      for (let i = -10; i <= 10; i++)
        for (let j = -10; j <= 10; j++) {
          const [a, b] = [centre.a + (i * width) / 10, centre.b + (j * width) / 10];
          const value = worst(a, b);
          if (value < best.value) best = { a, b, value };
        }
    }
    const { policy, lines } = await run({ ...grIpo, weights: 'optimistic', step: 0.1 }, linear, {
      steps: 800,
      optimizer: { learningRate: 0.05, maxGradNorm: 1e9 },
    });
    const reached = Math.max(...linear.groups.map((_, g) => groupMean(policy.theta, linear, g)));
    expect(reached).toBeGreaterThan(best.value - 1e-4);
    expect(reached).toBeLessThan(best.value + 1e-3);
    // Neither the start nor the plain mean is that good, or the test would show nothing.
    const { policy: plain } = await run({ ...grIpo, weights: 'erm', step: undefined }, linear, { steps: 300 });
    expect(Math.max(...linear.groups.map((_, g) => groupMean(plain.theta, linear, g)))).toBeGreaterThan(
      best.value + 0.01,
    );
    expect(Number(lines.at(-1)?.['worst/loss'])).toBeCloseTo(reached, 2);
  });

  it('refuses a tilt group by group, which would give a pair a loss for each of its groups', async () => {
    await expect(run({ ...grIpo, tilt: 1 })).rejects.toThrow(/objective\.tilt.*several groups.*erm/s);
    const { lines } = await run({ ...grIpo, weights: 'erm', step: undefined, tilt: 1 });
    const mean = some.pairs.reduce((sum, pair) => sum + pair.weight * Math.exp(ipoLoss(start, pair)), 0) / 6;
    expect(lines[1].loss).toBeCloseTo(Math.log(mean), 10);
  });
});

it('an evaluation has the means over members, and those over all pairs', async () => {
  const policy = new UnigramPolicy();
  policy.theta[1] += 0.4;
  const objective = pairObjective(grIpo);
  const scored = await scoredDataset(some, new Reference(policy));
  const summary = await evaluatePairs(policy, scored, objective);
  const means = some.groups.map((_, g) => groupMean(policy.theta, some, g));
  for (const [g, name] of some.groups.entries()) expect(summary.groups[name].loss).toBeCloseTo(means[g], 10);
  expect(summary.worst.group).toBe(some.groups[means.indexOf(Math.max(...means))]);
  const plain = some.pairs.reduce((sum, pair) => sum + pair.weight * ipoLoss(policy.theta, pair), 0) / 6;
  expect(summary.mean.loss).toBeCloseTo(plain, 10);
});

it.each([
  [{ overlaps: ['a'] }, /data\.groupBy.*\{ overlap: \[columns\] \}/],
  [{ overlap: ['a', 'a'] }, /data\.groupBy\.overlap.*same name twice/],
])('a configuration refuses groupBy: %j', (groupBy, message) => {
  const config = { model: 'none', output: 'none', objective: { loss: 'sft' }, steps: 1 };
  expect(() => resolveConfig({ ...config, data: { train: 'none', groupBy } })).toThrow(message);
});
