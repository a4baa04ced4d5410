import { createHash } from 'node:crypto';
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { GroupRobustError, InputError, InterruptedError, present } from '../../src/errors.js';
import type { FileState } from '../../src/files/opened-file.js';
import { GemmaPolicy } from '../../src/policy/gemma.js';
import { type Checkpoint, Checkpoints } from '../../src/train/checkpoint.js';
import { resolveConfig, type TrainConfig } from '../../src/train/config.js';
import { runIdentity } from '../../src/train/identity.js';
import { runTraining } from '../../src/train/run.js';
import { hasEnded } from '../../src/train/run-folder.js';
import { fixture } from '../policy/gemma-helpers.js';
import { temporaryFolder } from '../temporary-folder.js';
import { writeIdPairs } from './id-pairs.js';

const folder = temporaryFolder();

/** Three groups of unequal size. */
function writePairs(name: string, count: number): string {
  return writeIdPairs(join(folder, name), count, (i, random) => ({
    group: ['x', 'y', 'z'][i < 3 ? i : random.integer(2)],
  }));
}
const train = writePairs('train.jsonl', 11);
const validation = writePairs('validation.jsonl', 5);
/** More sets of groups than a batch has pairs. */
const lists = writeIdPairs(join(folder, 'lists.jsonl'), 12, (i) => ({
  group: [['x'], ['x', 'y'], ['y', 'z'], ['z'], ['x', 'z']][i % 5],
}));

/** For the golden fixture, whose vocabulary is small. */
const fewIds = join(folder, 'few-ids.jsonl');
writeFileSync(
  fewIds,
  Array.from({ length: 9 }, (_, i) => ({
    group: ['x', 'y', 'z'][i % 3],
    prompt_ids: [2, 3 + i, 40 + i],
    chosen_ids: [60 + i, 1],
    rejected_ids: [80 + i, 90, 1],
  }))
    .map((row) => `${JSON.stringify(row)}\n`)
    .join(''),
);

const gr = { weights: 'mirror-ascent', step: 0.02 };
let runs = 0;

/** Two epochs of three batches of 3 and one of 2; checkpoints in the middle of the first, and at the end. */
function configFor(objective: object, changes: object = {}): TrainConfig {
  const raw = {
    model: 'random:tiny?layers=1',
    threads: 1,
    output: join(folder, `run-${runs++}`),
    data: { train, validation, test: validation },
    objective,
    lora: { rank: 2 },
    optimizer: { learningRate: 0.01, warmupSteps: 2, schedule: 'cosine' },
    batch: { size: 3, micro: 2 },
    steps: 6,
    evaluateEvery: 2,
    checkpoint: { every: 3, keep: 3 },
    ...changes,
  };
  return resolveConfig(raw, () => ({}));
}

async function run(config: TrainConfig, resume = false) {
  const text: string[] = [];
  const result = await runTraining(config, { quiet: true, log: (line) => text.push(line) }, { resume });
  return { result, text: text.join('\n') };
}

const digest = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

/** SHA-256 of every file of a run but those that hold the time, by relative path. */
function contents(output: string): Record<string, string> {
  const files = readdirSync(output, { recursive: true, encoding: 'utf8' }).filter(
    (name) => statSync(join(output, name)).isFile() && !/^(run\.json|report\.html|events\..*)$/.test(name),
  );
  return Object.fromEntries(files.sort().map((name) => [name, digest(readFileSync(join(output, name)))]));
}

const checkpoint = (config: TrainConfig, step: number, file = '') =>
  join(config.output, 'checkpoints', `step-0000000${step}`, file);

/** What kill -9 leaves after step 6 was logged and before it was saved, a torn line and unfinished outputs included. */
function killedAfterStep3(config: TrainConfig): void {
  rmSync(checkpoint(config, 6), { recursive: true });
  for (const name of ['adapter', 'alpha.csv', 'evaluation.json'])
    rmSync(join(config.output, name), { recursive: true, force: true });
  writeFileSync(join(config.output, 'metrics.jsonl'), '{"step":7,"lo', { flag: 'a' });
  writeFileSync(join(config.output, '.alpha.csv.0123abcd.partial'), 'step,');
  cpSync(checkpoint(config, 3), join(config.output, 'checkpoints', '.step-00000006.89abcdef.partial'), {
    recursive: true,
  });
}

describe('six steps straight are three, a kill, and three, bit for bit', () => {
  const losses = [
    { loss: 'sft' },
    { loss: 'dpo', beta: 0.1 },
    { loss: 'ipo', beta: 0.1 },
    { loss: 'hinge', beta: 0.1 },
  ];
  const weights = [
    { weights: 'erm' },
    { weights: 'uniform' },
    { weights: 'importance', pairWeights: [1, 2, 0.5] },
    { ...gr, chi: 0.7, floor: 0.05, adjustment: [0, 0.3, 0.1] },
  ];
  const others: [object, string][] = [
    [{ loss: 'dpo', beta: 0.1, ...gr, weights: 'exp3', schedule: 'adaptive', chi: 0.8 }, 'stratified'],
    [{ loss: 'simpo', beta: 2, ...gr, weights: 'optimistic', ambiguity: { set: 'kl', radius: 0.1 } }, 'proportional'],
    [{ loss: 'orpo', beta: 0.1, weights: 'best-response', iterate: 'average' }, 'balanced'],
    [{ loss: 'reward', ...gr, chi: 0.7 }, 'proportional'],
  ];
  const samplers = ['proportional', 'balanced', 'stratified'];
  const cases = losses.flatMap((loss, i) =>
    weights.map((weight, j): [object, string] => [{ ...loss, ...weight }, samplers[(i + j) % 3]]),
  );

  it.each([...cases, ...others])('%j, %s batches', async (objective, sampler) => {
    const config = configFor(objective, { batch: { size: 3, micro: 2, sampler } });
    const straight = await run(config);
    const before = contents(config.output);
    expect(before['checkpoints/step-00000003/checkpoint.json']).toBeDefined();
    killedAfterStep3(config);
    const resumed = await run(config, true);
    expect(contents(config.output)).toEqual(before);
    // How long it took, and what came from the cache, are no part of the outcome.
    const effort = { seconds: 0, reference: undefined };
    expect({ ...resumed.result, ...effort }).toEqual({ ...straight.result, ...effort });
    // The test would prove nothing if the last three steps left no trace.
    const log = readFileSync(join(config.output, 'metrics.jsonl'), 'utf8').trim().split('\n');
    expect(log.length).toBe(7);
    expect(new Set(log.map((line) => JSON.parse(line).grad_norm)).size).toBeGreaterThan(4);
  });

  it.each([
    ['float64', { dtype: 'float64' }],
    ['float64 SFT', { dtype: 'float64', objective: { loss: 'sft' } }],
    ['bfloat16', { dtype: 'bfloat16' }],
    ['a step size of 0, which leaves α at exactly 1/3', { objective: { loss: 'dpo', beta: 1, ...gr, step: 0 } }],
    ['groups that overlap', { data: { train: lists, validation: lists, test: lists } }],
    ['the simultaneous order', { objective: { loss: 'dpo', beta: 1, ...gr, order: 'simultaneous' } }],
  ])('with %s', async (_, changes) => {
    const config = configFor({ loss: 'dpo', beta: 0.1, ...gr }, changes);
    await run(config);
    const before = contents(config.output);
    killedAfterStep3(config);
    await run(config, true);
    expect(contents(config.output)).toEqual(before);
  });

  it('from an adapter whose frozen copy is the reference', async () => {
    const first = configFor({ loss: 'sft' });
    await run(first);
    const changes = { adapter: join(first.output, 'adapter'), lora: undefined };
    const config = configFor({ loss: 'ipo', beta: 0.1, ...gr }, changes);
    await run(config);
    const before = contents(config.output);
    killedAfterStep3(config);
    await run(config, true);
    expect(contents(config.output)).toEqual(before);
  });
});

describe('averageFrom', () => {
  const changes = (steps: number, optimizer: object = {}) => ({
    dtype: 'float64',
    optimizer: { learningRate: 0.01, ...optimizer },
    steps,
    checkpoint: { every: 3, keep: 3, best: true },
  });
  const objective = { loss: 'ipo', beta: 0.1, ...gr };
  const adapter = async ({ output }: TrainConfig, name = 'adapter') => {
    using policy = await GemmaPolicy.open('random:tiny?layers=1', { dtype: 'float64', threads: 1 });
    await policy.loadAdapter(join(output, name));
    const values: number[] = [];
    for (const { name } of policy.native.trainable()) values.push(...(await policy.native.readTrainable(name)));
    return values;
  };
  const evaluation = ({ output }: TrainConfig, name = 'evaluation.json') =>
    JSON.parse(readFileSync(join(output, name), 'utf8'));

  it('saves and evaluates the mean of the adapters that shorter runs end with, and goes on to the same bytes', async () => {
    const config = configFor(objective, changes(6, { averageFrom: 2 }));
    const { result, text } = await run(config);
    expect(text).toContain('of the mean of the adapters of steps 2 to 6 (optimizer.averageFrom)');
    const single: number[][] = [];
    for (let step = 2; step <= 6; step++) {
      const shorter = configFor(objective, changes(step));
      await run(shorter);
      single.push(await adapter(shorter));
    }
    const meanOf = (last: number) => {
      const kept = single.slice(0, last - 1);
      return present(kept[0]).map((_, i) => kept.reduce((sum, values) => sum + values[i], 0) / kept.length);
    };
    const distance = (a: number[], b: number[]) => Math.max(...a.map((value, i) => Math.abs(value - b[i])));
    // Adapters are written in float32.
    const [last, best] = [await adapter(config), await adapter(config, 'adapter-best')];
    expect(distance(last, meanOf(6))).toBeLessThan(1e-7);
    expect(distance(last, single[4])).toBeGreaterThan(1e-3);
    expect(present(result.best).step).toBeGreaterThanOrEqual(2);
    expect(distance(best, meanOf(present(result.best).step))).toBeLessThan(1e-7);

    // Validation, which is the test file too, is of the mean, and the adapter that is saved has those figures.
    expect(result.last['eval_worst/loss']).toBe(evaluation(config).worst.loss);
    expect(present(result.best).loss).toBe(evaluation(config, 'evaluation-best.json').worst.loss);
    const again = { ...changes(1), adapter: join(config.output, 'adapter'), reference: 'base', lora: undefined };
    const loaded = configFor(objective, again);
    await run(loaded);
    const [first] = readFileSync(join(loaded.output, 'metrics.jsonl'), 'utf8').split('\n', 1);
    expect(JSON.parse(first)['eval_worst/loss']).toBeCloseTo(evaluation(config).worst.loss, 5);

    const before = contents(config.output);
    killedAfterStep3(config);
    await run(config, true);
    expect(contents(config.output)).toEqual(before);
  });

  it('beyond the last step is refused before anything is written', async () => {
    expect(() => configFor(objective, changes(6, { averageFrom: 7 }))).toThrow(/averageFrom": exceeds steps 6/);
    const config = configFor(objective, { ...changes(6, { averageFrom: 99 }), steps: undefined, epochs: 1 });
    await expect(run(config)).rejects.toThrow(/"optimizer\.averageFrom": is 99, but the run has \d+ steps/);
    expect(existsSync(config.output)).toBe(false);
  });
});

/** Settings under which a few steps show everything: cuts on the way, and an end by them before the last step. */
const impatient = {
  optimizer: {
    learningRate: 0.02,
    schedule: 'plateau',
    plateau: { patience: 0, threshold: 0.5, factor: 0.5, stopBelow: 0.003 },
  },
  steps: 9,
  evaluateEvery: 1,
  checkpoint: { every: 1, keep: 3, best: true },
};

describe('a plateau and the best checkpoint', () => {
  const objective = { loss: 'ipo', beta: 0.1, ...gr };
  const record = (config: TrainConfig) => JSON.parse(readFileSync(join(config.output, 'run.json'), 'utf8'));
  const lines = (config: TrainConfig): Record<string, number>[] =>
    readFileSync(join(config.output, 'metrics.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));

  it('come out the same to the bit from every checkpoint on', async () => {
    const config = configFor(objective, impatient);
    const { result } = await run(config);
    const before = contents(config.output);
    const log = lines(config);
    // Every evaluation but the first is no improvement by half, and the third cut takes 0.02 to 0.0025.
    expect(log.map((line) => line['plateau/cuts'])).toEqual([0, 1, 2, 3]);
    expect(log.slice(1).map((line) => line.learning_rate)).toEqual([0.02, 0.01, 0.005]);
    expect(log.slice(1).map((line) => line['alpha/step'])).toEqual([0.02, 0.01, 0.005]);
    expect(result.steps).toBe(3);
    expect(record(config)).toMatchObject({ steps: 3, best: result.best });
    for (const step of [3, 2, 1]) {
      for (let later = step + 1; later <= 3; later++) rmSync(checkpoint(config, later), { recursive: true });
      for (const name of ['adapter', 'adapter-best']) rmSync(join(config.output, name), { recursive: true });
      await run(config, true);
      expect(contents(config.output)).toEqual(before);
    }
  });

  it('keep the best step apart from the newest, with the adapter and test scores that it had', async () => {
    // The worst group's loss rises at this rate, so the best step is an early one.
    const changes = {
      optimizer: { learningRate: 0.02 },
      evaluateEvery: 1,
      checkpoint: { every: 1, keep: 2, best: true },
    };
    const config = configFor({ loss: 'ipo', beta: 0.1 }, changes);
    const { result } = await run(config);
    const worst = lines(config).map((line) => line['eval_worst/loss']);
    const step = worst.indexOf(Math.min(...worst));
    expect(result.best).toMatchObject({ step, loss: worst[step] });
    expect(step).toBeLessThan(4);
    expect(readdirSync(join(config.output, 'checkpoints')).sort()).toEqual(
      [step, 5, 6].map((kept) => `step-0000000${kept}`),
    );
    // Validation and test are one file here.
    const best = JSON.parse(readFileSync(join(config.output, 'evaluation-best.json'), 'utf8'));
    expect(best.worst.loss).toBe(worst[step]);
    const adapterOf = (name: string) => digest(readFileSync(join(config.output, name, 'adapter_model.safetensors')));
    expect(adapterOf('adapter-best')).not.toBe(adapterOf('adapter'));
  });

  it('cannot be asked for half-way: the best step so far may be gone', async () => {
    const config = configFor(objective);
    await run(config);
    const changed = { ...config, checkpoint: { ...config.checkpoint, best: true } };
    await expect(run(changed, true)).rejects.toThrow(/field "checkpoint\.best": is true, but was false/);
  });
});

describe('a signal in an evaluation', () => {
  const objective = { loss: 'ipo', beta: 0.1, ...gr };
  /** Three pairs too long to be scored together. */
  const long = join(folder, 'long.jsonl');
  const prompt = (first: number) => [2, ...Array.from({ length: 600 }, (_, i) => 3 + ((first * i) % 1000))];
  const longPair = (group: string, i: number) => ({
    group,
    prompt_ids: prompt(i + 1),
    chosen_ids: [5, 1],
    rejected_ids: [6, 1],
  });
  writeFileSync(long, ['x', 'y', 'z'].map((group, i) => `${JSON.stringify(longPair(group, i))}\n`).join(''));
  const data = { train, validation: long, test: long, maxLength: 700 };

  /** Counts the batches that the policy scores, and sends SIGTERM while it scores number `stop`. */
  function spy(stop?: number) {
    const original = GemmaPolicy.prototype.logProbabilities;
    const scored = { batches: 0 };
    vi.spyOn(GemmaPolicy.prototype, 'logProbabilities').mockImplementation(function (this: GemmaPolicy, batch, model) {
      if (model === 'policy' && ++scored.batches === stop) process.emit('SIGTERM', 'SIGTERM');
      return original.call(this, batch, model);
    });
    return scored;
  }
  afterEach(() => vi.restoreAllMocks());

  // Evaluations after steps 0, 2 and 4 (the last, and the best or not), then the test split for the last and the best step.
  const settings = { data, steps: 4, checkpoint: { every: 3, keep: 2, best: true } };

  it('stops after the batch in hand and is saved, and the resumed run ends in the same bytes', async () => {
    const config = configFor(objective, settings);
    const all = spy();
    const straight = await run(config);
    const before = contents(config.output);
    expect(all.batches).toBe(5 * 3);
    for (let stop = 1; stop <= all.batches; stop++) {
      rmSync(config.output, { recursive: true });
      vi.restoreAllMocks();
      const scored = spy(stop);
      const attempt = await run(config).then(
        () => undefined,
        (error) => error,
      );
      // A signal in the very last batch finds nothing left to stop.
      if (stop < all.batches) {
        expect(attempt).toBeInstanceOf(InterruptedError);
        expect(attempt.exitCode).toBe(143);
        expect(scored.batches).toBe(stop);
        const step = 2 * Math.floor((stop - 1) / 3);
        const ended = stop % 3 === 0;
        expect(attempt.message).toMatch(
          stop < 9 && !ended
            ? `stopped by SIGTERM in the evaluation after step ${step} of 4, which is saved\n  fix: run the same command`
            : stop <= 9
              ? `stopped by SIGTERM after step ${step} of 4, which is saved`
              : 'stopped by SIGTERM while the test pairs were scored; all 4 steps are saved\n  fix: run the same command',
        );
        expect(existsSync(join(config.output, '.lock'))).toBe(false);
        vi.restoreAllMocks();
        // What was evaluated is not evaluated again, and no step is taken again.
        const forward = vi.spyOn(GemmaPolicy.prototype, 'step');
        const resumed = await run(config, true);
        expect(forward).toHaveBeenCalledTimes(stop <= 9 ? 4 - step : 0);
        expect(resumed.result.best).toEqual(straight.result.best);
      }
      expect(contents(config.output)).toEqual(before);
    }
  });

  it('may come again in the same evaluation', async () => {
    const config = configFor(objective, settings);
    await run(config);
    const before = contents(config.output);
    rmSync(config.output, { recursive: true });
    for (const stop of [5, 2, 1]) {
      spy(stop);
      await expect(run(config, true)).rejects.toThrow('in the evaluation after step 2 of 4, which is saved');
      vi.restoreAllMocks();
    }
    await run(config, true);
    expect(contents(config.output)).toEqual(before);
  });

  it('with a plateau leaves cuts and patience as they were', async () => {
    const config = configFor(objective, { ...impatient, data });
    await run(config);
    const before = contents(config.output);
    for (const stop of [2, 5, 8, 11]) {
      rmSync(config.output, { recursive: true });
      spy(stop);
      await expect(run(config)).rejects.toThrow(/in the evaluation/);
      vi.restoreAllMocks();
      await run(config, true);
      expect(contents(config.output)).toEqual(before);
    }
  });
});

it('a test split whose scores are not finite names pairs and fix, and costs nothing but these scores', async () => {
  const config = configFor(
    { loss: 'ipo', beta: 0.1, ...gr },
    { data: { train, test: validation }, evaluateEvery: undefined },
  );
  const original = GemmaPolicy.prototype.logProbabilities;
  const scoring = vi.spyOn(GemmaPolicy.prototype, 'logProbabilities');
  // Without a validation split the policy scores by this call for the test split alone.
  scoring.mockImplementation(async function (this: GemmaPolicy, batch, model) {
    const scores = await original.call(this, batch, model);
    return model === 'policy' ? scores.fill(Number.POSITIVE_INFINITY) : scores;
  });
  await expect(run(config)).rejects.toThrow(
    /^after all 6 steps: the evaluation on .*validation\.jsonl: .* of .*validation\.jsonl:1, .*\n {2}fix: .*--adapter .*adapter, which is written$/,
  );
  scoring.mockRestore();
  expect(existsSync(checkpoint(config, 6))).toBe(true);
  expect(existsSync(join(config.output, 'adapter/adapter_model.safetensors'))).toBe(true);
  await run(config, true);
  const before = contents(config.output);
  rmSync(config.output, { recursive: true });
  await run(config);
  expect(contents(config.output)).toEqual(before);
});

it('tests and writes the best step though the scores of the last one are not finite', async () => {
  const config = configFor(
    { loss: 'ipo', beta: 0.1, ...gr },
    { data: { train, validation, test: validation }, evaluateEvery: 2, checkpoint: { every: 2, best: true } },
  );
  const save = GemmaPolicy.prototype.saveAdapter;
  const score = GemmaPolicy.prototype.logProbabilities;
  let lastIsTested = false;
  vi.spyOn(GemmaPolicy.prototype, 'saveAdapter').mockImplementation(function (this: GemmaPolicy, ...args) {
    lastIsTested = args[0] === join(config.output, 'adapter');
    return save.apply(this, args);
  });
  vi.spyOn(GemmaPolicy.prototype, 'logProbabilities').mockImplementation(async function (this: GemmaPolicy, ...args) {
    const scores = await score.apply(this, args);
    return lastIsTested && args[1] === 'policy' ? scores.fill(Number.POSITIVE_INFINITY) : scores;
  });
  await expect(run(config)).rejects.toThrow(/^after all 6 steps: .*--adapter .*adapter, which is written$/s);
  vi.restoreAllMocks();
  const files = ['adapter-best/adapter_model.safetensors', 'evaluation-best.json', 'evaluation-best-pairs.jsonl'];
  const written = () => files.map((file) => readFileSync(join(config.output, file)));
  const before = written();
  expect(existsSync(join(config.output, 'evaluation.json'))).toBe(false);
  rmSync(config.output, { recursive: true });
  await run(config);
  expect(written()).toEqual(before);
});

it('a run stopped shortly before its end keeps the checkpoints of one without a break', async () => {
  const config = configFor({ loss: 'ipo', beta: 0.1, ...gr }, { steps: 7, checkpoint: { every: 2, keep: 2 } });
  await run(config);
  const before = contents(config.output);
  rmSync(config.output, { recursive: true });
  const original = GemmaPolicy.prototype.step;
  let steps = 0;
  const stepping = vi.spyOn(GemmaPolicy.prototype, 'step').mockImplementation(function (this: GemmaPolicy, ...args) {
    if (++steps === 5) process.emit('SIGINT', 'SIGINT');
    return original.apply(this, args);
  });
  await expect(run(config)).rejects.toThrow('stopped by SIGINT after step 5 of 7, which is saved');
  stepping.mockRestore();
  expect(existsSync(checkpoint(config, 5))).toBe(true);
  await run(config, true);
  expect(contents(config.output)).toEqual(before);
});

describe('an input that changes during a run', () => {
  const objective = { loss: 'ipo', beta: 0.1, ...gr };
  /** Runs `change` after the fourth of six steps; the third is saved. */
  function changingAfter4(change: () => void) {
    const original = GemmaPolicy.prototype.step;
    let steps = 0;
    vi.spyOn(GemmaPolicy.prototype, 'step').mockImplementation(async function (this: GemmaPolicy, ...args) {
      const report = await original.apply(this, args);
      if (++steps === 4) change();
      return report;
    });
  }
  afterEach(() => vi.restoreAllMocks());

  it.each<[string, 'data' | 'model' | 'adapter', (file: string) => void]>([
    ['data written to', 'data', (file) => appendFileSync(file, '\n')],
    ['data replaced', 'data', (file) => renameSync(`${file}.new`, file)],
    ['data removed', 'data', (file) => rmSync(file)],
    ['a model replaced', 'model', (file) => renameSync(`${file}.new`, file)],
    ['a model written to', 'model', (file) => writeFileSync(file, readFileSync(`${file}.new`))],
    ['a model cut short', 'model', (file) => truncateSync(file, 4096)],
    ['an adapter written to', 'adapter', (file) => writeFileSync(file, readFileSync(`${file}.new`))],
  ])('%s: an error that names it, and the last checkpoint is good once it is put back', async (_, kind, change) => {
    const source = mkdtempSync(join(folder, 'changing-'));
    cpSync(fixture('gemma-tiny'), source, { recursive: true });
    cpSync(fewIds, join(source, 'pairs.jsonl'));
    const file = join(
      source,
      { data: 'pairs.jsonl', model: 'model.safetensors', adapter: 'adapter/adapter_model.safetensors' }[kind],
    );
    const bytes = readFileSync(file);
    const other = Buffer.from(bytes);
    other[other.length - 4] ^= 1;
    writeFileSync(`${file}.new`, other);
    const config = configFor(objective, {
      model: source,
      data: { train: join(source, 'pairs.jsonl'), test: join(source, 'pairs.jsonl') },
      ...(kind === 'adapter' ? { adapter: join(source, 'adapter'), lora: undefined } : {}),
      evaluateEvery: undefined,
    });
    await run(config);
    const before = contents(config.output);
    rmSync(config.output, { recursive: true });
    changingAfter4(() => change(file));
    const fault = await run(config).then(
      () => undefined,
      (error) => error,
    );
    expect(fault).toBeInstanceOf(InputError);
    expect(fault.message).toContain(`${file}: was`);
    expect(readdirSync(join(config.output, 'checkpoints'))).toEqual(['step-00000003']);
    expect(existsSync(join(config.output, 'adapter'))).toBe(false);
    vi.restoreAllMocks();
    writeFileSync(file, bytes);
    await run(config, true);
    expect(contents(config.output)).toEqual(before);
  });
});

describe('--resume', () => {
  const objective = { loss: 'ipo', beta: 0.1, ...gr };

  it('goes back to the newest whole checkpoint, says so, and notes the break in run.json', async () => {
    const config = configFor(objective);
    await run(config);
    const before = contents(config.output);
    const file = checkpoint(config, 6, 'policy.safetensors');
    const bytes = readFileSync(file);
    bytes[bytes.length - 9] ^= 1;
    writeFileSync(file, bytes);
    const { text } = await run(config, true);
    expect(text).toMatch(
      /skipped the checkpoint .*step-00000006, which cannot be gone on from: policy\.safetensors is damaged/,
    );
    expect(contents(config.output)).toEqual(before);
    const record = JSON.parse(readFileSync(join(config.output, 'run.json'), 'utf8'));
    expect(record.resumed).toMatchObject([{ step: 3, threads: 1 }]);
    expect(record.created).toBeDefined();
  });

  it('keeps groups whose names are numbers in their order in run.json, whether or not the run had a break', async () => {
    const names = ['10', '9', '2'];
    const numbered = writeIdPairs(join(folder, 'numbered.jsonl'), 9, (i) => ({ group: names[i % 3] }));
    const config = configFor(objective, { data: { train: numbered }, evaluateEvery: undefined });
    const written = () => {
      const text = readFileSync(join(config.output, 'run.json'), 'utf8');
      return [...text.matchAll(/^ {4}"(\d+)": \{/gm)].map(([, name]) => name);
    };
    await run(config);
    expect(written()).toEqual(names);
    rmSync(checkpoint(config, 6), { recursive: true });
    await run(config, true);
    expect(written()).toEqual(names);
  });

  it('finds a damaged best checkpoint before any step is taken', async () => {
    const changes = {
      optimizer: { learningRate: 0.02 },
      evaluateEvery: 1,
      checkpoint: { every: 1, keep: 2, best: true },
    };
    const config = configFor({ loss: 'ipo', beta: 0.1 }, changes);
    const { result } = await run(config);
    const best = `step-0000000${result.best?.step}`;
    rmSync(checkpoint(config, 6), { recursive: true });
    writeFileSync(join(config.output, 'checkpoints', best, 'policy.safetensors'), 'x');
    const stepping = vi.spyOn(GemmaPolicy.prototype, 'step');
    await expect(run(config, true)).rejects.toThrow(
      `step-00000005: the best one that it knows of, ${best}, is not whole: policy.safetensors is damaged`,
    );
    expect(stepping).not.toHaveBeenCalled();
    stepping.mockRestore();
  });

  it('goes back to a checkpoint that does not need the damaged best one', async () => {
    const output = mkdtempSync(join(folder, 'best-'));
    const checkpoints = new Checkpoints(output, 9, true);
    const save = (step: number, best: number) =>
      checkpoints.save(
        { trainer: { step, best: { step: best } }, log: {}, identity: {}, made: {} } as unknown as Checkpoint,
        async (file) => writeFileSync(file, `policy ${step}`),
        () => {},
      );
    for (const [step, best] of [
      [1, 1],
      [2, 2],
      [3, 2],
      [4, 2],
    ])
      await save(step, best);
    writeFileSync(await checkpoints.policyFile(2), 'x');
    const skipped: string[] = [];
    const found = await checkpoints.newest(
      () => undefined,
      (text) => skipped.push(text),
    );
    expect(found?.trainer.step).toBe(1);
    expect(skipped).toEqual([
      expect.stringMatching(
        /step-00000004, which cannot be gone on from: the best one that it knows of, step-00000002, is not/,
      ),
      expect.stringMatching(/step-00000003, which cannot be gone on from: the best one/),
      expect.stringMatching(/step-00000002, which cannot be gone on from: policy\.safetensors is damaged/),
    ]);
    expect(readdirSync(checkpoints.folder)).toEqual(['step-00000001']);
  });

  it('whose lock is lost while a checkpoint is written leaves the one that is there', async () => {
    const output = mkdtempSync(join(folder, 'lost-'));
    const checkpoints = new Checkpoints(output, 9, false);
    const save = (policy: string, check: () => void) =>
      checkpoints.save(
        { trainer: { step: 1 }, log: {}, identity: {}, made: {} } as unknown as Checkpoint,
        async (file) => writeFileSync(file, policy),
        check,
      );
    await save('good', () => {});
    const lost = new GroupRobustError('LOCK_LOST', 'lost');
    const failing = () => {
      throw lost;
    };
    await expect(save('late', failing)).rejects.toBe(lost);
    expect(readFileSync(await checkpoints.policyFile(1), 'utf8')).toBe('good');
  });

  it('leaves a finished run as it is, and keeps only as many checkpoints as asked for', async () => {
    const config = configFor(objective, { checkpoint: { every: 1, keep: 2 } });
    const straight = await run(config);
    expect(readdirSync(join(config.output, 'checkpoints')).sort()).toEqual(['step-00000005', 'step-00000006']);
    const before = contents(config.output);
    const again = await run(config, true);
    expect(contents(config.output)).toEqual(before);
    expect(again.result.last).toEqual(straight.result.last);
    expect(again.text).toMatch(/all 6 steps of \d+ pairs are done; training pairs: x \(\d+\)/);
    await expect(run(config)).rejects.toThrow(/already exists\n {2}fix: go on with it by --resume/);
  });

  it('starts where there is no run, and starts over where there is no checkpoint yet', async () => {
    const config = configFor(objective);
    await run(config, true);
    const before = contents(config.output);
    // Killed when it had made the folder and its first file.
    for (const name of readdirSync(config.output))
      if (name !== 'config.yaml') rmSync(join(config.output, name), { recursive: true });
    const { text } = await run(config, true);
    expect(text).toMatch(/no checkpoint yet; the run starts over/);
    expect(contents(config.output)).toEqual(before);
  });

  it('is known by every file that is read of a model, tokenizer or adapter, and by no other', async () => {
    const read = [
      'config.json',
      'tokenizer.json',
      'tokenizer_config.json',
      'chat_template.jinja',
      'adapter_config.json',
      'model.safetensors.index.json',
      'model-00001-of-00002.safetensors',
      'adapter_model.safetensors',
    ];
    for (const key of ['model', 'tokenizer', 'adapter']) {
      const source = mkdtempSync(join(folder, 'source-'));
      for (const name of read) writeFileSync(join(source, name), name);
      const config = { ...configFor({ loss: 'sft' }), [key]: source };
      const before = await runIdentity(config);
      writeFileSync(join(source, 'README.md'), 'text');
      expect(await runIdentity(config)).toEqual(before);
      for (const name of read) {
        writeFileSync(join(source, name), `${name}, another`);
        const after = await runIdentity(config);
        expect(after[key], `${key}: ${name}`).not.toBe(before[key]);
        writeFileSync(join(source, name), name);
      }
      expect(await runIdentity(config)).toEqual(before);
    }
  });

  it('is known by what is read beside a tokenizer.json that is named itself', async () => {
    const source = mkdtempSync(join(folder, 'source-'));
    const tokenizer = join(source, 'tokenizer.json');
    writeFileSync(tokenizer, 'tokenizer');
    const config = { ...configFor({ loss: 'sft' }), tokenizer };
    const seen = new Set<unknown>();
    const look = async () => {
      const opened: FileState[] = [];
      seen.add((await runIdentity(config, opened)).tokenizer);
      return opened.map(({ path }) => path);
    };
    await look();
    // Their tokens and turns make other ids of the same text.
    for (const name of ['tokenizer_config.json', 'chat_template.jinja']) {
      writeFileSync(join(source, name), name);
      expect(await look()).toContain(join(source, name));
    }
    writeFileSync(join(source, 'config.json'), 'not read');
    await look();
    expect(seen.size).toBe(3);
  });

  it('may have other threads and checkpoints, and says that versions or threads are others', async () => {
    const config = configFor(objective);
    await run(config);
    killedAfterStep3(config);
    const { text } = await run({ ...config, threads: 2, checkpoint: { every: 2, keep: 1, best: false } }, true);
    expect(text).toMatch(/began with .*"threads":1.* goes on with .*"threads":2/);
    expect(readdirSync(join(config.output, 'checkpoints'))).toEqual(['step-00000006']);
  });

  it('refuses a run of other settings, or of other data, and names the key', async () => {
    const own = join(folder, 'own.jsonl');
    cpSync(train, own);
    const config = configFor(objective, { data: { train: own }, evaluateEvery: undefined });
    await run(config);
    killedAfterStep3(config);
    const before = contents(config.output);
    const refused = async (changes: object, message: RegExp) => {
      const attempt = run({ ...config, ...changes } as TrainConfig, true);
      await expect(attempt).rejects.toThrow(InputError);
      await expect(attempt).rejects.toThrow(message);
    };
    await refused(
      { objective: { ...config.objective, step: 0.03 } },
      /field "objective\.step": is 0\.03, but was 0\.02 when the run began/,
    );
    await refused({ seed: 1 }, /field "seed"/);
    await refused(
      { objective: { ...config.objective, floor: 0.1 } },
      /field "objective\.floor": is 0\.1, but was absent/,
    );
    await refused({ model: 'random:tiny' }, /field "model": is "random:tiny", but was "random:tiny\?layers=1"/);
    await refused({ data: { ...config.data, validation } }, /field "data\.validation": .* was absent/);
    await refused(
      { data: { ...config.data, train: join(folder, 'gone') } },
      /gone: no such file\n {2}fix: check the name/,
    );
    writeFileSync(own, readFileSync(own, 'utf8').replace('"group":"x"', '"group":"y"'));
    await refused({}, /field "data\.train": has changed since the run began/);
    cpSync(train, own);
    expect(Object.keys(contents(config.output))).toEqual(Object.keys(before).filter((name) => !/partial/.test(name)));
    await run(config, true);
  });

  it('refuses where nothing whole is left, or the folder is no run, and leaves all as it is', async () => {
    const config = configFor(objective);
    await run(config);
    for (const step of [3, 6]) writeFileSync(checkpoint(config, step, 'checkpoint.json'), '{}');
    const before = contents(config.output);
    await expect(run(config, true)).rejects.toThrow(/holds no whole checkpoint \(step-00000006: checkpoint\.json is/);
    expect(contents(config.output)).toEqual(before);
    const foreign = configFor(objective, { output: folder });
    await expect(run(foreign, true)).rejects.toThrow(/already exists/);
  });

  it('refuses a log that is not the one its checkpoints were made beside', async () => {
    const config = configFor(objective);
    await run(config);
    const log = join(config.output, 'metrics.jsonl');
    writeFileSync(log, readFileSync(log, 'utf8').replace('"step":1,', '"step":9,'));
    await expect(run(config, true)).rejects.toThrow(/metrics\.jsonl no longer has the lines/);
    expect(existsSync(checkpoint(config, 6))).toBe(true);
  });
});

describe('a run made longer', () => {
  const objective = { loss: 'ipo', beta: 0.1, ...gr };
  const constant = { learningRate: 0.01, warmupSteps: 2 };
  const length = (changes: object) => ({
    steps: undefined,
    optimizer: constant,
    checkpoint: { every: 2, keep: 1, best: true },
    ...changes,
  });
  /** A checkpoint from before, kept as the best one, says of itself that it was made by the shorter run. */
  const outcome = (config: TrainConfig) =>
    Object.fromEntries(
      Object.entries(contents(config.output)).filter(
        ([name]) => !/step-00000004\/(checkpoint\.json|SHA256SUMS)/.test(name),
      ),
    );
  const longer = (config: TrainConfig, changes: Partial<TrainConfig>) => ({ ...config, ...changes });

  it.each<[string, Partial<TrainConfig>, Partial<TrainConfig>]>([
    ['steps', { steps: 4 }, { steps: 8 }],
    ['epochs', { epochs: 1, evaluateEvery: undefined }, { epochs: 2 }],
    ['steps, from an end that was evaluated out of turn', { steps: 5 }, { steps: 8 }],
  ])('by %s ends in the bytes of one that was as long from the start', async (_, short, long) => {
    const changes = {
      ...length(short),
      ...(short.steps === 5 ? { checkpoint: { every: 2, keep: 2, best: true } } : {}),
    };
    const whole = configFor(objective, { ...changes, ...long });
    await run(whole);
    const expected = outcome(whole);
    rmSync(whole.output, { recursive: true });
    const config = longer(configFor(objective, changes), { output: whole.output });
    await run(config);
    expect(outcome(config)).not.toEqual(expected);
    const { result, text } = await run(longer(config, long), true);
    expect(text).toMatch(/steps 5 to 8 of \d+ pairs; training pairs: /);
    expect(outcome(config)).toEqual(expected);
    expect(result.steps).toBe(8);
    const record = JSON.parse(readFileSync(join(whole.output, 'run.json'), 'utf8'));
    expect(record.steps).toBe(8);
    expect(record.resumed).toMatchObject([{ step: 4 }]);
  });

  it('has a record at all times that names no steps but those of the adapters beside it', async () => {
    // On the training pairs, whose loss falls: the best step is a late one.
    const data = { train, validation: train, test: validation };
    const config = configFor(objective, length({ steps: 4, data, optimizer: { ...constant, learningRate: 0.001 } }));
    const adapter = (name: string) => digest(readFileSync(join(config.output, name, 'adapter_model.safetensors')));
    const adapters = () => ({ last: adapter('adapter'), best: adapter('adapter-best') });
    const record = () => JSON.parse(readFileSync(join(config.output, 'run.json'), 'utf8'));
    await run(config);
    const short = { ...adapters(), steps: record().steps, step: record().best.step };
    const seen: { steps?: number; best?: number; last: string; bestAdapter: string }[] = [];
    const look = () => {
      const { steps, best } = record();
      const { last, best: bestAdapter } = adapters();
      seen.push({ steps, best: best?.step, last, bestAdapter });
    };
    for (const name of ['saveAdapter', 'loadState', 'logProbabilities'] as const) {
      const original = GemmaPolicy.prototype[name] as (...parameters: unknown[]) => Promise<never>;
      vi.spyOn(GemmaPolicy.prototype, name).mockImplementation(function (this: GemmaPolicy, ...parameters: unknown[]) {
        look();
        return original.apply(this, parameters).finally(look);
      });
    }
    const { result } = await run(longer(config, { steps: 8 }), true).finally(() => vi.restoreAllMocks());
    look();
    const long = { ...adapters(), steps: 8, step: result.best?.step };
    expect(long.step).not.toBe(short.step);
    expect(long.last).not.toBe(short.last);
    expect(long.best).not.toBe(short.best);
    const pairsOf = (wanted: 'steps' | 'best', beside: 'last' | 'bestAdapter') =>
      new Set(seen.flatMap((one) => (one[wanted] === undefined ? [] : [`${one[wanted]} ${one[beside]}`])));
    expect(pairsOf('steps', 'last')).toEqual(new Set([`4 ${short.last}`, `8 ${long.last}`]));
    expect(pairsOf('best', 'bestAdapter')).toEqual(
      new Set([`${short.step} ${short.best}`, `${long.step} ${long.best}`]),
    );
  });

  it('has ended before and after, and not meanwhile, whatever reports are made of it', async () => {
    const data = { train, validation: train, test: validation };
    const short = configFor(objective, length({ steps: 4, data, optimizer: { ...constant, learningRate: 0.001 } }));
    const seen: boolean[] = [];
    // All that counts of a report is that there is one.
    const report = async () => writeFileSync(join(short.output, 'report.html'), '');
    const look = async () => {
      if (existsSync(join(short.output, 'config.yaml'))) await report();
      seen.push(hasEnded(short.output, short));
    };
    for (const name of ['saveAdapter', 'loadState', 'logProbabilities'] as const) {
      const original = GemmaPolicy.prototype[name] as (...parameters: unknown[]) => Promise<never>;
      vi.spyOn(GemmaPolicy.prototype, name).mockImplementation(async function (
        this: GemmaPolicy,
        ...parameters: unknown[]
      ) {
        // Before a longer run goes on, its state is loaded.
        if (name !== 'loadState' || seen.at(-1) === false) await look();
        return original.apply(this, parameters);
      });
    }
    try {
      for (const config of [short, longer(short, { steps: 8 })]) {
        seen.length = 0;
        await runTraining(config, { quiet: true, log: () => {} }, { resume: true, report });
        expect(seen.length).toBeGreaterThan(4);
        expect(seen).not.toContain(true);
        expect(hasEnded(config.output, config)).toBe(true);
      }
    } finally {
      vi.restoreAllMocks();
    }
    for (const name of ['run.json', 'evaluation.json', 'evaluation-best.json', 'report.html']) {
      const kept = readFileSync(join(short.output, name));
      rmSync(join(short.output, name));
      expect(hasEnded(short.output, short), name).toBe(false);
      writeFileSync(join(short.output, name), kept);
    }
    expect(hasEnded(short.output, short)).toBe(true);
  });

  it.each<[string, object, RegExp]>([
    ['cosine', { schedule: 'cosine' }, /field "steps": is 8, but was 4 .*schedule: cosine all learning rates depend/],
    ['linear', { schedule: 'linear' }, /schedule: linear/],
    ['a warm-up that is a part of the steps', { warmupSteps: undefined, warmupRatio: 0.5 }, /warmupRatio: 0\.5/],
  ])('is refused with %s, and the error names the ways out', async (_, optimizer, message) => {
    const config = configFor(objective, length({ steps: 4, optimizer: { ...constant, ...optimizer } }));
    await run(config);
    const before = contents(config.output);
    const attempt = run(longer(config, { steps: 8 }), true);
    await expect(attempt).rejects.toThrow(message);
    await expect(attempt).rejects.toThrow(
      /\n {2}fix: put steps back to 4; or start a run of 8 steps with another output; or start one from .*adapter/,
    );
    expect(contents(config.output)).toEqual(before);
  });

  it('is refused where only its last step is kept, and that was evaluated out of turn', async () => {
    const config = configFor(objective, length({ steps: 5, checkpoint: { every: 5, keep: 1 } }));
    await run(config);
    await expect(run(longer(config, { steps: 8 }), true)).rejects.toThrow(
      /step 5 was evaluated as the last of 5 steps.*no older checkpoint/,
    );
    expect(existsSync(checkpoint(config, 5))).toBe(true);
  });

  it('is refused where it would be shorter', async () => {
    const config = configFor(objective, length({ steps: 4 }));
    await run(config);
    await expect(run(longer(config, { steps: 2 }), true)).rejects.toThrow(/field "steps": is 2, but was 4/);
  });
});

it('a run says what an epoch is where groups come up in it more often than others', async () => {
  const uneven = writeIdPairs(join(folder, 'uneven.jsonl'), 10, (i) => ({ group: i === 0 ? 'few' : 'many' }));
  const said = async (sampler: string) => {
    const changes = { data: { train: uneven }, evaluateEvery: undefined, steps: 1, checkpoint: { every: 1 } };
    return (await run(configFor({ loss: 'dpo', beta: 0.1 }, { ...changes, batch: { size: 2, sampler } }))).text;
  };
  expect(await said('balanced')).toContain(
    'balanced batches: in an epoch of 5 steps a pair of few comes up 5.00 times, one of many 0.556',
  );
  expect(await said('proportional')).not.toContain('in an epoch');
});
