import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { openModel } from '../../src/cli/model.js';
import type { PairDataset } from '../../src/data/pairs/dataset.js';
import type { NativeBatch } from '../../src/native/types.js';
import { marginLoss } from '../../src/objective/losses.js';
import { GemmaPolicy } from '../../src/policy/gemma.js';
import type { Policy } from '../../src/policy/policy.js';
import { regularisedPolicy } from '../../src/policy/regularised-policy.js';
import { minimax } from '../../src/theory/minimax.js';
import { resolveConfig } from '../../src/train/config.js';
import { objectiveSchema } from '../../src/train/objective-config.js';
import { runTraining } from '../../src/train/run.js';
import { evaluateSurvey, type ScoredSurvey } from '../../src/train/survey.js';
import { trainPolicy } from '../../src/train/trainer.js';
import { groupRobust } from '../cli/run.js';
import { writeLines } from '../data/helpers.js';
import { packedBatch } from '../policy/gemma-helpers.js';
import { temporaryFolder } from '../temporary-folder.js';
import { writeIdPairs } from './id-pairs.js';
import { UnigramPolicy } from './unigram-policy.js';

/** Robust reward models: runs with `loss: reward`, and what the commands make of their adapters. */
const folder = temporaryFolder();
const at = (...names: string[]) => join(folder, ...names);
const linesOf = (file: string) =>
  readFileSync(file, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
const quiet = { quiet: true, log: () => {} };
const model = 'random:tiny?layers=1';

function writePairs(name: string, count: number): string {
  return writeIdPairs(at(name), count, (i, random) => ({ group: ['x', 'y', 'z'][i < 3 ? i : random.integer(2)] }));
}
const [train, validation, test] = [writePairs('train.jsonl', 20), writePairs('b.jsonl', 9), writePairs('c.jsonl', 11)];

const base = {
  model,
  device: 'cpu',
  dtype: 'float32',
  threads: 1,
  data: { train, validation, test },
  optimizer: { learningRate: 0.01 },
  batch: { size: 5 },
};
const reward = { loss: 'reward', weights: 'mirror-ascent', step: 0.1 };

beforeAll(async () => {
  const run = (raw: object) => runTraining(resolveConfig({ ...base, ...raw }), quiet);
  await run({ objective: { loss: 'sft' }, lora: { rank: 2 }, steps: 2, output: at('sft') });
  await run({
    objective: reward,
    adapter: at('sft/adapter'),
    steps: 12,
    evaluateEvery: 4,
    checkpoint: { best: true },
    output: at('reward'),
  });
});

describe('a run with loss: reward', () => {
  it('starts from scores of 0, and ranks better at its end', () => {
    const lines = linesOf(at('reward/metrics.jsonl'));
    const [first, last] = [lines[0], lines.at(-1)];
    expect(first).toMatchObject({ step: 0, eval_loss: Math.LN2, 'eval_rewards/margins': 0, 'eval_worst/accuracy': 0 });
    expect(lines[1].mean_loss).toBeCloseTo(Math.LN2, 12);
    expect(last.loss).toBeLessThan(0.5);
    expect(last['group/x/alpha']).not.toBe(first['group/x/alpha']);
    for (const line of lines) expect(Object.keys(line).filter((key) => key.includes('logps'))).toEqual([]);
  });

  it('has in evaluation.json what the scores of single responses make by the Bradley-Terry model', async () => {
    using policy = await GemmaPolicy.open(model, { device: 'cpu', threads: 1 });
    await policy.loadAdapter(at('reward/adapter'));
    const groups = new Map<string, { weight: number; loss: number; right: number }>();
    for (const { group, prompt_ids: prompt, chosen_ids, rejected_ids, weight } of linesOf(test)) {
      const [chosen, rejected] = [
        (await policy.logProbabilities(packedBatch([{ prompt, responses: [chosen_ids] }]), 'policy'))[0],
        (await policy.logProbabilities(packedBatch([{ prompt, responses: [rejected_ids] }]), 'policy'))[0],
      ];
      const sums = groups.get(group) ?? { weight: 0, loss: 0, right: 0 };
      sums.weight += weight;
      sums.loss -= weight * Math.log(Math.exp(chosen) / (Math.exp(chosen) + Math.exp(rejected)));
      sums.right += chosen > rejected ? weight : 0;
      groups.set(group, sums);
    }
    const evaluation = JSON.parse(readFileSync(at('reward/evaluation.json'), 'utf8'));
    for (const [name, { weight, loss, right }] of groups) {
      expect(evaluation.groups[name].loss).toBeCloseTo(loss / weight, 5);
      expect(evaluation.groups[name]['rewards/accuracies']).toBeCloseTo(right / weight, 12);
    }
    expect(Object.keys(evaluation.groups)).toHaveLength(groups.size);
    const accuracies = [...groups.values()].map(({ weight, right }) => right / weight);
    expect(evaluation.worst.accuracy).toBeCloseTo(Math.min(...accuracies), 12);
  });

  it('records what it started from, writes its best step, and goes on from its checkpoint', async () => {
    const record = JSON.parse(readFileSync(at('reward/adapter/group_robust.json'), 'utf8'));
    expect(record).toMatchObject({ method: 'gr-reward', reference: { adapter: '../../sft/adapter' } });
    for (const adapter of ['adapter', 'adapter-best'])
      expect(JSON.parse(readFileSync(at('reward', adapter, 'adapter_config.json'), 'utf8'))).toMatchObject({
        task_type: 'SEQ_CLS',
        modules_to_save: ['score'],
      });
    const raw = { ...base, objective: reward, adapter: at('sft/adapter'), output: at('longer'), evaluateEvery: 4 };
    await runTraining(resolveConfig({ ...raw, steps: 8 }), quiet);
    await runTraining(resolveConfig({ ...raw, steps: 12 }), quiet, { resume: true });
    const weights = (run: string) => readFileSync(at(run, 'adapter/adapter_model.safetensors'));
    expect(weights('longer').equals(weights('reward'))).toBe(true);
  });

  it.each([
    ['reward', 'name the policy that it was trained from'],
    ['dpo', 'name a policy, such as the adapter of an SFT run'],
  ])('is no start of another, with loss: %s', async (loss, fix) => {
    const config = resolveConfig({
      ...base,
      objective: loss === 'dpo' ? { loss, beta: 0.1 } : { loss },
      adapter: at('reward/adapter'),
      steps: 1,
      output: at('never'),
    });
    await expect(runTraining(config, quiet)).rejects.toThrow(/field "adapter": .*is a reward model, and no run starts/);
    await expect(runTraining(config, quiet)).rejects.toThrow(fix);
  });

  it.each([
    [{ beta: 0.1 }, /beta does nothing with loss: reward/],
    [{ reduction: 'mean' }, /reduction does nothing with loss: reward/],
    [{ gamma: 1 }, /gamma does nothing with loss: reward/],
  ])('refuses %j', (keys, message) => {
    const { error } = objectiveSchema.safeParse({ loss: 'reward', ...keys });
    expect(error?.issues.map(({ path, message: text }) => `${path} ${text}`).join()).toMatch(message);
  });
});

it.each([
  [{ loss: 'reward' }, {}, /field "objective.loss": is for a reward model, and this is a policy/],
  [{ loss: 'sft' }, { isReward: true }, /field "objective.loss": is for a policy, and this is a reward model/],
])('trainPolicy with %j refuses the other kind', async (objective, kind, message) => {
  const config = resolveConfig({ ...base, objective, steps: 1, output: at('none') });
  const none = { file: 'none', groups: ['x'], counts: [0], pairs: [] } as unknown as PairDataset;
  const policy = Object.assign(new UnigramPolicy(), kind);
  await expect(trainPolicy(policy, none, undefined, config, { onStep: () => {} })).rejects.toThrow(message);
});

describe('commands', () => {
  const command = (name: string, adapter: string, ...more: string[]) =>
    groupRobust([name, '--model', model, '--adapter', at(adapter, 'adapter'), '--pairs', test, '--quiet', ...more]);

  it('eval --objective reward has the figures of the run, logprobs the scores behind them', () => {
    const { json } = command('eval', 'reward', '--objective', 'reward', '--json');
    const evaluation = JSON.parse(readFileSync(at('reward/evaluation.json'), 'utf8'));
    expect(json.objective).toEqual({ loss: 'reward' });
    expect(command('eval', 'reward', '--json').json).toEqual(json);
    expect(json.groups).toEqual(evaluation.groups);
    expect(json.worst).toEqual(evaluation.worst);
    const { stdout } = command('logprobs', 'reward', '--out', '-');
    const scores = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    const pairs = linesOf(at('reward/evaluation-pairs.jsonl'));
    expect(scores).toEqual(
      pairs.map((pair) => ({ reward_chosen: pair['rewards/chosen'], reward_rejected: pair['rewards/rejected'] })),
    );
  });

  it.each([
    ['eval', 'sft', ['--beta', '1'], /field "--beta": does nothing without --survey/],
    [
      'eval',
      'reward',
      ['--objective', 'dpo,beta=1'],
      /field "--adapter": .*is a reward model, which has no log-probabilities/,
    ],
    ['sample', 'reward', ['--out', '-'], /field "--adapter": .*is a reward model/],
  ] as const)('%s refuses the adapter of %s with %j', (name, adapter, more, message) => {
    const { status, stdout, stderr } = command(name, adapter, ...more);
    expect(stderr).toMatch(message);
    expect([status, stdout]).toEqual([2, '']);
  });

  const reward = at('reward/adapter');
  it.each([
    [{ scores: 'rewards' }, {}, /field "--adapter": is needed/],
    [
      { scores: 'logps' },
      { adapter: at('sft/adapter'), referenceAdapter: reward },
      /field "--reference-adapter": .*is a reward model/,
    ],
    [
      {},
      { adapter: reward, referenceAdapter: at('sft/adapter') },
      /field "--reference-adapter": does nothing: .*is a reward model/,
    ],
  ] as const)('a model for %j is not opened with %j', async (uses, options, message) => {
    const read = () => Promise.reject(new Error('it was opened'));
    const opened = openModel({ model, ...options }, { usesReference: true, usesGroups: true, ...uses }, read);
    await expect(opened).rejects.toThrow(message);
  });
});

describe('the policy that is best for a reward model', () => {
  /** Scores a response by its first token, the reference by a third of its square. */
  const ofTokens = (score: (token: number) => number): Policy<NativeBatch> => ({
    logProbabilities: ({ tokens, promptLengths, responseCounts, responseLengths }) => {
      const scores: number[] = [];
      let place = 0;
      let response = 0;
      promptLengths.forEach((length, tree) => {
        place += length;
        for (let r = 0; r < responseCounts[tree]; r++) {
          scores.push(score(tokens[place]));
          place += responseLengths[response++];
        }
      });
      return Float64Array.from(scores);
    },
    forward: () => new Float64Array(),
    backward: () => {},
    discardGradients: () => {},
    step: () => ({ gradNorm: 0 }),
  });

  it('is compared with a survey: π ∝ π_ref exp(r/β)', async () => {
    const prompt = Int32Array.of(1);
    const options = [4, 5, 6].map((token) => Int32Array.of(token, 1));
    const shares = [0.2, 0.5, 0.3];
    const question = { id: 'q', group: 0, prompt, options, shares, question: 'q' };
    const [first, ...others] = options;
    const survey: ScoredSurvey = {
      file: 'q',
      groups: ['x'],
      questions: [question],
      pairs: others.map((rejected) => ({ id: 'q', group: 0, prompt, chosen: first, rejected, weight: 1 })),
      batches: [Int32Array.of(0, 1)],
      reference: [Float64Array.from([4, 5, 6], (token) => -(token ** 2) / 3)],
    };
    const rewards = ofTokens((token) => Math.sin(token));
    const { policy, reference } = await evaluateSurvey(rewards, survey, { rewardBeta: 0.5 });
    // The same answers as of a policy that has them as log-probabilities.
    const direct = await evaluateSurvey(
      ofTokens((token) => -(token ** 2) / 3 + Math.sin(token) / 0.5),
      survey,
    );
    expect(policy.mean.similarity).toBeCloseTo(direct.policy.mean.similarity, 12);
    expect(reference?.mean.similarity).not.toBeCloseTo(policy.mean.similarity, 2);
  });

  /**
   * Prop. 3.2: of the robust reward it is what GR-DPO finds. Two groups divided over three answers to one prompt; the exact minimax of the
   * Bradley-Terry losses over all rewards judges both, by pairs with hard labels, ten for each with a soft one.
   */
  it('is that of GR-DPO where the reward is robust, on a Gemma', { timeout: 120_000 }, async () => {
    const prompt = [2, 7];
    const answers = [
      [11, 1],
      [12, 1],
      [13, 1],
    ];
    const beta = 0.5;
    const opinions = { x: [0.9, 0.8, 0.3], y: [0.4, 0.9, 0.9] };
    const pairsOf = [
      [0, 1],
      [0, 2],
      [1, 2],
    ] as const;
    const file = writeLines(
      folder,
      'divided.jsonl',
      Object.entries(opinions).flatMap(([group, preferences]) =>
        pairsOf.map(([chosen, rejected], i) => ({
          group,
          prompt_ids: prompt,
          chosen_ids: answers[chosen],
          rejected_ids: answers[rejected],
          preference: preferences[i],
        })),
      ),
    );
    const small = 'random:tiny?layers=1&hidden=16&mlp=16&vocab=32&heads=2&kv=1&head=8';
    const batch = packedBatch([{ prompt, responses: answers }]);
    const trained = async (objective: object, output: string) => {
      const raw = {
        model: small,
        device: 'cpu',
        dtype: 'float64',
        threads: 1,
        data: { train: file },
        objective: { ...objective, weights: 'mirror-ascent', step: 0.2 },
        lora: { rank: 4 },
        optimizer: { learningRate: 0.01, weightDecay: 0, schedule: 'linear' },
        batch: { size: 6 },
        steps: 200,
        checkpoint: { every: 200 },
        output: at(output),
      };
      await runTraining(resolveConfig(raw), quiet);
      const policy = await GemmaPolicy.open(small, { device: 'cpu', dtype: 'float64', threads: 1 });
      await policy.loadAdapter(at(output, 'adapter'));
      return policy;
    };
    const normalised = (logps: Float64Array) => {
      const masses = logps.map((logp) => Math.exp(logp));
      return masses.map((mass) => mass / masses.reduce((sum, one) => sum + one));
    };
    using rewardModel = await trained({ loss: 'reward' }, 'robust-reward');
    using policy = await trained({ loss: 'dpo', beta }, 'gr-dpo');
    const reference = await policy.logProbabilities(batch, 'base');
    const scores = await rewardModel.logProbabilities(batch, 'policy');
    const twoStage = normalised(regularisedPolicy(scores, reference, beta));
    const atOnce = normalised(await policy.logProbabilities(batch, 'policy'));

    const groups = Object.values(opinions).map((preferences) => ({
      count: 30,
      differences: Float64Array.from(
        preferences.flatMap((p, i) =>
          Array.from({ length: 10 }, (_, n) => (n < Math.round(10 * p) ? 1 : -1)).flatMap((sign) => {
            const [chosen, rejected] = pairsOf[i];
            return [0, 1].map((o) => sign * (Number(chosen === o) - Number(rejected === o)));
          }),
        ),
      ),
    }));
    const exact = minimax({ dimension: 2, groups }, marginLoss({ loss: 'dpo', beta: 1 }));
    expect(Math.min(...exact.alpha)).toBeGreaterThan(0.4);
    const best = normalised(regularisedPolicy(Float64Array.of(exact.theta[0], exact.theta[1], 0), reference, beta));
    expect(Math.max(...best.map((p, o) => Math.abs(p - normalised(reference)[o])))).toBeGreaterThan(0.3);
    for (let o = 0; o < 3; o++) {
      expect(twoStage[o]).toBeCloseTo(best[o], 3);
      expect(atOnce[o]).toBeCloseTo(best[o], 3);
    }
  });
});
