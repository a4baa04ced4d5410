import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { loadPairs } from '../../src/data/pairs/dataset.js';
import { PairParser } from '../../src/data/pairs/pairs.js';
import { parseJsonLine, readRows } from '../../src/data/tables/rows.js';
import { openTokenizer } from '../../src/data/text/tokenizer.js';
import { temporaryFolder } from '../temporary-folder.js';
import { inputError } from './helpers.js';

/** Written by make.py beside them. */
const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/preferences/${name}`, import.meta.url));
const folder = temporaryFolder();
const tiny = openTokenizer('random:tiny');
const load = (name: string, content: string | Uint8Array) => {
  const file = join(folder, name);
  writeFileSync(file, content);
  return loadPairs(file, { tokenizer: () => tiny });
};
const lines = (...records: object[]) => records.map((record) => `${JSON.stringify(record)}\n`).join('');
const pair = { group: 'a', prompt: 'Is it so?\n', chosen: 'Yes', rejected: 'No' };
const csv = 'group,prompt,chosen,rejected,weight\na,Q,Yes,No,1\n';
const row = (weight: string) => `${csv}a,R,Yes,No,${weight}\n`;

/** A pair of conversations, some of whose texts are given. */
const turns = (texts: { prompt?: string[]; chosen?: string[]; rejected?: string[] }) => ({
  group: 'a',
  prompt: (texts.prompt ?? ['Is it so?']).map((content) => ({ role: 'user', content })),
  chosen: (texts.chosen ?? ['Yes']).map((content) => ({ role: 'assistant', content })),
  rejected: (texts.rejected ?? ['No']).map((content) => ({ role: 'assistant', content })),
});

describe('odd files', () => {
  it.each<[string, string, string | Uint8Array, RegExp]>([
    ['UTF-16', 'a.csv', Buffer.from(`\ufeff${csv}`, 'utf16le'), /a\.csv: is UTF-16 text\n {2}fix: save/],
    ['UTF-16 without a mark', 'a.csv', Buffer.from(csv, 'utf16le'), /a\.csv:1: has a NUL byte/],
    ['a NUL byte further down', 'a.jsonl', `${lines(pair)}{"group": "\0"}\n`, /a\.jsonl:2: has a NUL byte/],
    ['gzip', 'a.jsonl', gzipSync(lines(pair)), /is compressed with gzip\n {2}fix: unpack/],
    ['Parquet of another name', 'a.jsonl', Buffer.from('PAR1\x15\0'), /is Parquet\n {2}fix: .*\.parquet/],
    ['an empty Parquet file', 'a.parquet', '', /a\.parquet: is empty/],
    ['nothing', 'a.jsonl', '', /a\.jsonl: holds no pair/],
    ['a header alone', 'a.csv', 'group,prompt,chosen,rejected\n', /a\.csv: holds no pair/],
    ['a list of objects', 'a.json', JSON.stringify([pair]), /a\.json:1: is \[.*\n {2}fix: .* each line, not a list/],
    ['the same with line breaks', 'a.json', JSON.stringify([pair], null, 1), /a\.json:1: .*\n {2}fix: .* each line/],
    ['tabs', 'a.csv', csv.replaceAll(',', '\t'), /a\.csv:1: has its columns separated by tabs\n {2}fix: /],
    ['semicolons', 'a.csv', csv.replaceAll(',', ';'), /separated by semicolons/],
    ['semicolons, and quotes', 'a.csv', '"group";"a, b"\n"x";"y"\n', /separated by semicolons/],
    ['tabs, and quotes', 'a.csv', 'group\tprompt\n"x"\t"y"\n', /separated by tabs/],
    [
      'ids without commas',
      'a.csv',
      'group,prompt_ids,chosen_ids,rejected_ids\na,[2 5],[7],[8]\n',
      /a\.csv:2, field "prompt_ids": is not a list of token ids .*: expected ","/,
    ],
    ['two columns of a name', 'a.csv', 'group,group\n', /a\.csv:1, field "group": is the name of two columns/],
    [
      'Latin-1 further down',
      'a.csv',
      Buffer.from(`${csv}a,R,Oui,Né,1\na,S,Yes,No,1\n`, 'latin1'),
      /a\.csv:3: has bytes that are not UTF-8 text/,
    ],
    [
      'columns in capitals',
      'a.csv',
      csv.toUpperCase(),
      /a\.csv:1, field "group": there is no such column\n {2}fix: rename .*"GROUP"/,
    ],
    ['no answer in the header', 'a.csv', csv.replace('chosen', 'output'), /a\.csv:1, field "chosen": there is no such/],
    [
      'a weight misspelt in the header',
      'a.csv',
      csv.replace('weight', 'wieght'),
      /a\.csv:1, field "wieght": is not known/,
    ],
    [
      'no answer',
      'a.jsonl',
      lines({ group: 'a', prompt: 'x', output: 'y' }),
      /"chosen": there is no.*\n.*prompt, output\)/,
    ],
    [
      'no group in one row',
      'a.jsonl',
      lines(pair, { ...pair, group: undefined }, pair),
      /a\.jsonl:2, field "group": is missing here, while rows before this one have it\n {2}fix: fill it in, or/,
    ],
    [
      'no answer in one row',
      'a.jsonl',
      lines(pair, { ...pair, chosen: undefined }, pair),
      /a\.jsonl:2, field "chosen": is missing here/,
    ],
    [
      'turns of ShareGPT',
      'a.jsonl',
      lines({ ...pair, prompt: [{ from: 'human' }] }),
      /"prompt": .*\n {2}fix: .*"role"/,
    ],
    ['a decimal comma', 'a.csv', row('"1,5"'), /a\.csv:3, field "weight": .*found "1,5"\n {2}fix: write it as 0\.5/],
    ['a weight in hexadecimal', 'a.csv', row('0x10'), /"weight": .*found "0x10"/],
    ['an infinite weight', 'a.csv', row('inf'), /"weight": .*found "inf"/],
    ['a negative weight', 'a.csv', row('-1'), /"weight": .*found "-1"/],
    ['an empty weight', 'a.csv', row(''), /"weight": .*found ""/],
    [
      'lists within lists',
      'a.jsonl',
      `{"group": "a", "prompt": ${'['.repeat(1e5)}${']'.repeat(1e5)}}\n`,
      /a\.jsonl:1: is nested more than 100/,
    ],
    [
      'lists within lists in CSV',
      'a.csv',
      `group,prompt_ids,chosen_ids,rejected_ids\na,${'['.repeat(1e5)}${']'.repeat(1e5)},[1],[2]\n`,
      /a\.csv:2, field "prompt_ids": is not a list .* nested more than 100/,
    ],
    ['half a character', 'a.jsonl', lines({ ...pair, chosen: 'so \ud83d' }), /"chosen": contains half of a character/],
    [
      'a list of groups as NumPy prints it',
      'a.csv',
      `group,prompt,chosen,rejected\n"['women' 'students']",Q,Yes,No\n`,
      /a\.csv:2, field "group": is not a list of names .*: no comma between two strings at character 10/,
    ],
    [
      'a whole number of more digits than JSON keeps, as a group',
      'a.jsonl',
      lines(pair).replace('"a"', '1234567890123456781'),
      /a\.jsonl:1, field "group": .* found 1234567890123456800, .* more digits than .* \(quote it\)/,
    ],
    [
      'an empty turn at the end of a prompt',
      'a.jsonl',
      lines(turns({ prompt: ['Hi', ' \n'] })),
      /a\.jsonl:1, field "prompt\[1\]": is a turn without text/,
    ],
    ['an answer of an empty turn', 'a.jsonl', lines(turns({ rejected: [''] })), /"rejected": is a turn without text/],
    ['an answer of empty turns', 'a.jsonl', lines(turns({ chosen: ['', ' '] })), /"chosen": has no turn with text/],
    [
      'half a character as group',
      'a.jsonl',
      lines({ ...pair, group: '\udc00' }),
      /"group": contains half of a character/,
    ],
  ])('refuses %s', async (_, name, content, message) => {
    expect((await inputError(() => load(name, content))).message).toMatch(message);
  });

  it.each<[string, string]>([
    ['a system turn alone', lines({ ...turns({}), prompt: [{ role: 'system', content: 'Begin.' }] })],
    [
      'a tool that has nothing to say',
      lines({
        ...turns({}),
        prompt: [
          { role: 'user', content: 'Go' },
          { role: 'tool', content: '' },
        ],
      }),
    ],
    [
      'an answer that calls a tool',
      lines({ ...turns({}), rejected: [{ role: 'assistant', content: '', tool_calls: [{ name: 'f' }] }] }),
    ],
  ])('takes %s for a turn that says something', async (_, content) => {
    const parser = new PairParser();
    const [row] = content.trim().split('\n');
    const parsed = parser.parse(parseJsonLine({ number: 1, text: row }, 'a.jsonl'));
    expect(parsed.kind).toBe('chat');
  });

  it.each([
    ['a byte-order mark', 'a.jsonl', `\ufeff${lines(pair)}`],
    ['CRLF', 'a.jsonl', lines(pair, pair).replaceAll('\n', '\r\n')],
    ['CR alone', 'a.csv', csv.replaceAll('\n', '\r')],
    ['CR twice, as Python writes to a text file of Windows', 'a.csv', csv.replaceAll('\n', '\r\r\n')],
    ['a column without a name, as pandas writes', 'a.csv', ',group,prompt,chosen,rejected\n0,a,Q,Yes,No\n'],
    ['whole characters beyond 16 bits', 'a.jsonl', lines({ ...pair, chosen: 'so 😀' })],
    ['weights of all forms', 'a.csv', `${row('.5')}a,S,Yes,No, 2. \na,T,Yes,No,+1e-3\n`],
    ['an answer that repeats the prompt', 'a.jsonl', lines({ ...pair, chosen: pair.prompt })],
  ])('reads %s', async (_, name, content) => {
    expect((await load(name, content)).groups).toEqual(['a']);
  });

  it.each(['\n', '\r\n', '\r'].flatMap((first) => ['\n', '\r\n', '\r'].map((second) => [first, second])))(
    'reads CSV whose header ends in %j and whose rows end in %j: no line end is left in a value',
    async (first, second) => {
      const rows = [`Q${first}`, `a,"P${second}",Yes,No${first}`, `b,R,Yes,No${second}`, 'b,S,Yes,No'];
      const text = rows.join('').replace('Q', 'group,prompt,chosen,rejected');
      const { pairs, groups } = await load('mixed.csv', text);
      expect(groups).toEqual(['a', 'b']);
      expect(pairs.map(({ prompt }) => tiny.decode(prompt.slice(1)))).toEqual([`P${second}`, 'R', 'S']);
      for (const { rejected } of pairs) expect([...rejected]).toEqual([...tiny.encode('No'), tiny.eos]);
    },
  );

  it('tells an empty value of one column from a blank line', async () => {
    const file = join(folder, 'one.csv');
    for (const end of ['', '\n', '\r\n']) {
      writeFileSync(file, `prompt\nQ1\n\n  \n""\nQ2${end}\n" "${end}`);
      const values: unknown[] = [];
      for await (const each of readRows(file, ['prompt'])) values.push(each.values.prompt);
      expect(values).toEqual(['Q1', '', 'Q2', ' ']);
    }
  });

  it('reads the types that other writers of Parquet choose', async () => {
    const { groups, pairs } = await loadPairs(fixture('types.parquet'), { tokenizer: () => tiny });
    expect(groups).toEqual(['1', '2']);
    expect(pairs.map(({ prompt }) => tiny.decode(prompt.slice(1)))).toEqual(['p', 'q']);
    const parser = new PairParser();
    const weights: number[] = [];
    for await (const each of parser.rows(fixture('types.parquet'))) weights.push(parser.parse(each).weight);
    expect(weights).toEqual([0.5, 2.25]);
  });

  it.each([
    ['twice.parquet', /twice\.parquet, field "group": is the name of two columns\n {2}fix: /],
    ['no-label.parquet', /no-label\.parquet, row 2, field "group": expected the name of a group, found null/],
    [
      'datasets-turns.csv',
      /datasets-turns\.csv:2, field "prompt": is not a list of turns in JSON's .*: expected "," or "\]", found "\{" at/,
    ],
    ['latin1.parquet', /latin1\.parquet, row 1: cannot be read as Parquet: .*utf-8/],
  ])('refuses %s', async (name, message) => {
    const error = await inputError(() => loadPairs(fixture(name), { tokenizer: () => tiny }));
    expect(error.message).toMatch(message);
  });

  it("takes the names of a ClassLabel of Python's datasets for groups", async () => {
    const { groups } = await loadPairs(fixture('class-label.parquet'), { tokenizer: () => tiny });
    expect(groups).toEqual(['Egypt', 'Nigeria', '0']);
  });

  it('says which groups look alike, and keeps them apart', async () => {
    const names = ['a', 'a ', 'A', 'b', 'Côte', 'Co\u0302te', '1', '1.0', '10'];
    const { groups, report } = await load('alike.jsonl', lines(...names.map((group) => ({ ...pair, group }))));
    expect(groups).toEqual(names);
    const said = report.warnings.filter((text) => text.includes('differ only in'));
    expect(said.map((text) => /the groups (.*) differ/.exec(text)?.[1])).toEqual([
      '"a", "a ", "A"',
      '"Côte", "Co\u0302te"',
      '"1", "1.0"',
    ]);
  });

  it('copes with 100,000 groups', async () => {
    const started = performance.now();
    const { groups } = await load(
      'many.jsonl',
      Array.from({ length: 1e5 }, (_, i) => lines({ ...pair, group: `g${i}` })).join(''),
    );
    expect(groups.length).toBe(1e5);
    expect(performance.now() - started).toBeLessThan(60_000);
  }, 120_000);
});
