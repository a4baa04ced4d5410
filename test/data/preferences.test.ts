import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { loadPairs } from '../../src/data/pairs/dataset.js';
import { commonBeginning } from '../../src/data/pairs/layouts.js';
import type { PreferenceRecord, ReadPairsOptions } from '../../src/data/pairs/pairs.js';
import { openTokenizer, type TextTokenizer } from '../../src/data/text/tokenizer.js';
import { temporaryFolder } from '../temporary-folder.js';
import { firstGeneration, generationFolder, thirdInSmall } from './generations.js';
import { inputError, readPairs, writeLines } from './helpers.js';

/** Files that pandas and pyarrow wrote, and the tokens transformers makes of conversations: see make.py beside them. */
const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/preferences/${name}`, import.meta.url));
const golden = JSON.parse(readFileSync(fixture('chat.json'), 'utf8')) as {
  rendered: { messages: { role: string; content: string }[]; text: string; prompt: string }[];
  pairs: { prompt: number[]; chosen: number[]; rejected: number[] }[];
};
const folder = temporaryFolder();
const tiny = openTokenizer('random:tiny');

async function records(file: string, options?: ReadPairsOptions): Promise<PreferenceRecord[]> {
  const all: PreferenceRecord[] = [];
  for await (const record of readPairs(file, options)) all.push(record);
  return all;
}

function write(name: string, text: string | Uint8Array): string {
  const file = join(folder, name);
  writeFileSync(file, text);
  return file;
}

const texts = [
  { prompt: 'Which "one", then?\n', chosen: 'A', rejected: 'B', weight: 0.5 },
  { prompt: 'Zwei\r\nZeilen, ein Komma: ', chosen: 'B,\nC', rejected: '"quoted"', weight: 2 },
  { prompt: '日本語 😀? ', chosen: 'はい', rejected: 'いいえ', weight: 1 },
];

describe('files of pandas', () => {
  it.each([
    ['texts.csv', [{ line: 2 }, { line: 4 }, { line: 7 }]],
    ['texts.parquet', [{ row: 1 }, { row: 2 }, { row: 3 }]],
  ])('%s gives the pairs that went in, crossed groups and weights', async (name, places) => {
    const file = fixture(name);
    const groups = ['country=Nigeria/sex=1', 'country=Egypt/sex=2', 'country=Nigeria/sex=2'];
    expect(await records(file, { groupBy: ['country', 'sex'] })).toEqual(
      texts.map((text, i) => ({
        kind: 'text',
        ...text,
        preference: 1,
        groups: [groups[i]],
        at: { file, ...places[i] },
      })),
    );
  });

  it('reads 64-bit weights and groups, several row groups, zstd, and nulls where nothing needs a value', async () => {
    const read = await records(fixture('codes.parquet'), { groupBy: ['sex'] });
    expect(read.map(({ groups, weight, at }) => [...groups, weight, at])).toEqual([
      ['1', 1, { file: fixture('codes.parquet'), row: 1 }],
      ['2', 2, { file: fixture('codes.parquet'), row: 2 }],
      ['2', 3, { file: fixture('codes.parquet'), row: 3 }],
    ]);
  });

  it('names row and column of a group that is null, or a time, and the columns there are', async () => {
    const file = fixture('nulls.parquet');
    const error = await inputError(() => records(file, { groupBy: ['country'] }));
    expect(error.location).toEqual({ file, row: 2, field: 'country' });
    expect(error.message).toContain('nulls.parquet, row 2, field "country": expected the name of a group, found null');
    expect((await inputError(() => records(file, { groupBy: ['year'] }))).location.field).toBe('year');
    expect((await inputError(() => records(file))).message).toContain(
      'columns here: prompt, chosen, rejected, country',
    );
  });

  it.each(['ids32.parquet', 'ids64.parquet', 'ids.csv'])('%s gives token ids', async (name) => {
    const read = await records(fixture(name));
    expect(read.map(({ kind, prompt, chosen, rejected }) => [kind, prompt, chosen, rejected])).toEqual([
      ['ids', Int32Array.of(2, 5), Int32Array.of(7, 1), Int32Array.of(9, 1)],
      ['ids', Int32Array.of(2, 6, 7), Int32Array.of(8), Int32Array.of(10, 11)],
    ]);
    expect((await inputError(() => records(fixture(name), { vocabulary: 11 }))).location.field).toBe('rejected_ids');
  });
});

describe('conversations', () => {
  let gemma: TextTokenizer;
  beforeAll(() => {
    // As make.py used it.
    gemma = openTokenizer(generationFolder(join(folder, 'gemma-it'), firstGeneration));
  });

  it('renders them as transformers does', () => {
    const template = gemma.chatTemplate({});
    for (const { messages, text, prompt } of golden.rendered) {
      expect(template.render(messages, false, {})).toBe(text);
      const asked = messages.slice(0, messages.length - (messages.length > 2 ? 3 : 1));
      expect(template.render(asked, true, {})).toBe(prompt);
    }
  });

  it.each(['chat.parquet', 'chat.csv', 'chat-implicit.parquet'])("%s gives TRL's tokens", async (name) => {
    const { pairs, report } = await loadPairs(fixture(name), { tokenizer: () => gemma });
    expect(
      pairs.map(({ prompt, chosen, rejected }) => ({
        prompt: Array.from(prompt),
        chosen: Array.from(chosen),
        rejected: Array.from(rejected),
      })),
    ).toEqual(golden.pairs);
    expect(report.warnings).toEqual([expect.stringMatching(/in 1 pairs a response holds turns of the user/)]);
  });

  const user = (content: string) => ({ role: 'user', content });
  const assistant = (content: string) => ({ role: 'assistant', content });
  const text = (content: string) => ({ type: 'text', text: content });
  const parts = (...content: unknown[]) => ({ role: 'user', content });
  const pair = { group: 'a', prompt: [user('Q')], chosen: [assistant('A')], rejected: [assistant('B')] };
  it.each([
    ['a system message', { ...pair, prompt: [{ role: 'system', content: 'Be kind' }, user('Q')] }, 'prompt', /front/],
    ['a prompt that ends in an answer', { ...pair, prompt: [user('Q'), assistant('A')] }, 'chosen', /alternate/],
    ['two users in a row', { ...pair, prompt: [user('Q'), user('R')] }, 'prompt', /alternate/],
    ['text as prompt of turns', { ...pair, prompt: 'Q' }, 'chosen', /different turns/],
    ['a turn without content', { ...pair, chosen: [{ role: 'assistant' }] }, 'chosen[0].content', /text/],
    ['equal answers', { ...pair, rejected: pair.chosen }, 'rejected', /same/],
    ['an answer that is text', { ...pair, chosen: 'A' }, 'prompt', /expected text/],
    ['a list without parts', { ...pair, prompt: [parts()] }, 'prompt[0].content', /empty list/],
    ['a part that is text alone', { ...pair, prompt: [parts('Q')] }, 'prompt[0].content[0]', /"type": "text"/],
    ['an image', { ...pair, prompt: [parts(text('Q'), { type: 'image' })] }, 'prompt[0].content[1]', /type "image"/],
    ['half a character', { ...pair, prompt: [user('\ud83d')] }, 'prompt[0].content', /surrogate/],
  ])('refuses %s', async (_, record, field, message) => {
    const file = writeLines(folder, 'bad-chat.jsonl', [record]);
    const error = await inputError(() => loadPairs(file, { tokenizer: () => gemma }));
    expect(error.location).toEqual({ file, line: 1, field });
    expect(error.message).toMatch(message);
  });

  describe("with Gemma 3's settings, whose eos_token is <end_of_turn>", () => {
    let third: TextTokenizer;
    beforeAll(() => {
      third = openTokenizer(generationFolder(join(folder, 'gemma3-it'), thirdInSmall));
    });
    const load = (record: object) => {
      const file = writeLines(folder, 'third.jsonl', [{ group: 'a', ...record }]);
      return loadPairs(file, { tokenizer: () => third });
    };

    it('reads a conversation, a system turn and lists', async () => {
      const system = { role: 'system', content: [text('Be kind')] };
      const prompt = [system, parts(text(' One, '), text('two'))];
      const { pairs, report } = await load({ ...pair, prompt });
      expect(third.decode(pairs[0].prompt)).toBe(
        '<bos><start_of_turn>user\nBe kind\n\nOne,two<end_of_turn>\n<start_of_turn>model\n',
      );
      expect(third.decode(pairs[0].chosen)).toBe('A<end_of_turn>\n');
      expect(report.warnings).toEqual([]);
    });

    it('says which text its template leaves out', async () => {
      const system = { role: 'system', content: [text('Be kind'), text('and brief')] };
      const error = await inputError(() => load({ ...pair, prompt: [system, user('Q')] }));
      expect(error.message).toContain('leaves out "and brief", a part of the turn of "system"');
    });

    it.each(['<end_of_turn>', '<eos>', '<start_of_turn>', '<start_of_image>', '<bos>', '<pad>'])(
      'refuses %s in a turn, naming row, field and token',
      async (token) => {
        const hostile = `a ${token} b`;
        for (const [record, field] of [
          [{ ...pair, prompt: [user('Q'), assistant('A'), user(hostile)] }, 'prompt[2].content'],
          [{ ...pair, prompt: [parts(text('Q'), text(hostile))] }, 'prompt[0].content[1].text'],
          [{ ...pair, prompt: [parts(text(token.slice(0, 3)), text(` ${token.slice(3)}`))] }, 'prompt[0].content'],
          [{ ...pair, prompt: [{ role: token, content: 'Q' }] }, 'prompt[0].role'],
          [{ ...pair, rejected: [assistant(hostile)] }, 'rejected[0].content'],
          [{ chosen: [user(hostile), assistant('A')], rejected: [user(hostile), assistant('B')] }, 'chosen[0].content'],
          [{ chosen: [user('Q'), assistant('A')], rejected: [user('Q'), assistant(hostile)] }, 'rejected[1].content'],
        ] as const) {
          const error = await inputError(() => load(record));
          expect(error.location).toMatchObject({ line: 1, field });
          expect(error.message).toContain(`has the token "${token}"`);
        }
      },
    );

    it('refuses them in plain text, but for turns written by hand, of which it tells', async () => {
      const plain = { prompt: 'Q\n', chosen: 'A', rejected: 'B' };
      for (const token of ['<eos>', '<bos>', '<pad>', '<start_of_image>'])
        for (const field of ['prompt', 'chosen', 'rejected'] as const) {
          const error = await inputError(() => load({ ...plain, [field]: `a ${token} b` }));
          expect(error.location.field).toBe(field);
          expect(error.message).toContain(`has the token "${token}"`);
        }
      const within = await inputError(() => load({ ...plain, chosen: 'a<end_of_turn> b' }));
      expect(within.location.field).toBe('chosen');
      const prompt = '<start_of_turn>user\nQ<end_of_turn>\n<start_of_turn>model\n';
      const { pairs, report } = await load({ ...plain, prompt, chosen: 'A<end_of_turn>' });
      expect(third.decode(pairs[0].prompt)).toBe(`<bos>${prompt}`);
      expect([third.decode(pairs[0].chosen), third.decode(pairs[0].rejected)]).toEqual([
        'A<end_of_turn>',
        'B<end_of_turn>',
      ]);
      expect(report.warnings).toEqual([expect.stringContaining('1 pairs of plain text hold chat markers')]);
      expect((await load({ ...plain, chosen: 'A<end_of_turn>' })).report.warnings).toEqual([]);
    });
  });

  it('says so when the tokenizer has no chat template, and takes the one named default', async () => {
    const file = writeLines(folder, 'chat.jsonl', [pair]);
    const error = await inputError(() => loadPairs(file, { tokenizer: () => tiny }));
    expect(error.message).toContain('no chat template');
    expect(error.location).toEqual({ file, line: 1 });
    const own = join(folder, 'templated');
    mkdirSync(own);
    copyFileSync(tiny.file, join(own, 'tokenizer.json'));
    const template = "{% for m in messages %}{{ m['role'][0] + ': ' + m['content'] }}{{ eos_token }}{% endfor %}";
    writeFileSync(
      join(own, 'tokenizer_config.json'),
      JSON.stringify({
        chat_template: [
          { name: 'tool_use', template: 'x' },
          { name: 'default', template },
        ],
      }),
    );
    const { pairs } = await loadPairs(writeLines(folder, 'one.jsonl', [{ ...pair, prompt: [user('Q')] }]), {
      tokenizer: () => ({ ...openTokenizer(own), eos: 3 }),
    });
    expect(tiny.decode(pairs[0].prompt)).toBe('<bos>u: Q<eos>');
    // Ends as the template ends it: one EOS, none added.
    expect(tiny.decode(pairs[0].chosen)).toBe('a: A<eos>');
  });
});

describe('implicit prompts', () => {
  it.each([
    ['\n\nHuman: Why?\n\nAssistant: Sure.', '\n\nHuman: Why?\n\nAssistant: Sorry.', '\n\nHuman: Why?\n\nAssistant:'],
    ['The sky is blue', 'The sky is green', 'The sky is'],
    ['Q? Yes', 'Q? No', 'Q?'],
    ['Q:\nYes', 'Q:\nNo', 'Q:\n'],
    ['Q: 😀', 'Q: 😁', 'Q:'],
    ['Q: same words', 'Q: same', 'Q: same'],
  ])('%j and %j share %j', (chosen, rejected, prompt) => {
    expect(commonBeginning(chosen, rejected).prompt).toBe(prompt);
  });

  it('cuts nothing away, and leaves responses that differ from their first word on', () => {
    const text = fc.string({ unit: fc.constantFrom('a', 'b', ' ', '\n', '日', '😀', '😁'), maxLength: 12 });
    fc.assert(
      fc.property(text, text, text, (start, a, b) => {
        const { prompt, chosen, rejected } = commonBeginning(start + a, start + b);
        expect([prompt + chosen, prompt + rejected]).toEqual([start + a, start + b]);
        if (a === b) return;
        const first = (response: string) => /^ ?([\p{L}]+|[\s\S]?)/u.exec(response)?.[0];
        expect(first(chosen)).not.toBe(first(rejected));
        expect(/\p{L}$/u.test(prompt) && /^\p{L}/u.test(chosen)).toBe(false);
      }),
    );
  });

  it('refuses texts that share nothing, and pairs written otherwise than the first', async () => {
    const nothing = writeLines(folder, 'nothing.jsonl', [{ group: 'a', promt: 'Q', chosen: 'x', rejected: 'y' }]);
    const error = await inputError(() => records(nothing));
    expect(error.location).toEqual({ file: nothing, line: 1, field: 'chosen' });
    expect(error.message).toContain('columns here: group, promt, chosen, rejected');
    const own = { group: 'a', prompt: 'Q: ', chosen: 'x', rejected: 'y' };
    const shared = { group: 'a', chosen: 'Q: x', rejected: 'Q: y' };
    const mixed = (lines: object[]) => inputError(() => records(writeLines(folder, 'mixed.jsonl', lines)));
    expect((await mixed([own, shared])).location).toMatchObject({ line: 2, field: 'prompt' });
    expect((await mixed([shared, own])).location).toMatchObject({ line: 2, field: 'prompt' });
    const turns = { ...own, chosen: [{ role: 'assistant', content: 'x' }] };
    expect((await mixed([own, turns])).location).toMatchObject({ line: 2 });
  });
});

describe('broken files', () => {
  it.each([
    ['no whole number of columns', 'group,prompt,chosen,rejected\na,"p\nq",x,y\na,p,x\n', 4],
    ['an open quote', 'group,prompt,chosen,rejected\na,p,x,y\na,"p,x,y\na,p,x,y\n', 3],
    ['a quote inside', 'group,prompt,chosen,rejected\na,p "q",x,y\n', 2],
    ['a column twice', 'group,prompt,prompt,rejected\na,p,x,y\n', 1],
    ['an empty weight', 'group,prompt,chosen,rejected,weight\na,p,x,y,1\na,p,x,y,\n', 3],
    ['a weight that is a word', 'group,prompt,chosen,rejected,weight\r\na,p,x,y,1\r\na,p,x,y,one\r\n', 3],
    ['ids that are no list', 'group,prompt_ids,chosen_ids,rejected_ids\na,[2],[1 2],[3]\n', 2],
  ])('CSV with %s', async (_, text, line) => {
    const file = write('broken.csv', text);
    expect((await inputError(() => records(file))).location).toMatchObject({ file, line });
  });

  it('CSV that is not UTF-8, is missing, or begins with a byte-order mark', async () => {
    const bytes = Buffer.from('group,prompt,chosen,rejected\na,p,x,\xff\n', 'latin1');
    expect((await inputError(() => records(write('latin.csv', bytes)))).message).toContain('not UTF-8');
    expect((await inputError(() => records('/nowhere/pairs.csv'))).message).toContain('no such file');
    const file = write('bom.csv', '\ufeffgroup,prompt,chosen,rejected\na,p,x,y\n');
    expect(await records(file)).toMatchObject([{ groups: ['a'], at: { file, line: 2 } }]);
  });

  it('counts lines of CSV over chunks, breaks inside quotes and blank lines', async () => {
    const row = `a,"${'p\r\n'.repeat(1000)}",x,y\r\n`;
    const file = write('long.csv', `group,prompt,chosen,rejected\r\n\r\n${row.repeat(300)}a,p,x\r\n`);
    expect((await inputError(() => records(file))).location.line).toBe(3 + 300 * 1001);
  });

  it('gives the rows or an InputError for any damaged Parquet', async () => {
    const whole = readFileSync(fixture('texts.parquet'));
    const change = fc.record({ at: fc.nat(whole.length - 1), byte: fc.nat(255), length: fc.nat(whole.length) });
    await fc.assert(
      fc.asyncProperty(change, fc.boolean(), async ({ at, byte, length }, cut) => {
        const bytes = Buffer.from(cut ? whole.subarray(0, length) : whole);
        if (at < bytes.length) bytes[at] = byte;
        const file = write('damaged.parquet', bytes);
        try {
          await records(file, { groupBy: ['country'] });
        } catch {
          await inputError(() => records(file, { groupBy: ['country'] }));
        }
      }),
      { numRuns: 300 },
    );
    expect((await inputError(() => records('/nowhere/pairs.parquet'))).message).toContain('no such file');
  });
});

describe('unusable pairs', () => {
  it('are left out and counted by kind, or errors that say how to', async () => {
    const good = { group: 'a', prompt: 'Q', chosen: 'x', rejected: 'y' };
    const lines = [good, { ...good, chosen: ' ' }, { ...good, rejected: 'x' }, { ...good, chosen: 'x'.repeat(99) }];
    const file = writeLines(folder, 'unusable.jsonl', lines);
    const options = { tokenizer: () => tiny, maxLength: 20 };
    const { pairs, report } = await loadPairs(file, { ...options, unusable: 'drop' });
    expect(pairs).toHaveLength(1);
    expect(report.dropped).toEqual({ empty: 1, degenerate: 1, tooLong: 1 });
    const error = await inputError(() => loadPairs(file, options));
    expect(error.location).toEqual({ file, line: 2, field: 'chosen' });
    expect(error.message).toContain('unusable: drop');
  });
});
