import { execFileSync } from 'node:child_process';
import {
  closeSync,
  constants,
  cpSync,
  existsSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { openTokenizer } from '../../src/data/text/tokenizer.js';
import { InputError } from '../../src/errors.js';
import { GemmaPolicy } from '../../src/policy/gemma.js';
import { mergeAdapter } from '../../src/policy/merge.js';
import { SafetensorsFile } from '../../src/policy/safetensors.js';
import { peftNames } from '../../src/policy/weight-names.js';
import { temporaryFolder } from '../temporary-folder.js';
import { fixture, packedBatch, randomTrees, responseCount, shakeAdapter } from './gemma-helpers.js';

/** Models whose files are odd, or do not stay what they were. */

let folder: string;
let model: string;
let weights: string;
beforeEach(() => {
  folder = temporaryFolder();
  model = join(folder, 'model');
  weights = join(model, 'model.safetensors');
  cpSync(fixture('gemma-tiny'), model, { recursive: true });
});

const trees = randomTrees(3, 131);
const batch = packedBatch(trees);
/** On the CPU: a card has copies of the weights, and their files are not used any more. */
const open = (path = model, options: Parameters<typeof GemmaPolicy.open>[1] = {}) =>
  GemmaPolicy.open(path, { device: 'cpu', threads: 1, ...options });

/** The same checkpoint with one mantissa bit of its last weight another. */
function otherWeights(file = weights): Buffer {
  const bytes = readFileSync(file);
  bytes[bytes.length - 4] ^= 1;
  return bytes;
}

async function inputFault(work: Promise<unknown>): Promise<InputError> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(InputError);
  return error as InputError;
}

describe('another model moved over the checkpoint', () => {
  it('leaves the open one its scores and its identity, and is told of by checkFiles', async () => {
    using policy = await open();
    const [identity, scores] = [await policy.referenceIdentity(), await policy.logProbabilities(batch, 'base')];
    policy.checkFiles();
    writeFileSync(join(folder, 'new'), otherWeights());
    renameSync(join(folder, 'new'), weights);
    expect(await policy.referenceIdentity()).toEqual(identity);
    expect(await policy.logProbabilities(batch, 'base')).toEqual(scores);
    expect(() => policy.checkFiles()).toThrow(/model\.safetensors: was changed or replaced while it was in use/);
    using other = await open();
    expect(await other.referenceIdentity()).not.toEqual(identity);
    other.checkFiles();
  });

  it('so for an adapter, which is read once', async () => {
    const adapter = join(model, 'adapter', 'adapter_model.safetensors');
    using policy = await open();
    await policy.loadAdapter(join(model, 'adapter'));
    policy.checkFiles();
    writeFileSync(adapter, otherWeights(adapter));
    expect(() => policy.checkFiles()).toThrow(/adapter_model\.safetensors: was changed/);
  });
});

describe.each([
  ['float32', 'gemma-tiny', 'model.safetensors'],
  ['bfloat16', 'gemma-odd', 'model-00001-of-00003.safetensors'],
] as const)('weights in %s that stay in their file', (dtype, name, shard) => {
  let file: string;
  beforeEach(() => {
    model = join(folder, name);
    cpSync(fixture(name), model, { recursive: true });
    file = join(model, shard);
  });

  it('written to in place, reject the next pass, forward or backward', async () => {
    using policy = await open(model, { dtype });
    await policy.addAdapter({ rank: 2, alpha: 4 });
    await policy.forward(batch);
    writeFileSync(file, otherWeights(file));
    const cotangents = new Float64Array(responseCount(trees)).fill(1);
    const changed = new RegExp(`${shard}: was written to or cut short while it was in use`);
    expect((await inputFault(policy.backward(cotangents, new Int32Array(trees.length)))).message).toMatch(changed);
    expect((await inputFault(policy.logProbabilities(batch, 'base'))).message).toMatch(changed);
    expect((await inputFault(policy.forward(batch))).message).toMatch(changed);
  });

  it('written to in place, end the sequences that a step has touched, and no others', async () => {
    using policy = await open(model, { dtype });
    const { sequence } = await policy.prefill(Int32Array.of(2, 5));
    const touched = [await policy.fork(sequence, 4), await policy.fork(sequence, 4)];
    writeFileSync(file, otherWeights(file));
    await inputFault(policy.decode(touched, Int32Array.of(5, 6)));
    for (const one of touched) await expect(policy.release(one)).rejects.toThrow(/was released/);
    await policy.release(sequence);
  });

  it('cut short, are an error and no signal, on any thread', async () => {
    for (const threads of [1, 2]) {
      const whole = readFileSync(file);
      using policy = await open(model, { dtype, threads });
      for (const bytes of [whole.length - 1, Math.floor(whole.length / 2), 0]) {
        truncateSync(file, bytes);
        expect((await inputFault(policy.logProbabilities(batch, 'base'))).message).toMatch(`${shard}: was written to`);
      }
      // The pages are gone for good, though the file is whole again.
      writeFileSync(file, whole);
      await inputFault(policy.logProbabilities(batch, 'base'));
      using again = await open(model, { dtype, threads });
      await again.logProbabilities(batch, 'base');
    }
  });
});

it('weights that were converted when they were read do not depend on the file any more', async () => {
  using policy = await open(model, { dtype: 'bfloat16' });
  const before = await policy.logProbabilities(batch, 'base');
  truncateSync(weights, 0);
  expect(await policy.logProbabilities(batch, 'base')).toEqual(before);
  expect(() => policy.checkFiles()).toThrow(/model\.safetensors: was changed/);
});

describe('what is no regular file is refused at once', () => {
  const pipe = (path: string) => {
    rmSync(path, { force: true });
    execFileSync('mkfifo', [path]);
  };
  it.each(['model.safetensors', 'config.json', 'adapter/adapter_model.safetensors', 'adapter/adapter_config.json'])(
    'a pipe as %s',
    async (name) => {
      pipe(join(model, name));
      const use = async () => {
        using policy = await open();
        await policy.loadAdapter(join(model, 'adapter'));
      };
      expect((await inputFault(use())).message).toMatch(`${name}: is a pipe, not a file`);
      expect(
        (await inputFault(mergeAdapter(model, join(model, 'adapter'), join(folder, 'out'), { quiet: true }))).message,
      ).toMatch('is a pipe, not a file');
      expect(existsSync(join(folder, 'out'))).toBe(false);
    },
  );

  it('a pipe as the index of shards, the tokenizer, its settings, and a state', async () => {
    const odd = join(folder, 'odd');
    cpSync(fixture('gemma-odd'), odd, { recursive: true });
    pipe(join(odd, 'model.safetensors.index.json'));
    expect((await inputFault(open(odd))).message).toMatch('index.json: is a pipe, not a file');
    for (const name of ['tokenizer_config.json', 'tokenizer.json']) {
      writeFileSync(join(odd, 'tokenizer.json'), readFileSync('src/data/text/tiny-tokenizer.json'));
      pipe(join(odd, name));
      expect(() => openTokenizer(odd)).toThrow(`${name}: is a pipe, not a file`);
      rmSync(join(odd, name));
    }
    using policy = await open();
    await policy.addAdapter({ rank: 2, alpha: 4 });
    pipe(join(folder, 'state'));
    expect((await inputFault(policy.loadState(join(folder, 'state')))).message).toMatch('state: is a pipe, not a file');
    // The addon itself, whoever opened it.
    const descriptor = openSync(join(folder, 'state'), constants.O_RDONLY | constants.O_NONBLOCK);
    const file = { path: 'state', descriptor, entries: [] };
    expect((await inputFault(policy.native.load([file], peftNames(false)).catch(native))).message).toBe(
      'state: is not a regular file',
    );
    closeSync(descriptor);
  });
});

/** For calls of the addon itself. */
function native(error: { code: string; message: string }): never {
  expect(error.code).toBe('NATIVE_INPUT');
  throw new InputError(error.message);
}

describe('sizes that the weights do not confirm', () => {
  it.each([3, 10_000_000, 2 ** 30])('%i layers are refused before anything is made of them', async (layers) => {
    const config = join(model, 'config.json');
    writeFileSync(config, JSON.stringify({ ...JSON.parse(readFileSync(config, 'utf8')), num_hidden_layers: layers }));
    const before = process.memoryUsage().rss;
    for (const use of [open, () => mergeAdapter(model, join(model, 'adapter'), join(folder, 'out'), { quiet: true })])
      expect((await inputFault(use())).message).toMatch(
        `config.json, field "num_hidden_layers": is ${layers}, but the weights have 2 layers`,
      );
    expect(process.memoryUsage().rss - before).toBeLessThan(1e8);
  });

  it('are refused by the addon too', async () => {
    using policy = await open();
    const { loadNative } = await import('../../src/native/load.js');
    const huge = new (loadNative().Gemma)(
      { ...policy.config, layers: 2 ** 30 },
      { device: 'cpu', dtype: 'float32', baseDtype: 'float32', recompute: false },
    );
    const before = process.memoryUsage().rss;
    using file = new SafetensorsFile(weights);
    expect((await inputFault(huge.load([file], peftNames(false)).catch(native))).message).toMatch(
      /model\.safetensors: holds 20 tensors, too few for a model of 1073741824 layers/,
    );
    expect(process.memoryUsage().rss - before).toBeLessThan(1e8);
    huge.dispose();
  });
});

describe('a state whose numbers no optimiser leaves', () => {
  const state = () => join(folder, 'state.safetensors');
  /** Changes the float of `bytes` at the end of the tensor. */
  const edit = (tensor: string, change: (data: Buffer) => void) => {
    const bytes = readFileSync(state());
    const length = Number(bytes.readBigUInt64LE());
    const [begin, end] = JSON.parse(bytes.toString('utf8', 8, 8 + length))[tensor].data_offsets;
    change(bytes.subarray(8 + length + begin, 8 + length + end));
    writeFileSync(state(), bytes);
  };

  it.each([-1, 1e300, 0.5, 2 ** 53, Number.NaN])('%d steps are refused, and nothing is changed', async (steps) => {
    using policy = await open();
    await policy.addAdapter({ rank: 2, alpha: 4 });
    await policy.saveState(state());
    const before = await policy.logProbabilities(batch, 'policy');
    edit('steps', (data) => data.writeDoubleLE(steps));
    await shakeAdapter(policy);
    const shaken = await policy.logProbabilities(batch, 'policy');
    expect((await inputFault(policy.loadState(state()))).message).toMatch(/state\.safetensors: tensor "steps": /);
    expect(await policy.logProbabilities(batch, 'policy')).toEqual(shaken);
    edit('steps', (data) => data.writeDoubleLE(7));
    await policy.loadState(state());
    expect(await policy.logProbabilities(batch, 'policy')).toEqual(before);
  });

  it('nor is a second moment below 0, whose root is not a number', async () => {
    using policy = await open();
    await policy.addAdapter({ rank: 2, alpha: 4 });
    await policy.saveState(state());
    edit('second_moment', (data) => data.writeFloatLE(-1e-9, data.length - 4));
    expect((await inputFault(policy.loadState(state()))).message).toMatch(
      /tensor "second_moment": holds numbers below 0/,
    );
  });
});

it('whole numbers out of range are refused by name, in whatever type the addon keeps them', async () => {
  for (const [threads, expected] of [
    [0, 'at least 1'],
    [-1, 'at least 1'],
    [1025, 'at most 1024'],
    [100_000, 'at most 1024'],
    [2 ** 32 + 1, 'at most 1024'],
    [1.5, 'a whole number'],
    [Number.NaN, 'a whole number'],
    [Number.POSITIVE_INFINITY, 'at most 1024'],
  ] as const)
    expect((await inputFault(open(model, { threads }))).message).toBe(`setThreads count: expected ${expected}`);
  using policy = await open();
  for (const [training, expected] of [
    [{ accumulators: 2 ** 32 + 1 }, `accumulators: expected at most ${2 ** 30}`],
    [{ accumulators: 0 }, 'accumulators: expected at least 1'],
    [{ seed: -1 }, 'seed: expected at least 0'],
    [{ seed: 2 ** 53 }, `seed: expected at most ${2 ** 53 - 1}`],
  ] as const)
    expect((await inputFault(policy.addAdapter({ rank: 2, alpha: 4 }, training))).message).toBe(expected);
  expect((await inputFault(policy.addAdapter({ rank: 65_537, alpha: 4 }))).message).toMatch(
    /^lora\[0\]\.rank: expected/,
  );
});
