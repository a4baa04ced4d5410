import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PairParser, type ReadPairsOptions } from '../../src/data/pairs/pairs.js';
import type { Line } from '../../src/data/tables/lines.js';
import { splitLines } from '../../src/data/tables/lines.js';
import { parseJsonLine } from '../../src/data/tables/rows.js';
import { temporaryFolder } from '../temporary-folder.js';
import { inputError, readPairs, writeLines } from './helpers.js';

const folder = temporaryFolder();
const good = { group: 'a', prompt: 'p', chosen: 'x', rejected: 'y' };
const ids = { group: 'a', prompt_ids: [2, 5], chosen_ids: [7, 1], rejected_ids: [8, 1] };

/** One line of JSONL as the only one of its file. */
const parsePair = (line: Line, file: string, options: ReadPairsOptions = {}) =>
  new PairParser(options).parse(parseJsonLine(line, file));

async function linesOf(chunks: Uint8Array[]): Promise<string[]> {
  const lines: string[] = [];
  for await (const line of splitLines(chunks, 'f')) {
    expect(line.number).toBe(lines.length + 1);
    lines.push(line.text);
  }
  return lines;
}

describe('splitLines', () => {
  it('does not care where chunks are cut, even inside a character', async () => {
    const text = fc.string({ unit: fc.constantFrom('é', '日', '😀', '\n', '\r\n', '\u2028', 'a') });
    await fc.assert(
      fc.asyncProperty(text, fc.array(fc.nat(40), { maxLength: 6 }), async (whole, cuts) => {
        const bytes = new TextEncoder().encode(whole);
        const places = [0, ...cuts.filter((cut) => cut < bytes.length).sort((a, b) => a - b), bytes.length];
        const chunks = places.slice(1).map((end, i) => bytes.slice(places[i], end));
        const expected = whole.split(/\r?\n/);
        if (expected.at(-1) === '') expected.pop();
        expect(await linesOf(chunks)).toEqual(expected);
      }),
    );
  });

  it('names the line of bytes that are not UTF-8', async () => {
    const bytes = [Buffer.from('a\nb\n'), Buffer.from([0xff, 0x0a])];
    expect((await inputError(() => linesOf(bytes))).location).toEqual({ file: 'f', line: 3 });
    expect((await inputError(() => linesOf([Buffer.from([0x61, 0xe6, 0x97])]))).location.line).toBe(1);
    // Chunks as they come are of many lines, and begin within a character.
    const text = fc.string({ unit: fc.constantFrom('a', '\n', '日', 'é', '👍'), maxLength: 30 });
    const bad = fc.constantFrom([0xff], [0xe9], [0x80], [0xe6, 0x97], [0]);
    await fc.assert(
      fc.asyncProperty(text, bad, text, fc.array(fc.nat(60), { maxLength: 6 }), async (start, bytes, end, cuts) => {
        const whole = Buffer.concat([Buffer.from(start), Buffer.from(bytes), Buffer.from(end)]);
        const places = [0, ...cuts.filter((cut) => cut < whole.length).sort((a, b) => a - b), whole.length];
        const chunks = places.slice(1).map((place, i) => whole.subarray(places[i], place));
        const { location } = await inputError(() => linesOf(chunks));
        expect(location).toEqual({ file: 'f', line: start.split('\n').length });
      }),
      { numRuns: 1000 },
    );
  });
});

describe('pairs files', () => {
  it('reads text and ids, skips blank lines, keeps line numbers', async () => {
    const { group: _, ...texts } = good;
    const file = writeLines(folder, 'good.jsonl', [good, '', { ...ids, weight: 0, preference: 0.25, note: 'ignored' }]);
    const records = [];
    for await (const record of readPairs(file)) records.push(record);
    expect(records).toEqual([
      { kind: 'text', groups: ['a'], ...texts, weight: 1, preference: 1, at: { file, line: 1 } },
      {
        kind: 'ids',
        groups: ['a'],
        prompt: Int32Array.of(2, 5),
        chosen: Int32Array.of(7, 1),
        rejected: Int32Array.of(8, 1),
        weight: 0,
        preference: 0.25,
        at: { file, line: 3 },
      },
    ]);
  });

  it('names file, line and field of a fault (a missing answer on line 2)', async () => {
    const file = writeLines(folder, 'bad.jsonl', [good, { ...good, rejected: undefined }]);
    const error = await inputError(async () => {
      for await (const record of readPairs(file)) void record;
    });
    expect(error.location).toEqual({ file, line: 2, field: 'rejected' });
    expect(error.message).toContain(`${file}:2, field "rejected"`);
  });

  it.each([
    ['no group', { ...good, group: undefined }, 'group'],
    ['an empty group', { ...good, group: ' ' }, 'group'],
    ['an empty answer', { ...good, chosen: '' }, 'chosen'],
    ['a blank prompt', { ...good, prompt: ' \n' }, 'prompt'],
    ['an answer that is a list', { ...good, chosen: ['x'] }, 'chosen'],
    ['a negative weight', { ...good, weight: -1 }, 'weight'],
    ['a weight that is text', { ...good, weight: '1' }, 'weight'],
    ['a misspelt weight', { ...good, wieght: 2 }, 'wieght'],
    ['weights in the plural', { ...good, Weights: 2 }, 'Weights'],
    ['a preference above 1', { ...good, preference: 1.1 }, 'preference'],
    ['a negative preference', { ...good, preference: -0.1 }, 'preference'],
    ['a preference in per cent', { ...good, preference: 70 }, 'preference'],
    ['a preference that is null', { ...good, preference: null }, 'preference'],
    ['a preference that is text', { ...good, preference: 'A' }, 'preference'],
    ['a misspelt preference', { ...good, prefernce: 0.5 }, 'prefernce'],
    ['preferences in the plural', { ...good, Preferences: 0.5 }, 'Preferences'],
    ['text beside ids', { ...ids, chosen: 'x' }, 'chosen'],
    ['missing ids', { ...ids, rejected_ids: undefined }, 'rejected_ids'],
    ['empty ids', { ...ids, chosen_ids: [] }, 'chosen_ids'],
    ['an id that is not whole', { ...ids, chosen_ids: [1.5] }, 'chosen_ids'],
    ['a negative id', { ...ids, prompt_ids: [2, -1] }, 'prompt_ids'],
    ['an id beyond the vocabulary', { ...ids, prompt_ids: [2, 10] }, 'prompt_ids'],
    ['an id that is null', { ...ids, prompt_ids: [null] }, 'prompt_ids'],
  ])('refuses %s', async (_, record, field) => {
    const line = { number: 7, text: JSON.stringify(record) };
    const error = await inputError(() => parsePair(line, 'f.jsonl', { vocabulary: 10 }));
    expect(error.location).toEqual({ file: 'f.jsonl', line: 7, field });
  });

  it.each(['height', 'right', 'pweight'])('lets a column be called %s', (name) => {
    const line = { number: 1, text: JSON.stringify({ ...good, [name]: 170 }) };
    expect(parsePair(line, 'f.jsonl', {})).toMatchObject({ weight: 1 });
  });

  it.each(['{"group": "a", "weight": NaN}', '[1]', 'null', '{"group": "a"', '"text"'])(
    'refuses the line %s',
    async (text) => {
      expect((await inputError(() => parsePair({ number: 1, text }, 'f'))).location).toEqual({ file: 'f', line: 1 });
    },
  );

  it('refuses an infinite weight (1e999)', async () => {
    const text = JSON.stringify(good).replace('}', ',"weight":1e999}');
    expect((await inputError(() => parsePair({ number: 1, text }, 'f'))).location.field).toBe('weight');
  });

  it('crosses several group columns by name', () => {
    const text = JSON.stringify({ ...good, country: 'x', sex: 'y', age: 3 });
    expect(parsePair({ number: 1, text }, 'f', { groupBy: ['country', 'sex'] }).groups).toEqual(['country=x/sex=y']);
    expect(parsePair({ number: 1, text }, 'f', { groupBy: ['age'] }).groups).toEqual(['3']);
  });

  it('says so when there is no such file', async () => {
    const error = await inputError(() => readPairs('/nowhere/pairs.jsonl').next());
    expect(error.message).toContain('/nowhere/pairs.jsonl: no such file');
    expect((await inputError(() => readPairs(folder).next())).message).toContain('is a folder');
  });

  it('gives a record or an InputError for any line', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(
          fc.json(),
          fc.string(),
          fc.string().map((s) => JSON.stringify(ids).replace('5', s)),
        ),
        async (text) => {
          try {
            parsePair({ number: 1, text }, 'f');
          } catch {
            await inputError(() => parsePair({ number: 1, text }, 'f'));
          }
        },
      ),
      { numRuns: 1000 },
    );
  });
});
