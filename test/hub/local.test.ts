import { spawn, spawnSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';

import { localAdapter, localCsv, localFiles, localModel, localTokenizer } from '../../src/hub/local.js';
import { patience } from '../../src/hub/patience.js';
import { inputError } from '../data/helpers.js';
import { temporaryFolder } from '../temporary-folder.js';
import { FakeHub, type FakeRepository, gitDigest, sha256 } from './fake-hub.js';

const fixture = resolve('test/fixtures/gemma-tiny');
const bytesOf = (name: string) => readFileSync(join(fixture, name));
const tokenizerJson = readFileSync(resolve('src/data/text/tiny-tokenizer.json'));
const hub = new FakeHub();
const commit = 'a'.repeat(40);
const weights = bytesOf('model.safetensors');
const id = 'google/gemma-tiny';
let home: string;

beforeAll(async () => {
  patience.delays.fill(0.001);
  const tokenizer = { content: tokenizerJson };
  const files = {
    '.gitattributes': { content: Buffer.from('* text') },
    'README.md': { content: Buffer.from('Gemma') },
    'config.json': { content: bytesOf('config.json') },
    'gemma.gguf': { content: Buffer.alloc(1000), large: true },
    'model.safetensors': { content: weights, large: true },
    'tokenizer.json': tokenizer,
    'tokenizer_config.json': { content: Buffer.from('{}') },
  };
  hub.repositories.set(`models/${id}`, { commit, files });
  hub.repositories.set('models/google/gated', { commit, files, gated: true });
  hub.repositories.set('models/google/old', { commit, files: { 'pytorch_model.bin': { content: Buffer.alloc(9) } } });
  hub.repositories.set('models/someone/adapter', {
    commit,
    files: {
      'adapter_config.json': { content: bytesOf('adapter/adapter_config.json') },
      'adapter_model.safetensors': { content: bytesOf('adapter/adapter_model.safetensors'), large: true },
    },
  });
  hub.repositories.set('datasets/someone/opinions', {
    commit,
    files: {
      'data/opinions.csv': { content: Buffer.from('question,selections,options\n') },
      'README.md': { content: Buffer.from('x') },
    },
  });
  await hub.start();
});
afterAll(() => hub.stop());

beforeEach(() => {
  hub.reset();
  home = temporaryFolder();
  vi.stubEnv('HF_ENDPOINT', hub.endpoint);
  vi.stubEnv('HF_HOME', home);
  for (const name of ['HF_TOKEN', 'HF_HUB_OFFLINE', 'HF_HUB_CACHE', 'HUGGINGFACE_HUB_CACHE'])
    vi.stubEnv(name, undefined);
});
afterEach(() => vi.unstubAllEnvs());

const quiet = { quiet: true };
const storage = () => join(home, 'hub/models--google--gemma-tiny');
const snapshot = () => join(storage(), 'snapshots', commit);
const downloads = () => hub.requests.filter((request) => /resolve|cdn/.test(request));

describe('a model of the hub', () => {
  it('comes into the layout of the cache, only the files that are needed', async () => {
    expect(await localModel(id, quiet)).toEqual({ path: snapshot(), hub: { id, commit } });
    expect(readdirSync(snapshot()).sort()).toEqual([
      'config.json',
      'model.safetensors',
      'tokenizer.json',
      'tokenizer_config.json',
    ]);
    expect(readFileSync(join(storage(), 'refs/main'), 'utf8')).toBe(commit);
    expect(readlinkSync(join(snapshot(), 'model.safetensors'))).toBe(`../../blobs/${sha256(weights)}`);
    expect(readlinkSync(join(snapshot(), 'config.json'))).toBe(`../../blobs/${gitDigest(bytesOf('config.json'))}`);
    expect(readFileSync(join(snapshot(), 'model.safetensors')).equals(weights)).toBe(true);
    expect(readdirSync(join(storage(), 'blobs')).filter((name) => name.length !== 40 && name.length !== 64)).toEqual(
      [],
    );
  });

  it('is downloaded once; a commit then needs no network, and offline mode none at all', async () => {
    await localModel(id, quiet);
    hub.reset();
    await localModel(id, quiet);
    expect(downloads()).toEqual([]);
    hub.reset();
    expect((await localModel(`${id}@${commit}`, quiet)).path).toBe(snapshot());
    vi.stubEnv('HF_HUB_OFFLINE', '1');
    expect((await localModel(id, quiet)).path).toBe(snapshot());
    expect(hub.requests).toEqual([]);
  });

  it('is used with a warning when the hub fails, and downloaded anew when its branch has moved', async () => {
    await localModel(id, quiet);
    const write = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    vi.stubEnv('HF_ENDPOINT', 'http://127.0.0.1:1');
    expect((await localModel(id, quiet)).path).toBe(snapshot());
    expect(write.mock.calls.join()).toContain(`cannot be reached`);
    write.mockRestore();
    vi.stubEnv('HF_ENDPOINT', hub.endpoint);
    const repository = hub.repositories.get(`models/${id}`)!;
    hub.repositories.set(`models/${id}`, { ...repository, commit: 'b'.repeat(40) });
    hub.reset();
    expect((await localModel(id, quiet)).hub?.commit).toBe('b'.repeat(40));
    // The content is the same, so the links are all that is new.
    expect(downloads()).toEqual([]);
    hub.repositories.set(`models/${id}`, repository);
  });

  it.each([
    ['a model without its tokenizer', localModel, ['config.json', 'model.safetensors']],
    ['a tokenizer without its configuration', localTokenizer, ['tokenizer.json']],
  ] as const)('of a commit is completed where another program has fetched %s', async (_, local, names) => {
    mkdirSync(snapshot(), { recursive: true });
    for (const name of names)
      writeFileSync(join(snapshot(), name), name === 'tokenizer.json' ? tokenizerJson : bytesOf(name));
    await local(`${id}@${commit}`, quiet);
    expect(readdirSync(snapshot())).toEqual(expect.arrayContaining(['tokenizer.json', 'tokenizer_config.json']));
    hub.reset();
    await local(`${id}@${commit}`, quiet);
    expect(hub.requests).toEqual([]);
  });

  it('of a commit is used as it is where the hub cannot be asked for the rest', async () => {
    mkdirSync(snapshot(), { recursive: true });
    writeFileSync(join(snapshot(), 'tokenizer.json'), tokenizerJson);
    const write = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    vi.stubEnv('HF_ENDPOINT', 'http://127.0.0.1:1');
    expect((await localTokenizer(`${id}@${commit}`, quiet)).path).toBe(snapshot());
    expect(write.mock.calls.join()).toContain('cannot be reached');
    write.mockRestore();
  });

  it('may be a folder of the same name, which the hub is not asked about', async () => {
    const inside = temporaryFolder();
    vi.spyOn(process, 'cwd').mockReturnValue(inside);
    expect(await localModel(fixture)).toEqual({ path: fixture });
    expect(await localModel('random:tiny')).toEqual({ path: 'random:tiny' });
    expect(await localModel('a/b/c')).toEqual({ path: 'a/b/c' });
    expect(await localModel('./google/gemma-tiny')).toEqual({ path: './google/gemma-tiny' });
    expect(hub.requests).toEqual([]);
    vi.restoreAllMocks();
  });

  it('shares its repository format with adapters, tokenizers and data sets', async () => {
    const adapter = await localAdapter('someone/adapter', quiet);
    expect(readdirSync(adapter.path).sort()).toEqual(['adapter_config.json', 'adapter_model.safetensors']);
    const tokenizer = await localTokenizer(id, quiet);
    expect(readdirSync(tokenizer.path).sort()).toEqual(['tokenizer.json', 'tokenizer_config.json']);
    const csv = await localCsv('someone/opinions', quiet);
    expect(csv.path).toBe(join(home, 'hub/datasets--someone--opinions/snapshots', commit, 'data/opinions.csv'));
    expect(readFileSync(csv.path, 'utf8')).toBe('question,selections,options\n');
    expect(await localCsv('some.csv')).toEqual({ path: 'some.csv' });
    const files = await localFiles('someone/opinions', ['README.md'], quiet);
    expect(readFileSync(join(files.path, 'README.md'), 'utf8')).toBe('x');
    await expect(localFiles('someone/opinions', ['survey.jsonl'], quiet)).rejects.toThrow('has no survey.jsonl');
    expect(await localFiles('folder', ['survey.jsonl'])).toEqual({ path: 'folder' });
  });
});

describe('a download', () => {
  const partial = () => join(storage(), 'blobs', `${sha256(weights)}.incomplete`);
  const whole = () => expect(readFileSync(join(snapshot(), 'model.safetensors')).equals(weights)).toBe(true);

  it('goes on after cut connections, more often than it would try without progress', async () => {
    hub.faults.cuts = [0, 100, 1, 20_000, 7, 7, 7];
    await localModel(id, quiet);
    whole();
    expect(hub.requests.filter((request) => /bytes=\d+-/.test(request)).length).toBeGreaterThan(3);
    expect(existsSync(partial())).toBe(false);
  });

  it('goes on where an earlier process stopped, and starts anew where its remains are wrong', async () => {
    const remains = (bytes: Buffer) => {
      mkdirSync(join(storage(), 'blobs'), { recursive: true });
      writeFileSync(partial(), bytes);
    };
    remains(weights.subarray(0, 5000));
    await localModel(id, quiet);
    whole();
    expect(hub.requests).toContain('cdn /google/gemma-tiny/model.safetensors bytes=5000-');
    for (const wrong of [Buffer.alloc(5000), Buffer.alloc(weights.length), Buffer.alloc(weights.length + 1)]) {
      rmSync(storage(), { recursive: true });
      remains(wrong);
      await localModel(id, quiet);
      whole();
    }
  });

  it('copes with a server that ignores ranges, is busy, or fails for a moment', async () => {
    hub.faults.ignoresRanges = true;
    hub.faults.cuts = [50, 50, 50, 50];
    hub.faults.statuses = [503, 429, 500];
    await localModel(id, quiet);
    whole();
  });

  it.each([
    ['other content of the same size', Buffer.from(weights).fill(7, 4000, 4001), 'checksum'],
    ['fewer bytes', weights.subarray(0, 1000), 'sends 1000 bytes'],
    ['more bytes', Buffer.concat([weights, weights]), `sends ${2 * weights.length} bytes`],
  ])('refuses %s, and leaves nothing that looks whole', async (_, content, message) => {
    hub.faults.instead = { 'model.safetensors': content };
    const error = await inputError(() => localModel(id, quiet));
    expect(error.message).toContain(`${id}: model.safetensors was damaged on the way`);
    expect(error.message).toContain(message);
    expect(existsSync(join(snapshot(), 'model.safetensors'))).toBe(false);
    expect(existsSync(join(storage(), 'refs/main'))).toBe(false);
    hub.reset();
    await localModel(id, quiet);
    whole();
  });

  it('checks small files too', async () => {
    const config = bytesOf('config.json');
    hub.faults.instead = { 'config.json': Buffer.from(config).fill(32, 0, 1) };
    expect((await inputError(() => localModel(id, quiet))).message).toContain('config.json was damaged');
  });

  it('gives up after five fruitless attempts, and keeps what it has', async () => {
    hub.faults.cuts = [1000, ...Array(9).fill(0)];
    const error = await inputError(() => localModel(id, quiet));
    expect(error.message).toContain('model.safetensors cannot be downloaded');
    expect(lstatSync(partial()).size).toBe(1000);
  });

  it('waits for another process that is downloading the same', async () => {
    await Promise.all([localModel(id, quiet), localModel(id, quiet), localModel(id, quiet)]);
    whole();
    expect(downloads().filter((request) => request.startsWith('cdn'))).toHaveLength(1);
  });
});

describe('a refusal', () => {
  it.each([
    [
      '401 without a token',
      'google/gated',
      undefined,
      /only with a token.*\n.*accept the terms at .*\/google\/gated.*HF_TOKEN/,
    ],
    ['401 of a token nobody knows', id, 'hf_wrong', /does not know your token/],
    [
      '403 of a token without access',
      'google/gated',
      'hf_other',
      /may not read it.*\n.*accept the terms at .*\/google\/gated/,
    ],
    ['404 with a token', 'google/nothing', 'hf_other', /no such model.*\n.*spelling/],
    ['401 of what is not there', 'google/nothing', undefined, /there is no such model/],
    ['404 of a revision', `${id}@v9`, undefined, /not at revision v9/],
    ['no safetensors', 'google/old', undefined, /no weights as safetensors/],
  ])('%s says what to do', async (_, model, token, message) => {
    vi.stubEnv('HF_TOKEN', token);
    const error = await inputError(() => localModel(model, quiet));
    expect(error.message).toMatch(message);
    expect(error.location.file).toBe(model.split('@')[0]);
  });

  it('does not come to a token with access, from HF_TOKEN or from where `hf auth login` puts it', async () => {
    vi.stubEnv('HF_TOKEN', 'hf_granted');
    await localModel('google/gated', quiet);
    vi.stubEnv('HF_TOKEN', undefined);
    rmSync(join(home, 'hub'), { recursive: true });
    writeFileSync(join(home, 'token'), 'hf_granted\n');
    await localModel('google/gated', quiet);
    // The token stays with the hub: large files lie elsewhere.
    expect(hub.leaked).toEqual([]);
  });

  it('offline, without network or from no hub says what to do', async () => {
    vi.stubEnv('HF_HUB_OFFLINE', 'true');
    expect((await inputError(() => localModel(id, quiet))).message).toMatch(/HF_HUB_OFFLINE is set\n.*unset/);
    expect(hub.requests).toEqual([]);
    vi.stubEnv('HF_HUB_OFFLINE', '0');
    vi.stubEnv('HF_ENDPOINT', 'http://127.0.0.1:1');
    expect((await inputError(() => localModel(id, quiet))).message).toMatch(/cannot be reached.*\n.*local/);
    hub.faults.statuses = Array(5).fill(503);
    vi.stubEnv('HF_ENDPOINT', hub.endpoint);
    expect((await inputError(() => localModel(id, quiet))).message).toContain('status 503');
  });

  it('names no path outside the snapshot', async () => {
    const files = { '../../evil/config.json': { content: Buffer.from('{}') } };
    hub.repositories.set('models/evil/model', {
      commit,
      files: { ...files, 'model.safetensors': { content: weights } },
    });
    await localModel('evil/model', quiet);
    expect(readdirSync(join(home, 'hub/models--evil--model/snapshots', commit))).toEqual(['model.safetensors']);
  });
});

/** Python with huggingface_hub, where there is one: the cache is shared with it. */
const python = process.env.PYTHON ?? 'python3';
const hasHub = spawnSync(python, ['-c', 'import huggingface_hub']).status === 0;

function run(command: string, args: string[]): Promise<{ status: number | null; stdout: string; stderr: string }> {
  const child = spawn(command, args, { env: process.env });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (text) => (stdout += text));
  child.stderr.on('data', (text) => (stderr += text));
  return new Promise((done) => child.on('close', (status) => done({ status, stdout, stderr })));
}

describe.skipIf(!hasHub)('the cache of huggingface_hub (skipped without that Python package)', () => {
  const download = (local: boolean) =>
    run(python, [
      '-c',
      `from huggingface_hub import snapshot_download as s; print(s("${id}", local_files_only=${local ? 'True' : 'False'}))`,
    ]);

  it('is read: what Python downloaded is not downloaded again', async () => {
    const { stdout, stderr } = await download(false);
    expect(stdout.trim(), stderr).toBe(snapshot());
    hub.reset();
    expect((await localModel(id, quiet)).path).toBe(snapshot());
    expect(downloads()).toEqual([]);
  });

  it('is written: Python finds what was downloaded here', async () => {
    await localModel(id, quiet);
    const { stdout } = await download(true);
    expect(stdout.trim()).toBe(snapshot());
  });
});

describe('the program', () => {
  const program = resolve('dist/cli/main.js');
  const pairs = () => {
    const file = join(home, 'pairs.jsonl');
    writeFileSync(
      file,
      `${JSON.stringify({ group: 'a', prompt_ids: [2, 5], chosen_ids: [6, 1], rejected_ids: [7, 1] })}\n`,
    );
    return file;
  };

  it('trains on a model of the hub from an adapter of the hub, and records the commits', async () => {
    const output = join(home, 'run');
    const config = join(home, 'config.yaml');
    const lines = [`model: ${id}`, 'adapter: someone/adapter', `output: ${output}`, `data: { train: ${pairs()} }`];
    writeFileSync(config, [...lines, 'objective: { loss: dpo, beta: 0.1 }', 'steps: 1'].join('\n'));
    const { status, stderr } = await run(process.execPath, [program, 'train', config]);
    expect(stderr).toContain('downloading google/gemma-tiny (MB)');
    expect(status).toBe(0);
    expect(JSON.parse(readFileSync(join(output, 'run.json'), 'utf8')).hub).toEqual({
      model: { id, commit },
      adapter: { id: 'someone/adapter', commit },
    });
    expect(JSON.parse(readFileSync(join(output, 'adapter/adapter_config.json'), 'utf8'))).toMatchObject({
      base_model_name_or_path: id,
      revision: commit,
    });
  });

  it('goes on with the commits that a run began with, without the network, when their branches have moved', async () => {
    const moving = { model: 'google/moving', adapter: 'someone/moving', tokenizer: 'google/words' };
    const [model, adapter] = [id, 'someone/adapter'].map((name) => hub.repositories.get(`models/${name}`)!.files);
    // The bytes of ASCII alone, so that no id exceeds the model's vocabulary of 192.
    const words = JSON.parse(readFileSync(resolve('src/data/text/tiny-tokenizer.json'), 'utf8'));
    const ascii = Object.entries(words.model.vocab).filter(([, number]) => (number as number) < 192);
    words.model = { ...words.model, vocab: Object.fromEntries(ascii), merges: [] };
    const move = (to: string, end: string) => {
      const ended = (content: Buffer) => ({ content: Buffer.concat([content, Buffer.from(end)]) });
      const repositories: Record<string, FakeRepository['files']> = {
        [moving.model]: { ...model, 'config.json': ended(bytesOf('config.json')) },
        [moving.adapter]: { ...adapter, 'adapter_config.json': ended(bytesOf('adapter/adapter_config.json')) },
        [moving.tokenizer]: { 'tokenizer.json': ended(Buffer.from(JSON.stringify(words))) },
      };
      for (const [name, files] of Object.entries(repositories))
        hub.repositories.set(`models/${name}`, { commit: to.repeat(40), files });
    };
    move('b', '');
    const output = join(home, 'run');
    const config = join(home, 'config.yaml');
    const text = join(home, 'text.jsonl');
    writeFileSync(text, JSON.stringify({ group: 'a', prompt: 'why', chosen: 'yes', rejected: 'no' }));
    const names = Object.entries(moving).map(([key, name]) => `${key}: ${name}`);
    const lines = [...names, `output: ${output}`, `data: { train: ${text} }`, 'objective: { loss: dpo, beta: 0.1 }'];
    writeFileSync(config, [...lines, 'steps: 4'].join('\n'));
    const train = (...args: string[]) =>
      run(process.execPath, [program, 'train', config, '--resume', '--quiet', ...args]);
    expect(await train()).toMatchObject({ status: 0 });
    const record = () => JSON.parse(readFileSync(join(output, 'run.json'), 'utf8'));
    const began = record().hub;
    expect(Object.keys(began).sort()).toEqual(['adapter', 'model', 'tokenizer']);

    move('c', '\n');
    hub.reset();
    rmSync(join(output, 'adapter'), { recursive: true });
    const resumed = await train();
    expect(resumed.stderr).toBe('');
    expect(resumed.status).toBe(0);
    expect(hub.requests).toEqual([]);
    expect(record().hub).toEqual(began);
    expect(JSON.parse(readFileSync(join(output, 'adapter/adapter_config.json'), 'utf8')).revision).toBe('b'.repeat(40));

    // Another name than the run began with is another model, even if it is the same repository.
    const { status, stderr } = await train('--set', `model=${moving.model}@main`);
    expect(stderr).toMatch(/field "model": has changed since the run began/);
    expect(status).toBe(2);
  });

  it('exits 2 on a gated model, with what to do', async () => {
    const { status, stderr } = await run(process.execPath, [
      program,
      'eval',
      '--model',
      'google/gated',
      '--pairs',
      pairs(),
    ]);
    expect(status).toBe(2);
    expect(stderr).toMatch(/^error: google\/gated: .*\n {2}fix: .*HF_TOKEN/);
  });
});
