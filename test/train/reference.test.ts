import { cpSync, readdirSync, readFileSync, renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { OpenedFile } from '../../src/files/opened-file.js';
import { loadNative } from '../../src/native/load.js';
import { Random } from '../../src/numbers/random.js';
import { GemmaPolicy } from '../../src/policy/gemma.js';
import { fileDigest, processorIdentity } from '../../src/policy/identity.js';
import { resolveConfig } from '../../src/train/config.js';
import { pairReader } from '../../src/train/inputs.js';
import { ReferenceCache, referenceFolder } from '../../src/train/reference-cache.js';
import { runTraining } from '../../src/train/run.js';
import { Reference, scoredDataset } from '../../src/train/scoring.js';
import { fixture, shakeAdapter } from '../policy/gemma-helpers.js';
import { temporaryFolder } from '../temporary-folder.js';

/** The reference of whole training runs, on random:tiny and the golden fixture; it is counted where it is computed. */

const folder = temporaryFolder();
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(referenceFolder(), { recursive: true, force: true });
});

/** n pairs of two groups, three pairs to a prompt. */
function pairsFile(name: string, n: number, seed: number): string {
  const random = Random.stream(seed, 'reference test');
  const ids = (longest: number) => Array.from({ length: 1 + random.integer(longest) }, () => 3 + random.integer(180));
  const rows = [];
  let prompt: number[] = [];
  for (let i = 0; i < n; i++) {
    if (i % 3 === 0) prompt = [2, ...ids(90)];
    rows.push({
      group: `g${i % 2}`,
      prompt_ids: prompt,
      chosen_ids: [...ids(4), 1],
      rejected_ids: [...ids(4), 190, 1],
    });
  }
  const file = join(folder, name);
  writeFileSync(file, rows.map((row) => JSON.stringify(row)).join('\n'));
  return file;
}
const data = {
  train: pairsFile('train.jsonl', 60, 1),
  validation: pairsFile('validation.jsonl', 20, 2),
  test: pairsFile('test.jsonl', 9, 3),
};

let runs = 0;
/** Trains in this process; `references` are the forward passes that the model made as a reference. */
async function train(changes: Record<string, unknown> = {}) {
  const output = join(folder, `run-${runs++}`);
  const forward = vi.spyOn(GemmaPolicy.prototype, 'logProbabilities');
  const log: string[] = [];
  const config = resolveConfig(
    {
      model: 'random:tiny',
      threads: 1,
      output,
      data,
      objective: { loss: 'ipo', beta: 0.1, weights: 'mirror-ascent', step: 0.01 },
      optimizer: { learningRate: 0.01 },
      batch: { size: 8, micro: 5 },
      steps: 6,
      evaluateEvery: 3,
      ...changes,
    },
    () => ({}),
  );
  const result = await runTraining(config, { quiet: true, log: (text) => log.push(text) });
  const references = forward.mock.calls.filter(([, source]) => source !== 'policy').length;
  forward.mockRestore();
  const bytes = Object.fromEntries(
    ['metrics.jsonl', 'alpha.csv', 'evaluation.json', 'adapter/adapter_model.safetensors'].map((name) => [
      name,
      readFileSync(join(output, name)),
    ]),
  );
  expect(result.reference.forwardPasses).toBe(references);
  return { result, references, bytes, log, warnings: log.filter((text) => text.startsWith('warning')) };
}

describe('a run', () => {
  it.each(['float32', 'bfloat16'])(
    'in %s is the same with a cold and a warm cache, which takes no forward pass',
    async (dtype) => {
      const cold = await train({ dtype });
      expect(cold.references).toBeGreaterThanOrEqual(4);
      expect(cold.warnings).toEqual([]);
      expect(readdirSync(referenceFolder())).toHaveLength(3);
      const warm = await train({ dtype });
      expect(warm.references).toBe(0);
      expect(warm.result.reference).toEqual({ pairs: 89, forwardPasses: 0 });
      expect(warm.bytes).toEqual(cold.bytes);
      expect(warm.log).toContainEqual(expect.stringContaining('80 pairs, all from the cache'));
      const lines = cold.bytes['metrics.jsonl']
        .toString()
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line));
      // Evaluation scores in the reference's batches: nothing but 0 while the two are one model, in any type.
      expect([lines[0]['eval_rewards/margins'], lines[0]['eval_rewards/accuracies']]).toEqual([0, 0]);
      expect(Math.abs(lines[1]['rewards/margins'])).toBeLessThan(1e-6);
      expect(lines[6]['eval_rewards/margins']).not.toBe(0);
    },
  );

  it('shares its reference with other seeds, methods and batch sizes', async () => {
    await train();
    for (const changes of [
      { seed: 7 },
      { objective: { loss: 'dpo', beta: 0.3, reduction: 'mean', weights: 'erm' } },
      { batch: { size: 3, sampler: 'balanced' }, optimizer: { learningRate: 0.3 } },
    ])
      expect((await train(changes)).references).toBe(0);
    expect((await train({ model: 'random:tiny?seed=1' })).references).toBeGreaterThan(0);
    expect((await train({ threads: 2 })).references).toBeGreaterThan(0);
    loadNative().setThreads(1);
  });

  it('without a reference in its loss computes none and keeps none', async () => {
    const { references, log, result } = await train({ objective: { loss: 'sft' } });
    expect(references).toBe(0);
    expect(result.reference).toEqual({ pairs: 0, forwardPasses: 0 });
    expect(log.join('\n')).not.toContain('reference');
    expect(() => readdirSync(referenceFolder())).toThrow();
  });

  it('survives a damaged cache with a warning and the same result', async () => {
    const cold = await train();
    for (const name of readdirSync(referenceFolder())) {
      const file = join(referenceFolder(), name);
      const bytes = readFileSync(file);
      bytes[60] ^= 1;
      writeFileSync(file, bytes);
    }
    const again = await train();
    expect(again.warnings.filter((text) => text.includes('is damaged'))).toHaveLength(3);
    expect(again.references).toBe(cold.references);
    expect(again.bytes).toEqual(cold.bytes);
  });

  it('warns where policy and reference are not the same model at the start', async () => {
    const off = GemmaPolicy.prototype.logProbabilities;
    vi.spyOn(GemmaPolicy.prototype, 'logProbabilities').mockImplementation(async function (
      this: GemmaPolicy,
      batch,
      source,
    ) {
      const scores = await off.call(this, batch, source);
      return source === 'reference' ? scores.map((logp) => logp * (1 + 1e-4)) : scores;
    });
    const { warnings } = await train();
    expect(warnings).toContainEqual(expect.stringMatching(/differ before training: log-probs by up to 1\.0e-4/));
  });
});

it('scores of a model that another is moved over are kept as its own, not as the new one’s', async () => {
  const model = join(folder, 'moved');
  cpSync(fixture('gemma-tiny'), model, { recursive: true });
  const weights = join(model, 'model.safetensors');
  const score = async (policy: GemmaPolicy) => {
    const pairs = await pairReader(model, policy).read(data.test);
    const cache = new ReferenceCache(
      () => policy.referenceIdentity(),
      () => {},
    );
    const reference = new Reference(policy, { cache });
    return { scores: (await scoredDataset(pairs, reference)).reference, passes: reference.forwardPasses };
  };
  using old = await GemmaPolicy.open(model, { threads: 1 });
  const bytes = readFileSync(weights);
  bytes[bytes.length - 3] ^= 64;
  writeFileSync(join(folder, 'new'), bytes);
  renameSync(join(folder, 'new'), weights);
  const before = await score(old);
  expect(before.passes).toBeGreaterThan(0);
  using moved = await GemmaPolicy.open(model, { threads: 1 });
  const after = await score(moved);
  expect(after.passes).toBeGreaterThan(0);
  expect(after.scores).not.toEqual(before.scores);
  expect(await score(old)).toEqual({ ...before, passes: 0 });
});

describe('the identity of a reference', () => {
  const model = join(folder, 'model');
  cpSync(fixture('gemma-tiny'), model, { recursive: true });
  const weights = join(model, 'model.safetensors');

  async function identity(
    name = model,
    options: Parameters<typeof GemmaPolicy.open>[1] = {},
    prepare: (policy: GemmaPolicy) => Promise<void> = async () => {},
  ) {
    using policy = await GemmaPolicy.open(name, { threads: 1, ...options });
    await prepare(policy);
    return JSON.stringify(await policy.referenceIdentity());
  }

  it('is the same for the same model, wherever it lies', async () => {
    const copy = join(folder, 'copy');
    cpSync(model, copy, { recursive: true });
    expect(await identity(copy)).toBe(await identity());
    expect(await identity(model, { dtype: undefined })).toBe(await identity(model, { dtype: 'float32' }));
    // An adapter in training is no part of it until it is frozen.
    expect(await identity(model, {}, (policy) => policy.loadAdapter(join(model, 'adapter')))).toBe(await identity());
  });

  it('changes with every single thing that changes scores', async () => {
    const frozen = (settings: { alpha?: number; values?: number } = {}) =>
      identity(model, {}, async (policy) => {
        const { alpha = 8, values = 0 } = settings;
        await policy.addAdapter({ rank: 2, alpha, targets: ['q_proj', 'v_proj'] }, { seed: 3 });
        await shakeAdapter(policy, values);
        await policy.freezeReference();
      });
    const first = await identity();
    const all = [first, await frozen(), await frozen({ alpha: 9 }), await frozen({ values: 1 })];
    all.push(await identity(model, { dtype: 'bfloat16' }), await identity(model, { threads: 2 }));
    for (const query of ['', '?seed=1', '?layers=1', '?vocab=512']) all.push(await identity(`random:tiny${query}`));
    for (const name of ['ATEN_CPU_CAPABILITY', 'OPENBLAS_CORETYPE', 'GLIBC_TUNABLES']) {
      vi.stubEnv(name, 'another');
      all.push(await identity());
      vi.unstubAllEnvs();
    }

    // One mantissa bit of one weight, the file's size and modification time as they were.
    const bytes = readFileSync(weights);
    const past = new Date(Date.now() - 3_600_000);
    utimesSync(weights, past, past);
    expect(await identity()).toBe(first);
    bytes[bytes.length - 4] ^= 1;
    writeFileSync(weights, bytes);
    utimesSync(weights, past, past);
    all.push(await identity());

    const config = join(model, 'config.json');
    const json = JSON.parse(readFileSync(config, 'utf8'));
    writeFileSync(config, JSON.stringify({ ...json, rms_norm_eps: 2e-6 }));
    all.push(await identity());
    expect(new Set(all).size).toBe(all.length);
    expect(await frozen()).toBe(await frozen());
  });

  it('tells processors of one name apart by what they can do', async () => {
    const file = join(folder, 'cpuinfo');
    const processorWith = (line: string) => {
      writeFileSync(file, `processor\t: 0\nmodel name\t: Virtual Processor\n${line}\n\nprocessor\t: 1\n`);
      return JSON.stringify(processorIdentity(file));
    };
    const lines = [
      'flags\t\t: fpu avx2',
      'flags\t\t: fpu avx2 amx_bf16',
      'Features\t: fp asimd',
      'Features\t: fp asimd sve',
    ];
    expect(new Set(lines.map(processorWith)).size).toBe(lines.length);
    expect(processorWith(lines[0])).toBe(processorWith(lines[0]));
    expect(processorIdentity(join(folder, 'no such file'))[0]).toBe(process.arch);
    expect(JSON.parse(await identity()).processor).toEqual(JSON.parse(JSON.stringify(processorIdentity())));
  });

  it('remembers digests of files that lie still, and of no others', async () => {
    const digests = join(folder, 'digests');
    const file = join(folder, 'weights.bin');
    writeFileSync(file, 'weights');
    const digestNow = async () => {
      using opened = new OpenedFile(file);
      return await fileDigest(opened, digests);
    };
    const digest = await digestNow();
    // Just written: a second write within the clock's grain would not show.
    expect(() => readdirSync(digests)).toThrow();
    const now = Date.now();
    vi.spyOn(Date, 'now').mockReturnValue(now + 60_000);
    expect(await digestNow()).toBe(digest);
    const [memo] = readdirSync(digests);
    expect(readFileSync(join(digests, memo), 'utf8')).toBe(digest);
    // From now on the content is not read again; a damaged memo is not believed.
    writeFileSync(join(digests, memo), 'f'.repeat(64));
    expect(await digestNow()).toBe('f'.repeat(64));
    writeFileSync(join(digests, memo), 'cut');
    expect(await digestNow()).toBe(digest);
    writeFileSync(file, 'weighty');
    expect(await digestNow()).not.toBe(digest);
  });
});
