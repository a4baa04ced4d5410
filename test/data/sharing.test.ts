import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, type MockInstance, vi } from 'vitest';
import { loadPairs } from '../../src/data/pairs/dataset.js';
import { openTokenizer, readTokenizer, type TextTokenizer } from '../../src/data/text/tokenizer.js';
import type { TokenizerRequest } from '../../src/data/text/tokenizer-process.js';
import { SyncProcess } from '../../src/processes/sync-process.js';
import { temporaryFolder } from '../temporary-folder.js';
import { fixture, GEMMA_TOKENIZER, inputError, writeLines } from './helpers.js';

/** Texts that several processes share, here from the first on. */
const folder = temporaryFolder();
const tiny = openTokenizer('random:tiny');
const golden = JSON.parse(readFileSync(fixture('tokenizer-golden.json'), 'utf8')) as {
  cases: { text: string; gemma: number[]; tiny: number[] }[];
};

type Process = SyncProcess<TokenizerRequest, unknown>;
let sent: MockInstance<Process['send']>;
let ended: MockInstance<Process['end']>;
beforeEach(() => {
  sent = vi.spyOn(SyncProcess.prototype as Process, 'send');
  ended = vi.spyOn(SyncProcess.prototype as Process, 'end');
});
afterEach(() => {
  vi.restoreAllMocks();
});

/** The texts of the last request of each process that was asked to encode. */
function encoded(): string[][] {
  const last = new Map<unknown, string[]>();
  for (const [i, [{ call }]] of sent.mock.calls.entries())
    if (call.kind === 'encode') last.set(sent.mock.contexts[i], [...call.texts]);
  return [...last.values()];
}

/** A tokenizer whose further processes have opened it. */
async function shared(file: string, helpers: number): Promise<TextTokenizer> {
  const tokenizer = readTokenizer(file, { after: 0, helpers: () => helpers });
  const texts = Array.from({ length: 1 + helpers }, (_, i) => `${i}`);
  const used = () => {
    tokenizer.prepare?.(texts);
    return encoded().length;
  };
  await expect.poll(used, { timeout: 60_000 }).toBe(1 + helpers);
  sent.mockClear();
  return tokenizer;
}

describe('texts shared among processes', () => {
  it.each([
    ['gemma', GEMMA_TOKENIZER, 1],
    ['tiny', tiny.file, 2],
  ] as const)('have the ids of the Rust library: %s', { timeout: 120_000 }, async (name, file, helpers) => {
    const tokenizer = await shared(file, helpers);
    const texts = golden.cases.map(({ text }) => text);
    tokenizer.prepare?.(texts);
    expect(encoded().flat()).toEqual(texts);
    expect(encoded().length).toBe(1 + helpers);
    sent.mockClear();
    for (const test of golden.cases) expect(tokenizer.encode(test.text), test.text).toEqual(test[name]);
    expect(sent).not.toHaveBeenCalled();
    tokenizer.endPreparing?.();
  });

  it('keep their order, however long they are', { timeout: 120_000 }, async () => {
    const tokenizer = await shared(tiny.file, 2);
    const text = fc.oneof(fc.constant(''), fc.string(), fc.string({ minLength: 200, maxLength: 400 }));
    fc.assert(
      fc.property(fc.array(text, { maxLength: 12 }), (texts) => {
        sent.mockClear();
        tokenizer.prepare?.(texts);
        expect(encoded().flat()).toEqual(texts);
        for (const one of texts) expect(tokenizer.encode(one)).toEqual(tiny.encode(one));
      }),
    );
    tokenizer.endPreparing?.();
  });
});

it('further processes open the tokenizer after so many characters, and again after so many of the next file', () => {
  const tokenizer = readTokenizer(tiny.file, { after: 100, helpers: () => 2 });
  const openings = () => sent.mock.calls.filter(([{ call }]) => call.kind === 'open').length;
  const own = openings();
  const counts = [60, 30, 10, 1].map((length) => {
    tokenizer.prepare?.(['a'.repeat(length)]);
    return openings() - own;
  });
  expect(counts).toEqual([0, 0, 0, 2]);
  tokenizer.endPreparing?.();
  tokenizer.prepare?.(['a']);
  expect(openings() - own).toBe(2);
});

it('the fault of one is told when the others have answered, too', { timeout: 60_000 }, async () => {
  const tokenizer = await shared(tiny.file, 1);
  const wait = SyncProcess.prototype.wait;
  vi.spyOn(SyncProcess.prototype, 'wait').mockImplementationOnce(function (this: Process) {
    wait.call(this);
    return 'ended';
  });
  const error = await inputError(() => tokenizer.prepare?.(['a', 'b']));
  expect(error.message).toMatch(/it takes more than 1536 MB/);
  tokenizer.prepare?.(['c', 'd']);
  for (const text of ['c', 'd']) expect(tokenizer.encode(text)).toEqual(tiny.encode(text));
  tokenizer.endPreparing?.();
});

describe('a file whose texts are shared', () => {
  const row = (prompt: string) => ({ group: 'a', prompt, chosen: 'Yes', rejected: 'No' });
  const harmless = Array.from({ length: 40 }, (_, i) => row(`Is it ${i}?${'b'.repeat(60)}`));
  const good = writeLines(folder, 'good.jsonl', harmless);
  const tokens = async (tokenizer: TextTokenizer) =>
    (await loadPairs(good, { tokenizer: () => tokenizer })).pairs.map((pair) => [pair.prompt, pair.chosen]);

  it('has the pairs that one process makes of it, and ends the others', { timeout: 60_000 }, async () => {
    const tokenizer = await shared(tiny.file, 1);
    expect(await tokens(tokenizer)).toEqual(await tokens(tiny));
    expect(ended).toHaveBeenCalledTimes(1);
  });

  it('ends them where a row cannot be read, too', { timeout: 60_000 }, async () => {
    const tokenizer = await shared(tiny.file, 1);
    const broken = writeLines(folder, 'broken.jsonl', [...harmless, '{']);
    await inputError(() => loadPairs(broken, { tokenizer: () => tokenizer }));
    expect(ended).toHaveBeenCalledTimes(1);
  });

  it('is refused where the second process takes too long, and the next one is read', { timeout: 120_000 }, async () => {
    const place = join(folder, 'evil');
    mkdirSync(place);
    const pattern = { Regex: '(a+)+$' };
    const json = JSON.parse(readFileSync(tiny.file, 'utf8'));
    const normalizer = { type: 'Replace', pattern, content: '' };
    writeFileSync(join(place, 'tokenizer.json'), JSON.stringify({ ...json, normalizer }));
    const tokenizer = await shared(join(place, 'tokenizer.json'), 1);
    const last = `${'a'.repeat(60)}!`;
    const bad = writeLines(folder, 'bad.jsonl', [...harmless, row(last)]);
    const error = await inputError(() => loadPairs(bad, { tokenizer: () => tokenizer }));
    expect(error.message).toMatch(/it takes longer than 11 s/);
    expect(error.location).toEqual({ file: tokenizer.file });
    const [first, second] = encoded();
    expect([first.includes(last), second.includes(last)]).toEqual([false, true]);
    expect(await tokens(tokenizer)).toEqual(await tokens(tiny));
  });
});
