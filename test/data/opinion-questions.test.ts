import { describe, expect, it } from 'vitest';
import { type LoadPairsOptions, loadPairs } from '../../src/data/pairs/dataset.js';
import { carriesShares, readShares } from '../../src/data/pairs/opinion-questions.js';
import type { PreferenceRecord } from '../../src/data/pairs/pairs.js';
import { openTokenizer } from '../../src/data/text/tokenizer.js';
import { temporaryFolder } from '../temporary-folder.js';
import { inputError, writeLines } from './helpers.js';

/** The questions that the pairs of a survey carry. */
const folder = temporaryFolder();
const tokenizer = openTokenizer('random:tiny');
const load = (file: string, options: LoadPairsOptions = {}) =>
  loadPairs(file, { tokenizer: () => tokenizer, survey: 'required', ...options });
const pair = { group: 'a', prompt: 'Is it?\n', chosen: 'A', rejected: 'C', shares: [0.5, 0.2, 0.3] };
const write = (...rows: object[]) => writeLines(folder, 'pairs.jsonl', rows);

it('are read once each, all options tokenised like a response, and nothing else changes', async () => {
  const rows = [
    pair,
    { ...pair, chosen: 'C', rejected: 'B' },
    { ...pair, group: 'b', shares: [0.1, 0.9], rejected: 'B' },
    // Another country of the group on the same prompt: a question of its own.
    { ...pair, shares: [0.25, 0.25, 0.5] },
    { ...pair, prompt: 'Or not?\n' },
  ];
  const { questions, ...data } = await load(write(...rows));
  const tokens = (text: string) => [...tokenizer.encode(text)];
  expect(questions!.map(({ id, group, shares }) => [id.replace(/.*:/, ''), group, shares])).toEqual([
    ['1', 0, [0.5, 0.2, 0.3]],
    ['3', 1, [0.1, 0.9]],
    ['4', 0, [0.25, 0.25, 0.5]],
    ['5', 0, [0.5, 0.2, 0.3]],
  ]);
  for (const { prompt, options } of questions!.slice(0, 3)) {
    expect(prompt).toEqual(data.pairs[0].prompt);
    expect(options.map((ids) => [...ids])).toEqual(
      ['A', 'B', 'C'].slice(0, options.length).map((letter) => [...tokens(letter), tokenizer.eos]),
    );
  }
  // Without a column that says otherwise, each is its own.
  expect(questions!.map(({ id, question }) => question === id)).toEqual([true, true, true, true]);
  const { questions: none, ...plain } = await load(write(...rows), { survey: undefined });
  expect(none).toBeUndefined();
  expect(data).toEqual(plain);
});

it('come of CSV too, and rounded shares are made to sum to 1', async () => {
  const file = writeLines(folder, 'pairs.csv', [
    'group,prompt,chosen,rejected,shares',
    'a,Is it?,A,B,"[0.33, 0.33, 0.33]"',
  ]);
  const [{ shares }] = (await load(file)).questions!;
  expect(shares).toEqual([1 / 3, 1 / 3, 1 / 3].map((share) => expect.closeTo(share, 12)));
});

it('may be 64-bit integers, as Parquet gives them', () => {
  const { shares: _, ...texts } = pair;
  const at = { file: 'pairs.parquet', row: 1 };
  const record: PreferenceRecord = { ...texts, groups: ['a'], kind: 'text', weight: 1, preference: 1, at };
  for (const shares of [BigInt64Array.of(0n, 0n, 1n), [0n, 0n, 1n]]) {
    const values = { ...texts, shares };
    const row = { at, columns: Object.keys(values), values, untyped: false };
    expect(carriesShares(row, record)).toBe(true);
    expect(readShares(row, record)).toEqual([0, 0, 1]);
  }
});

it('that are the same in other words say so by their column `question`', async () => {
  const rows = [
    { ...pair, question: 7 },
    { ...pair, prompt: 'In other words?\n', question: 7 },
  ];
  expect((await load(write(...rows))).questions!.map(({ question }) => question)).toEqual(['7', '7']);
});

it('are refused where a tokenizer does not tell two options apart', async () => {
  const blind = { ...tokenizer, encode: (text: string) => tokenizer.encode(text.replace('C', 'B')) };
  const error = await inputError(() => load(write({ ...pair, rejected: 'B' }), { tokenizer: () => blind }));
  expect(error.location).toMatchObject({ line: 1, field: 'shares' });
  expect(error.message).toContain('options B and C, which become the same tokens');
});

it('of a pair that is left out are left out', async () => {
  const rows = [{ ...pair, prompt: `${'long '.repeat(40)}\n` }, pair];
  const { questions, report } = await load(write(...rows), { maxLength: 60, unusable: 'drop' });
  expect(report.dropped.tooLong).toBe(1);
  expect(questions!.map(({ id }) => id.replace(/.*:/, ''))).toEqual(['2']);
});

describe('where they are optional', () => {
  it.each([
    ['there is no such column', { shares: undefined }],
    ['it is a number', { shares: 12 }],
    ['it is a list of other things', { shares: ['x', 'y'] }],
    ['responses are no letters', { chosen: 'yes', rejected: 'no' }],
    ['responses are later letters', { chosen: 'D' }],
  ])('the column is ignored: %s', async (_, change) => {
    const data = await load(write({ ...pair, ...change }), { survey: 'optional' });
    expect([data.pairs.length, data.questions]).toEqual([1, undefined]);
  });

  it('the first pair decides', async () => {
    expect((await load(write(pair), { survey: 'optional' })).questions).toHaveLength(1);
    const error = await inputError(() => load(write(pair, { ...pair, shares: 1 }), { survey: 'optional' }));
    expect(error.location).toMatchObject({ line: 2, field: 'shares' });
  });
});

it.each([
  ['no column', { shares: undefined }, 'shares', 'is missing here, while rows before'],
  ['no list', { shares: 'x' }, 'shares', 'expected the share of each option, found "x"'],
  ['one option', { shares: [1] }, 'shares', 'has 1 options'],
  ['more options than letters', { shares: Array(27).fill(1 / 27) }, 'shares', 'has 27 options'],
  ['a negative share', { shares: [1.5, -0.5] }, 'shares', 'holds -0.5'],
  ['a share that is text', { shares: [0.5, '0.5'] }, 'shares', 'holds "0.5"'],
  ['a share that is missing', { shares: [0.5, 0.3, 0.1] }, 'shares', 'sum to 0.9'],
  ['a response beyond the last option', { rejected: 'D' }, 'rejected', 'none of the options A to C'],
  ['a response that is no letter', { chosen: 'Yes' }, 'chosen', 'none of the options A to C'],
])('refused by line and field: %s', async (_, change, field, problem) => {
  const error = await inputError(() => load(write(pair, { ...pair, ...change })));
  expect(error.location).toMatchObject({ line: 2, field });
  expect(error.message).toContain(problem);
});

it.each([
  ['token ids', { prompt_ids: [2, 5], chosen_ids: [6, 1], rejected_ids: [7, 1] }],
  [
    'a conversation',
    {
      prompt: [{ role: 'user', content: 'q' }],
      chosen: [{ role: 'assistant', content: 'A' }],
      rejected: [{ role: 'assistant', content: 'B' }],
    },
  ],
])('refused beside %s', async (name, responses) => {
  const error = await inputError(() => load(write({ group: 'a', shares: [0.5, 0.5], ...responses })));
  expect(error.message).toContain(`field "shares": is beside ${name}`);
});
