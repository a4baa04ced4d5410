import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { PairDataset } from '../../src/data/pairs/dataset.js';
import type { NativeBatch } from '../../src/native/types.js';
import type { GroupWeights } from '../../src/objective/group-weights.js';
import { marginLoss, sigmoid } from '../../src/objective/losses.js';
import { logSumExp } from '../../src/objective/simplex.js';
import type { LogProbabilitySource } from '../../src/policy/policy.js';
import { evaluatePairs } from '../../src/train/evaluate.js';
import type { MetricsLine } from '../../src/train/metrics-line.js';
import { NonFiniteError } from '../../src/train/non-finite.js';
import { marginObjective, type PairObjective, pairObjective } from '../../src/train/objective.js';
import type { Objective } from '../../src/train/objective-config.js';
import { Reference, scoredDataset } from '../../src/train/scoring.js';
import { type OwnObjective, type TrainerSettings, trainPolicy } from '../../src/train/trainer.js';
import type { TrainerState } from '../../src/train/trainer-hooks.js';
import { dataset, responsesOf, UnigramPolicy, vocabulary } from './unigram-policy.js';

const five = dataset([
  [0, [1, 2], [3]],
  [0, [1], [4]],
  [0, [0, 1], [2, 3]],
  [1, [5], [1, 1]],
  [1, [4, 4], [2]],
]);

const grIpo: Objective = { loss: 'ipo', beta: 0.5, reduction: 'sum', weights: 'mirror-ascent', step: 0.3 };
const ipo: Objective = { loss: 'ipo', beta: 0.5, reduction: 'sum', weights: 'erm' };

function settings(changes: Partial<TrainerSettings> = {}): TrainerSettings {
  return {
    objective: grIpo,
    optimizer: {
      learningRate: 0.05,
      betas: [0.9, 0.999],
      epsilon: 1e-8,
      weightDecay: 0,
      maxGradNorm: 1e9,
      warmupSteps: 0,
      schedule: 'constant',
    },
    batch: { size: 5, sampler: 'proportional' },
    steps: 3,
    seed: 1,
    nonFinite: { action: 'stop' },
    ...changes,
  };
}

async function run(changes: Partial<TrainerSettings> = {}, train = five, validation?: PairDataset) {
  const policy = new UnigramPolicy();
  const lines: MetricsLine[] = [];
  const warnings: string[] = [];
  const alpha = await trainPolicy(policy, train, validation, settings(changes), {
    onStep: (line) => lines.push(line),
    onWarning: (text) => warnings.push(text),
  });
  return { policy, lines, alpha, warnings };
}

function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>, digits = 10) {
  for (let i = 0; i < expected.length; i++) expect(actual[i]).toBeCloseTo(expected[i], digits);
}

describe('soft labels', () => {
  const preferences = [0.9, 0.5, 0.25, 1, 0];
  const soft = { ...five, pairs: five.pairs.map((pair, i) => ({ ...pair, preference: preferences[i] })) };
  /** Each pair with either label, as much as it has of it; a group of n pairs has 2n of these, whose weights have mean 1 too. */
  const hard: PairDataset = {
    ...five,
    pairs: five.pairs.flatMap((pair, i) => [
      { ...pair, weight: 2 * preferences[i] },
      { ...pair, chosen: pair.rejected, rejected: pair.chosen, weight: 2 * (1 - preferences[i]) },
    ]),
    counts: five.counts.map((count) => 2 * count),
  };
  const objectives: Objective[] = [
    grIpo,
    ipo,
    { loss: 'dpo', beta: 0.5, reduction: 'mean', labelSmoothing: 0.1, weights: 'mirror-ascent', step: 0.3 },
    { loss: 'dpo', beta: 0.5, reduction: 'sum', weights: 'importance' },
    { loss: 'hinge', beta: 0.5, reduction: 'sum', weights: 'uniform' },
  ];

  it.each(objectives)('train and evaluate as both hard labels by their shares: $loss, $weights', async (objective) => {
    const [one, other] = await Promise.all([
      run({ objective }, soft, soft),
      run({ objective, batch: { size: 10, sampler: 'proportional' } }, hard, hard),
    ]);
    expectClose(one.policy.theta, other.policy.theta, 12);
    one.alpha.forEach((alpha, step) => {
      expectClose(alpha, other.alpha[step], 12);
    });
    for (const metric of ['eval_loss', 'eval_worst/loss', 'eval_rewards/accuracies', 'eval_logps/accuracies'])
      expectClose(
        one.lines.map((line) => Number(line[metric])),
        other.lines.map((line) => Number(line[metric])),
        12,
      );
    expect(one.policy.theta).not.toEqual((await run({ objective })).policy.theta);
  });

  it('are refused by fine-tuning, whose loss looks at one response', async () => {
    const objective: Objective = { loss: 'sft', reduction: 'sum', weights: 'erm' };
    const refused =
      /field "preference": 4 pairs \(first made.jsonl:1\) have soft labels, which do nothing with loss: sft/;
    await expect(run({ objective }, soft)).rejects.toThrow(refused);
    await expect(run({ objective }, five, soft)).rejects.toThrow(refused);
    const scored = evaluatePairs(new UnigramPolicy(), await scoredDataset(soft, undefined), pairObjective(objective));
    await expect(scored).rejects.toThrow(refused);
    const all = { ...five, pairs: five.pairs.map((pair) => ({ ...pair, preference: 1 })) };
    expect((await run({ objective }, all)).lines).toEqual((await run({ objective })).lines);
  });
});

describe('losses and weightings of other kinds', () => {
  const objectives: Objective[] = [
    { loss: 'rdpo', beta: 0.5, labelSmoothing: 0.2, reduction: 'sum', weights: 'uniform' },
    { loss: 'simpo', beta: 2, gamma: 0.5, reduction: 'mean', weights: 'uniform' },
    { loss: 'orpo', beta: 0.5, reduction: 'mean', weights: 'erm' },
    { loss: 'dpo', beta: 0.5, reduction: 'sum', tilt: 0.4, weights: 'erm' },
    { loss: 'dpo', beta: 0.5, reduction: 'sum', tilt: -0.4, weights: 'uniform' },
    { loss: 'simpo', beta: 2, reduction: 'mean', tilt: 0.4, weights: 'importance' },
  ];
  const weighted = dataset([
    [0, [1, 2], [3], 1.5],
    [0, [1], [4], 0.5],
    [0, [0, 1], [2, 3]],
    [1, [5], [1, 1]],
    [1, [4, 4], [2]],
  ]);

  /** What a step on all pairs minimises, written from its definition. */
  function minimised(objective: Objective, theta: Float64Array): number {
    const logp = (tokens: Int32Array, at: Float64Array) =>
      tokens.reduce((sum, token) => sum + at[token] - logSumExp(at), 0);
    const start = new UnigramPolicy().theta;
    const losses = weighted.pairs.map(({ chosen, rejected }) => {
      if (objective.loss === 'simpo' || objective.loss === 'orpo') {
        const [a, b] = [chosen, rejected].map((tokens) => logp(tokens, theta) / tokens.length);
        if (objective.loss === 'simpo') return -Math.log(sigmoid(objective.beta * (a - b) - (objective.gamma ?? 0)));
        const odds = (mean: number) => Math.exp(mean) / (1 - Math.exp(mean));
        return -a - objective.beta * Math.log(sigmoid(Math.log(odds(a) / odds(b))));
      }
      if (objective.loss === 'sft' || objective.loss === 'reward') throw new Error('not here');
      const h = logp(chosen, theta) - logp(chosen, start) - logp(rejected, theta) + logp(rejected, start);
      return marginLoss(objective).value(h);
    });
    const mean = (pairs: number[]) => {
      const total = pairs.reduce((sum, i) => sum + weighted.pairs[i].weight, 0);
      const average = (of: (l: number) => number) =>
        pairs.reduce((sum, i) => sum + (weighted.pairs[i].weight / total) * of(losses[i]), 0);
      const tau = 'tilt' in objective ? objective.tilt : undefined;
      return tau === undefined ? average((l) => l) : tau * Math.log(average((l) => Math.exp(l / tau)));
    };
    if (objective.weights === 'erm') return mean([0, 1, 2, 3, 4]);
    return (mean([0, 1, 2]) + mean([3, 4])) / 2;
  }

  it.each(objectives)(
    'a step follows the gradient of what is minimised: $loss, tilt $tilt, $weights',
    async (objective) => {
      const { policy, lines } = await run({ objective, steps: 2 }, weighted);
      // The first step starts from the reference, where losses of margins are all the same; so the second is looked at.
      const before = (await run({ objective, steps: 1 }, weighted)).policy.theta;
      expect(lines[2].loss).toBeCloseTo(minimised(objective, before), 6);
      before.forEach((value, v) => {
        const moved = (by: number) => before.map((entry, u) => (u === v ? entry + by : entry));
        const slope = (minimised(objective, moved(1e-5)) - minimised(objective, moved(-1e-5))) / 2e-5;
        expect(policy.theta[v]).toBeCloseTo(value - 0.05 * slope, 7);
      });
    },
  );

  it('a tilted loss takes all pairs of a step at once', async () => {
    const objective = objectives[3];
    const whole = await run({ objective }, weighted);
    const cut = await run({ objective, batch: { size: 5, micro: 2, sampler: 'proportional' } }, weighted);
    expect(cut.lines).toEqual(whole.lines);
  });
});

describe('a loss and a weighting of one’s own', () => {
  const own = (given: OwnObjective, changes: Partial<TrainerSettings> = {}) => {
    const policy = new UnigramPolicy();
    const lines: MetricsLine[] = [];
    const hooks = { onStep: (line: MetricsLine) => lines.push(line) };
    return trainPolicy(policy, five, undefined, settings(changes), hooks, undefined, given).then(() => ({
      policy,
      lines,
    }));
  };
  const square: PairObjective = marginObjective({
    beta: 0.5,
    value: (h) => (h - 1) ** 2,
    derivative: (h) => 2 * (h - 1),
  });
  const fixed: GroupWeights = {
    name: 'mine',
    alpha: Float64Array.of(0.2, 0.8),
    weights: Float64Array.of(0.2, 0.8),
    next: () => Float64Array.of(0.2, 0.8),
  };

  it('are what those of the same formula are', async () => {
    expect((await own({ loss: square })).lines).toEqual((await run()).lines);
    const importance: Objective = { ...ipo, weights: 'importance', pairWeights: [0.2 / 3, 0.8 / 2] };
    const same = await run({ objective: importance });
    const both = await own({ loss: square, weighting: fixed }, { objective: undefined });
    expectClose(both.policy.theta, same.policy.theta, 12);
    expect(both.policy.theta).not.toEqual((await run()).policy.theta);
  });

  it('need no objective where both are given, and are told of it where one is', async () => {
    await expect(own({ loss: square }, { objective: undefined })).rejects.toThrow(/"objective": is missing/);
    await expect(own({ weighting: fixed }, { objective: undefined })).rejects.toThrow(/"objective": is missing/);
  });
});

describe('training loop', () => {
  it('takes the step that Algorithm 1 prescribes, by hand', async () => {
    const { policy, lines, alpha } = await run({ steps: 1 });
    const start = new UnigramPolicy();
    // At θ⁰ every margin is 0, so every IPO loss is 1/(4β²) = 1 and α stays uniform.
    expectClose(alpha[1], [0.5, 0.5], 12);
    expect(lines[1].loss).toBeCloseTo(1, 12);
    // θ¹ = θ⁰ − η Σ_g α_g mean_g l'(0) ∇h, with ∇ log π of a response by central differences.
    const slope = marginLoss({ loss: 'ipo', beta: 0.5 }).derivative(0);
    const expected = start.theta.map((value, v) => {
      const logp = (tokens: Int32Array, by: number) => {
        const theta = start.theta.slice();
        theta[v] += by;
        return tokens.reduce((sum, token) => sum + theta[token] - logSumExp(theta), 0);
      };
      const slopeOf = (tokens: Int32Array) => (logp(tokens, 1e-6) - logp(tokens, -1e-6)) / 2e-6;
      let gradient = 0;
      for (const pair of five.pairs)
        gradient += (0.5 / five.counts[pair.group]) * slope * (slopeOf(pair.chosen) - slopeOf(pair.rejected));
      return value - 0.05 * gradient;
    });
    expectClose(policy.theta, expected, 7);
  });

  it.each([1, 2, 3, 4])('micro-batches of %i give the step of the whole batch, and α moves once', async (micro) => {
    const whole = await run();
    const cut = await run({ batch: { size: 5, micro, sampler: 'proportional' } });
    expectClose(cut.policy.theta, whole.policy.theta);
    for (const [t, alpha] of cut.alpha.entries()) expectClose(alpha, whole.alpha[t]);
    expect(cut.alpha.length).toBe(4);
    expect(cut.lines[3].loss).toBeCloseTo(whole.lines[3].loss as number, 10);
  });

  it('with one group is the plain method, bit for bit, and step 0 is uniform weighting', async () => {
    const single = dataset([
      [0, [1, 2], [3]],
      [0, [1], [4]],
    ]);
    expect((await run({ objective: grIpo }, single)).lines).toEqual((await run({ objective: ipo }, single)).lines);
    const still = await run({ objective: { ...grIpo, step: 0 } });
    expect(still.lines).toEqual((await run({ objective: { ...ipo, weights: 'uniform' } })).lines);
    expect(new Set(still.alpha.flat())).toEqual(new Set([0.5]));
  });

  it('shows two methods with one seed the same batches', async () => {
    const batch = { size: 2, sampler: 'proportional' } as const;
    const [robust, plain] = [await run({ batch, steps: 7 }), await run({ batch, steps: 7, objective: ipo })];
    expect(robust.policy.batches).toEqual(plain.policy.batches);
    expect((await run({ batch, steps: 7, seed: 2 })).policy.batches).not.toEqual(plain.policy.batches);
  });

  it('is the same run for the same seed', async () => {
    const batch = { size: 2, sampler: 'balanced' } as const;
    expect((await run({ batch, steps: 9 })).lines).toEqual((await run({ batch, steps: 9 })).lines);
  });

  it('computes the prompt of a question once a step for all its pairs: tokens counted', async () => {
    // Six questions of 2 tokens with four pairs each, of two answers (1 + 1 tokens) out of four; one file order.
    const answers = [[1], [2], [3], [4]];
    const ranked = [
      [0, 1],
      [0, 3],
      [1, 2],
      [2, 3],
    ];
    const data = dataset(
      ranked.flatMap(([w, l]) =>
        Array.from({ length: 6 }, (_, q): [number, number[], number[]] => [q % 2, answers[w], answers[l]]),
      ),
    );
    data.pairs.forEach((pair, i) => {
      pair.prompt = Int32Array.of(2, i % 6);
    });
    for (const sampler of ['proportional', 'stratified'] as const) {
      const { policy } = await run({ batch: { size: 8, sampler }, steps: 6 }, data);
      // Two questions a step: 2 prompts and 4 answers each, instead of 8 · (2 + 1 + 1).
      expect(policy.batches.map((batch) => batch.tokens.length)).toEqual(Array(6).fill(2 * (2 + 4)));
    }
  });

  it('uses the last, smaller batch of an epoch at the right scale', async () => {
    const { lines } = await run({ batch: { size: 4, sampler: 'proportional' }, steps: undefined, epochs: 1 });
    const counts = lines.slice(1).map((line) => ['g0', 'g1'].map((g) => (line[`group/${g}/count`] as number) ?? 0));
    expect(counts.map(([a, b]) => a + b)).toEqual([4, 1]);
    // All losses are 1 at the start, so the signal is (N/N_g)(n_g/|S|), and α follows it.
    const signal = [(5 / 3) * (counts[0][0] / 4), (5 / 2) * (counts[0][1] / 4)];
    const alpha = signal.map((value) => Math.exp(0.3 * value));
    expect(lines[1].loss).toBeCloseTo((alpha[0] * signal[0] + alpha[1] * signal[1]) / (alpha[0] + alpha[1]), 10);
  });

  it('logs from step 0 on, with finite numbers, and evaluates without moving α or θ', async () => {
    const plain = await run();
    const watched = await run({ evaluateEvery: 2 }, five, five);
    expect(watched.lines.map((line) => line.step)).toEqual([0, 1, 2, 3]);
    expect(watched.lines.map((line) => 'eval_worst/loss' in line)).toEqual([true, false, true, true]);
    expect(watched.lines[0].eval_loss).toBeCloseTo(1, 12);
    for (const value of watched.lines.flatMap((line) => Object.values(line)))
      if (typeof value === 'number') expect(Number.isFinite(value)).toBe(true);
    expect(watched.alpha).toEqual(plain.alpha);
    expect(watched.policy.theta).toEqual(plain.policy.theta);
  });

  it('warms up linearly and reports the gradient norm before clipping', async () => {
    const optimizer = { ...settings().optimizer, learningRate: 1, warmupSteps: 2, maxGradNorm: 0.1 };
    const { lines } = await run({ optimizer });
    expect(lines.slice(1).map((line) => line.learning_rate)).toEqual([0.5, 1, 1]);
    expect(lines[1].grad_norm).toBeGreaterThan(0.1);
    expect(lines[1].grad_clipped).toBe(true);
  });

  it('stops before the step on a loss that is not finite, naming the pairs', async () => {
    const policy = new UnigramPolicy();
    const before = policy.theta.slice();
    const broken = policy.forward.bind(policy);
    policy.forward = (batch) => broken(batch).fill(Number.NaN);
    const attempt = trainPolicy(policy, five, undefined, settings({ batch: { size: 2, sampler: 'proportional' } }), {
      onStep: () => {},
    });
    await expect(attempt).rejects.toThrow(NonFiniteError);
    await expect(attempt).rejects.toThrow(/made\.jsonl:\d, made\.jsonl:\d/);
    await expect(attempt).rejects.toThrow(
      /\n {2}fix: lower optimizer\.learningRate, .* or set nonFinite\.action: skip$/,
    );
    expect(policy.theta).toEqual(before);
    expect(policy.steps).toBe(0);
  });

  /** A policy whose scores, or gradients, are not finite in the forward passes with these numbers, from 1. */
  function faulty(passes: number[], fault: 'score' | 'gradient') {
    const policy = new UnigramPolicy();
    const { forward, backward } = policy;
    let pass = 0;
    policy.forward = (batch) => {
      const scores = forward.call(policy, batch);
      if (passes.includes(++pass) && fault === 'score') scores[scores.length - 1] = Number.NEGATIVE_INFINITY;
      return scores;
    };
    policy.backward = (cotangents, accumulators) =>
      backward.call(
        policy,
        passes.includes(pass) && fault === 'gradient' ? cotangents.fill(Number.NaN) : cotangents,
        accumulators,
      );
    return policy;
  }

  it.each(['score', 'gradient'] as const)(
    'skips a step whose %s is not finite as if it had not been',
    async (fault) => {
      // Two micro-batches a step: the second one of step 2 is at fault, when the first has left its gradient already.
      const batch = { size: 4, micro: 2, sampler: 'balanced' } as const;
      const skip = { batch, steps: 4, nonFinite: { action: 'skip' as const } };
      const lines: MetricsLine[] = [];
      const warnings: string[] = [];
      const states: TrainerState[] = [];
      const thetas: Float64Array[] = [];
      const policy = faulty([4], fault);
      const history = await trainPolicy(policy, five, undefined, settings(skip), {
        onStep: (line) => lines.push(line),
        onWarning: (text) => warnings.push(text),
        afterStep: (state) => {
          states.push(state);
          thetas.push(policy.theta.slice());
          // Nothing is left over for the next step.
          expect(policy.gradient(Float64Array.of(1, 1))).toEqual(new Float64Array(vocabulary));
          return true;
        },
      });
      expect(thetas[2]).toEqual(thetas[1]);
      expect(thetas[3]).not.toEqual(thetas[2]);
      expect(history[2]).toEqual(history[1]);
      expect(states[2].groupWeights).toEqual(states[1].groupWeights);
      expect(lines.map((line) => line.skipped_steps)).toEqual([undefined, 0, 1, 1, 1]);
      expect(lines[2]).not.toHaveProperty('loss');
      expect(JSON.stringify(lines)).not.toContain('null');
      expect(warnings).toHaveLength(1);
      expect(warnings[0]).toMatch(
        /^step 2: the .* of made\.jsonl:\d.* is not a finite number; .*unchanged; skipped \(1 of/,
      );
      // The batches after it are those of a run without the fault.
      const plain = await run({ batch, steps: 4 });
      expect(policy.batches).toEqual(plain.policy.batches);
    },
  );

  it('stops at the limit of skipped steps, which resuming does not forget', async () => {
    const skip = { nonFinite: { action: 'skip' as const, limit: 2 }, steps: 9 };
    const states: TrainerState[] = [];
    const hooks = { onStep: () => {}, afterStep: (state: TrainerState) => states.push(state) > 0 };
    const policy = faulty([1, 3, 5], 'score');
    await expect(trainPolicy(policy, five, undefined, settings(skip), hooks)).rejects.toThrow(
      /^step 5: .*nonFinite\.limit allows only 2 steps to be skipped/,
    );
    expect(states.at(-1)).toMatchObject({ step: 4, skipped: 2 });
    const resumed = trainPolicy(faulty([1], 'score'), five, undefined, settings(skip), hooks, states.at(-1));
    await expect(resumed).rejects.toThrow(/^step 5: .*limit/);
  });

  it('says what to do where it is α that is not finite', async () => {
    const objective: Objective = { loss: 'ipo', beta: 0.01, reduction: 'sum', weights: 'mirror-ascent', step: 1e308 };
    const attempt = run({ objective }, five);
    await expect(attempt).rejects.toThrow(/step \d+: α has overflowed; .*\n {2}fix: lower objective\.step$/);
  });

  it('leaves α where it was before a step with a gradient that is not finite', async () => {
    const states: TrainerState[] = [];
    const attempt = trainPolicy(faulty([3], 'gradient'), five, undefined, settings(), {
      onStep: () => {},
      afterStep: (state) => states.push(state) > 0,
    });
    await expect(attempt).rejects.toThrow(/step 3: the gradient of made\.jsonl:\d.*weights and α are unchanged/s);
    await expect(attempt).rejects.toThrow(NonFiniteError);
  });

  it('names the pair whose evaluation is not finite', async () => {
    const policy = new UnigramPolicy();
    policy.theta[4] = Number.NaN;
    const attempt = evaluatePairs(policy, await scoredDataset(five, new Reference(policy)), pairObjective(ipo));
    await expect(attempt).rejects.toThrow(NonFiniteError);
    await expect(attempt).rejects.toThrow(/of made\.jsonl:1, made\.jsonl:2, .* is not a finite number/);
  });

  it.each([0, 2])(
    'stops on an evaluation after step %i that is not finite, with the line of that step',
    async (bad) => {
      const lines: MetricsLine[] = [];
      const states: TrainerState[] = [];
      class Faulty extends UnigramPolicy {
        override logProbabilities(batch: NativeBatch, source: LogProbabilitySource) {
          const scores = super.logProbabilities(batch, source);
          return evaluating === bad ? scores.fill(Number.NaN) : scores;
        }
      }
      let evaluating: number | undefined;
      const validation = { ...five, file: 'watched.jsonl' };
      const skip = { steps: 4, evaluateEvery: 1, nonFinite: { action: 'skip' as const } };
      const attempt = trainPolicy(new Faulty(), five, validation, settings(skip), {
        onStep: (line) => lines.push(line),
        afterStep: (state) => states.push(state) > 0,
        evaluating: (step) => {
          evaluating = step;
          return { update: () => {}, stop: () => (evaluating = undefined) };
        },
      });
      await expect(attempt).rejects.toThrow(NonFiniteError);
      await expect(attempt).rejects.toThrow(
        new RegExp(
          `^step ${bad}: the evaluation on watched\\.jsonl: .* of made\\.jsonl:1, .* is not a finite number.*\n {2}fix: `,
        ),
      );
      expect(lines.map(({ step, 'eval_worst/loss': loss }) => [step, loss !== undefined])).toEqual(
        Array.from({ length: bad + 1 }, (_, step) => [step, step < bad]),
      );
      if (bad > 0) expect(lines.at(-1)?.loss).toBeGreaterThan(0);
      expect(states.map(({ step }) => step)).toEqual(Array.from({ length: bad }, (_, step) => step));
    },
  );

  it('stops where it is told to, and continues from its state alone', async () => {
    const options = { batch: { size: 2, sampler: 'balanced' } as const, steps: 7, evaluateEvery: 3 };
    const whole: MetricsLine[] = [];
    await trainPolicy(new UnigramPolicy(), five, five, settings(options), { onStep: (line) => whole.push(line) });
    const parts: MetricsLine[] = [];
    const policy = new UnigramPolicy();
    let saved: string | undefined;
    const hooks = (stopAt: number) => ({
      onStep: (line: MetricsLine) => parts.push(line),
      afterStep: (state: TrainerState) => {
        saved = JSON.stringify(state);
        return state.step < stopAt;
      },
    });
    for (const stopAt of [0, 1, 4, 7])
      await trainPolicy(policy, five, five, settings(options), hooks(stopAt), saved && JSON.parse(saved));
    expect(parts).toEqual(whole);
  });

  it('stops before the step when α overflows, and counts the steps of part epochs exactly', async () => {
    await expect(run({ objective: { ...grIpo, beta: 0.05, step: 1e308 } })).rejects.toThrow(/objective\.step/);
    const ten = dataset(Array.from({ length: 10 }, (): [number, number[], number[]] => [0, [1], [2]]));
    const { lines } = await run({ steps: undefined, epochs: 1.1, batch: { size: 1, sampler: 'proportional' } }, ten);
    expect(lines).toHaveLength(1 + 11);
  });

  it('blames α for a loss that is no number only where the losses of the groups are numbers', async () => {
    const loss = pairObjective(grIpo);
    const hooks = { onStep() {} };
    const broken: PairObjective = {
      ...loss,
      couple: (outcome) => ({ ...outcome, losses: outcome.losses.map(() => Number.NaN) }),
    };
    const error = await trainPolicy(new UnigramPolicy(), five, undefined, settings(), hooks, undefined, {
      loss: broken,
    }).catch(String);
    expect(error).toContain('step 1: the loss of made.jsonl:');
    expect(error).toContain('is not a finite number');
    expect(error).not.toContain('objective.step');
  });

  it('warns when α has all but left the other groups', async () => {
    const { warnings } = await run({ objective: { ...grIpo, step: 1e4 }, steps: 20 });
    expect(warnings.some((text) => text.startsWith('ALPHA_SATURATED'))).toBe(true);
    expect((await run()).warnings).toEqual([]);
  });

  const moving = { loss: 'ipo', beta: 0.5, reduction: 'sum' } as const;
  it.each<[Objective, RegExp | undefined]>([
    [
      { ...grIpo, step: 1e4 },
      /Lower objective\.step, raise batch\.size, set objective\.floor or lower objective\.chi$/,
    ],
    [
      { ...grIpo, step: 1e4, ambiguity: { set: 'cvar', level: 0.01 } },
      /Lower objective\.step, raise batch\.size or lower objective\.chi$/,
    ],
    [{ ...moving, weights: 'best-response' }, undefined],
    [{ loss: 'simpo', beta: 2, reduction: 'mean', weights: 'best-response', iterate: 'average' }, undefined],
    [{ ...moving, weights: 'importance', pairWeights: [1, 0] }, undefined],
  ])('then advises what the configuration takes: %j', async (objective, says) => {
    const { warnings, lines } = await run({ objective, steps: 20 });
    expect(lines.some((line) => Number(line['weight/effective_groups']) < 1.05)).toBe(true);
    if (says === undefined) expect(warnings).toEqual([]);
    else expect(warnings).toEqual([expect.stringMatching(says)]);
  });

  it('tells of a weighting of one’s own that leaves the other groups, without keys of the configuration', async () => {
    const warnings: string[] = [];
    const alpha = Float64Array.of(1, 0);
    const weighting: GroupWeights = { name: 'mine', alpha, weights: alpha, next: () => alpha };
    const hooks = { onStep() {}, onWarning: (text: string) => warnings.push(text) };
    await trainPolicy(new UnigramPolicy(), five, undefined, settings(), hooks, undefined, { weighting });
    expect(warnings).toEqual([expect.stringMatching(/ALPHA_SATURATED.*Raise batch\.size, or let your weighting/)]);
  });

  it('names the key of the configuration where a value does not fit the groups', async () => {
    await expect(run({ objective: { ...grIpo, floor: 0.7 } })).rejects.toThrow(
      /field "objective\.floor": floor must lie in \[0, 0\.5\], not 0\.7/,
    );
    await expect(run({ objective: { ...grIpo, adjustment: [1] } })).rejects.toThrow(/field "objective\.adjustment"/);
    const ambiguity = { set: 'kl' as const, radius: 1, shares: [1] };
    await expect(run({ objective: { ...grIpo, ambiguity } })).rejects.toThrow(/field "objective\.ambiguity\.shares"/);
  });

  it('does not warn of an α on one group where χ keeps weight on all', async () => {
    const { warnings, lines } = await run({ objective: { ...grIpo, step: 1e5, chi: 0.1 }, steps: 20 });
    const last = lines[20];
    expect(last['alpha/effective_groups']).toBeLessThan(1.05);
    expect(last['weight/effective_groups']).toBeGreaterThan(1.9);
    expect(last['group/g0/weight']).toBeCloseTo(0.45 + 0.1 * (last['group/g0/alpha'] as number), 12);
    expect(warnings).toEqual([]);
  });

  it('warns of that once, in a run that goes on as in one without a break', async () => {
    const objective = { ...grIpo, step: 1e4 };
    const policy = new UnigramPolicy();
    const warnings: string[] = [];
    const onWarning = (text: string) => warnings.push(text);
    let saved: TrainerState | undefined;
    const afterStep = (state: TrainerState) => {
      saved = state;
      return !state.saturated;
    };
    await trainPolicy(policy, five, undefined, settings({ objective, steps: 20 }), {
      onStep() {},
      onWarning,
      afterStep,
    });
    expect(warnings).toHaveLength(1);
    expect(saved?.step).toBeLessThan(20);
    await trainPolicy(policy, five, undefined, settings({ objective, steps: 20 }), { onStep() {}, onWarning }, saved);
    expect(warnings).toHaveLength(1);
  });

  it('weights of pairs count in the losses that α follows', async () => {
    // One step of the ascent at θ⁰ gives α ∝ exp(step · ℓ_g), ℓ_g = Σ w l / (p_g |S|); every SFT loss is −log π(token).
    const weighted = dataset([
      [0, [1], [3], 1.5],
      [0, [4], [3], 0.5],
      [1, [2], [3]],
    ]);
    const sft: Objective = { loss: 'sft', reduction: 'sum', weights: 'mirror-ascent', step: 0.3 };
    const { alpha } = await run({ objective: sft, steps: 1, batch: { size: 3, sampler: 'proportional' } }, weighted);
    const { theta } = new UnigramPolicy();
    const loss = (token: number) => logSumExp(theta) - theta[token];
    const [first, second] = [(1.5 * loss(1) + 0.5 * loss(4)) / 2, loss(2)];
    expect(Math.log(alpha[1][0] / alpha[1][1])).toBeCloseTo(0.3 * (first - second), 10);
  });

  it('counts epochs by the pairs seen, also where the last batch of one is smaller', async () => {
    const { lines } = await run({ steps: 6, batch: { size: 2, sampler: 'proportional' } });
    expect(lines.map((line) => line.epoch)).toEqual([0, 2 / 5, 4 / 5, 1, 7 / 5, 9 / 5, 2]);
  });

  it.each<[string, object]>([
    ['alternating', { weights: 'mirror-ascent', step: 0.5 }],
    ['simultaneous', { weights: 'mirror-ascent', step: 0.5, order: 'simultaneous' }],
    [
      'simultaneous, with the average',
      { weights: 'mirror-ascent', step: 0.5, order: 'simultaneous', iterate: 'average' },
    ],
    ['best-response', { weights: 'best-response', order: 'simultaneous' }],
    ['optimistic', { weights: 'optimistic', step: 0.5, chi: 0.5 }],
  ])('logs the weights that a step had: %s', async (_, weights) => {
    const objective = { loss: 'dpo', beta: 1, reduction: 'sum', ...weights } as Objective;
    const { lines } = await run({ objective, steps: 5 }, five);
    for (const line of lines.slice(1)) {
      const [first, second] = ['g0', 'g1'].map(
        (name) => Number(line[`group/${name}/weight`]) * Number(line[`group/${name}/loss`]),
      );
      expect(first + second).toBeCloseTo(Number(line.loss), 12);
    }
    expect(lines[5]['group/g0/weight']).not.toBeCloseTo(0.5, 3);
  });

  it('logs the chance that a group had, not that of the next draw, with exp3', async () => {
    const objective: Objective = { loss: 'dpo', beta: 1, reduction: 'sum', weights: 'exp3', step: 0.5, chi: 0.9 };
    const { lines } = await run({ objective, steps: 5 }, five);
    // α moves with the draw; the chance of the first is that of the start, then each line has what α of the line before gives.
    const chance = (alpha: unknown) => 0.1 / 2 + 0.9 * Number(alpha);
    for (const [i, line] of lines.slice(1).entries())
      expect(line['group/g0/weight']).toBeCloseTo(chance(lines[i]['group/g0/alpha']), 12);
    expect(lines[5]['group/g0/alpha']).not.toBeCloseTo(0.5, 2);
  });

  it('warns where all steps are of the warm-up, and still counts them out', async () => {
    const warnings: string[] = [];
    const optimizer = { ...settings().optimizer, learningRate: 0.05, warmupSteps: 100 };
    for (const steps of [4, 100])
      await trainPolicy(new UnigramPolicy(), five, undefined, settings({ steps, optimizer }), {
        onStep() {},
        onWarning: (text) => warnings.push(text),
      });
    expect(warnings).toEqual([
      'optimizer.warmupSteps is 100, but the run has 4 steps: its learning rate only rises, to 0.00200 of 0.05',
    ]);
  });

  it('of two evaluations with the same worst loss the first is the best', async () => {
    const states: TrainerState[] = [];
    await trainPolicy(
      new UnigramPolicy(),
      five,
      five,
      settings({ steps: 2, evaluateEvery: 1, optimizer: { ...settings().optimizer, learningRate: 1e-300 } }),
      { onStep() {}, afterStep: (state) => states.push(state) > 0 },
    );
    expect(states.map(({ best }) => best?.step)).toEqual([0, 0, 0]);
  });

  it('weights (2, 0) on two pairs equal dropping the second', async () => {
    const weighted = dataset([
      [0, [1, 2], [3], 2],
      [0, [1], [4], 0],
    ]);
    const dropped = dataset([[0, [1, 2], [3]]]);
    expectClose((await run({}, weighted)).policy.theta, (await run({}, dropped)).policy.theta, 12);
  });

  it('supervised fine-tuning raises the chosen responses and never scores the others', async () => {
    const sft: Objective = { loss: 'sft', reduction: 'sum', weights: 'erm' };
    const { lines, policy } = await run({ objective: sft, steps: 10 });
    expect(lines[10].loss).toBeLessThan(lines[1].loss as number);
    expect(responsesOf(policy.batches[0])).toHaveLength(5);
  });

  it('full-batch GR-DPO on two opposed groups approaches equal group losses', async () => {
    // Both groups ask for opposite things, so the minimax policy serves neither and α ends interior.
    const opposed = dataset([
      [0, [1], [2]],
      [1, [2], [1]],
      [1, [2], [1]],
    ]);
    const objective: Objective = { loss: 'dpo', beta: 1, reduction: 'sum', weights: 'mirror-ascent', step: 0.05 };
    const { lines } = await run({ objective, steps: 3000 }, opposed);
    const last = lines[3000];
    expect(last['group/g0/loss']).toBeCloseTo(Math.LN2, 2);
    expect(last['group/g1/loss']).toBeCloseTo(Math.LN2, 2);
    expect(last['group/g0/alpha']).toBeCloseTo(0.5, 2);
    const plain = await run(
      { objective: { loss: 'dpo', beta: 1, reduction: 'sum', weights: 'erm' }, steps: 3000 },
      opposed,
    );
    // Without groups the majority wins: margin of group 1 tends to log 2, group 0's loss to log 3.
    expect(plain.lines[3000]['group/g0/loss']).toBeCloseTo(-Math.log(sigmoid(-Math.LN2)), 2);
  });
});

describe('evaluation', () => {
  it('scores every pair once whatever the batch size, a group of one included', async () => {
    const policy = new UnigramPolicy();
    policy.theta[1] += 0.7;
    const data = dataset([
      ...five.pairs.map((pair): [number, number[], number[]] => [0, [...pair.chosen], [...pair.rejected]]),
      [1, [1], [0]],
    ]);
    const objective = pairObjective(ipo);
    const evaluate = async (maxPairs?: number) =>
      evaluatePairs(policy, await scoredDataset(data, new Reference(policy), { maxPairs }), objective);
    const whole = await evaluate();
    expect(whole.groups.g1.count).toBe(1);
    expect(whole.groups.g0.count).toBe(5);
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 7 }), async (size) => {
        const cut = await evaluate(size);
        expect(cut.worst.loss).toBeCloseTo(whole.worst.loss as number, 10);
        expect(cut.groups.g0.count).toBe(5);
      }),
      { numRuns: 7 },
    );
  });
});
