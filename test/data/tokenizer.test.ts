import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { opinionPrompt } from '../../src/data/surveys/global-opinions.js';
import { generateSurvey } from '../../src/data/surveys/invented-survey.js';
import { openTokenizer, type TextTokenizer, tokenisePair } from '../../src/data/text/tokenizer.js';
import { temporaryFolder } from '../temporary-folder.js';
import { fixture, GEMMA_TOKENIZER, inputError } from './helpers.js';

const folder = temporaryFolder();
const golden = JSON.parse(readFileSync(fixture('tokenizer-golden.json'), 'utf8')) as {
  cases: { text: string; gemma: number[]; tiny: number[] }[];
};
const gemma = openTokenizer('random:gemma-2b', GEMMA_TOKENIZER);
const tiny = openTokenizer('random:tiny');
const count = (ids: Int32Array, id: number) => ids.filter((other) => other === id).length;

describe.each([
  ['gemma', gemma],
  ['tiny', tiny],
] as const)('%s tokenizer', (name, tokenizer) => {
  it('agrees with the Rust library', () => {
    for (const test of golden.cases) expect(tokenizer.encode(test.text), test.text).toEqual(test[name]);
  });

  it('has BOS 2, EOS 1', () => {
    expect([tokenizer.bos, tokenizer.eos]).toEqual([2, 1]);
    expect(tokenizer.vocabulary).toBe(name === 'gemma' ? 256_000 : 1004);
  });

  it('puts BOS first and EOS last, exactly once, also where the text has them', () => {
    for (const prompt of ['Is it so?\n', '<bos>Is it so?\n'])
      for (const chosen of ['Yes', 'Yes<eos>']) {
        const tokens = tokenisePair(tokenizer, { prompt, chosen, rejected: 'No' });
        expect(tokens.prompt[0]).toBe(2);
        expect(tokens.prompt.slice(1)).toEqual(Int32Array.from(tokenizer.encode('Is it so?\n')));
        expect(tokens.chosen).toEqual(Int32Array.from([...tokenizer.encode('Yes'), 1]));
        for (const ids of [tokens.chosen, tokens.rejected]) expect([count(ids, 1), count(ids, 2)]).toEqual([1, 0]);
        expect([count(tokens.prompt, 2), count(tokens.prompt, 1)]).toEqual([1, 0]);
        expect(tokens.boundaryDiffers).toBe(false);
      }
  });

  it.each([
    ['prompt', { prompt: 'a<eos>b', chosen: 'x', rejected: 'y' }],
    ['prompt', { prompt: '<bos><bos>b', chosen: 'x', rejected: 'y' }],
    ['chosen', { prompt: 'a', chosen: 'x<eos>y', rejected: 'y' }],
    ['rejected', { prompt: 'a', chosen: 'x', rejected: '<bos>y' }],
    ['chosen', { prompt: 'a', chosen: '<eos>', rejected: 'y' }],
  ])('refuses BOS or EOS inside the %s', async (field, texts) => {
    const error = await inputError(() => tokenisePair(tokenizer, texts, { file: 'f', line: 3 }));
    expect(error.location).toEqual({ file: 'f', line: 3, field });
  });
});

describe('the tiny tokenizer', () => {
  it('loses nothing of any text', () => {
    const text = fc.string({ unit: 'grapheme' }).filter((value) => !/<(pad|eos|bos|unk)>/.test(value));
    fc.assert(
      fc.property(text, (value) => {
        expect(tiny.decode(tiny.encode(value))).toBe(value);
      }),
    );
    expect(tiny.decode(tiny.encode('a\0\u2028 \r\n▁ 😀'))).toBe('a\0\u2028 \r\n▁ 😀');
  });

  it('needs 26 to 48 tokens for the prompts of the invented survey, whatever its seed', () => {
    const { truth } = generateSurvey({ seed: 99, rows: 1200 });
    for (const { question, options } of truth.questions)
      for (const { name } of truth.countries) {
        const prompt = opinionPrompt(name, question, options);
        const tokens = tokenisePair(tiny, { prompt, chosen: 'A', rejected: 'B' });
        expect(tokens.prompt.length).toBeGreaterThanOrEqual(26);
        expect(tokens.prompt.length).toBeLessThanOrEqual(48);
        expect([tokens.chosen.length, tokens.rejected.length, tokens.boundaryDiffers]).toEqual([2, 2, false]);
      }
  });
});

describe('words of a tokenizer that takes a whole text for one', () => {
  /** Pairs in the order of their rank, the last two of which go on into the next word. */
  const merges = ['a b', '▁ a', '▁ ▁', '▁a b', 'ab c', '▁▁ ▁', '▁ 😀', '] ▁', '😀 ▁a'].map((pair) => pair.split(' '));
  const characters = ['a', 'b', 'c', ' ', '▁', ']', '^', '😀', '\n'];
  const vocab = Object.fromEntries(
    ['<bos>', '<eos>', ...characters, ...merges.map((pair) => pair.join(''))].map((token, id) => [token, id]),
  );
  const json = (spelt: unknown) => ({
    added_tokens: [],
    normalizer: { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
    pre_tokenizer: null,
    post_processor: null,
    decoder: { type: 'Fuse' },
    model: { type: 'BPE', vocab, merges: spelt, unk_token: null },
  });
  /** The textbook: the leftmost pair of the lowest rank is merged, until there is none. */
  const merged = (text: string): number[] => {
    const tokens = Array.from(text.replaceAll(' ', '▁'));
    for (;;) {
      const ranks = tokens.map((token, i) => merges.findIndex(([a, b]) => a === token && b === tokens[i + 1]));
      const best = Math.min(...ranks.filter((rank) => rank >= 0));
      if (best === Number.POSITIVE_INFINITY) return tokens.map((token) => vocab[token]);
      const at = ranks.indexOf(best);
      tokens.splice(at, 2, tokens[at] + tokens[at + 1]);
    }
  };

  it.each([
    ['lists', merges],
    ['texts', merges.map((pair) => pair.join(' '))],
  ])('are merged as within the text, also where a token goes on into the next word (merges as %s)', (name, spelt) => {
    const file = join(folder, `words-${name}.json`);
    writeFileSync(file, JSON.stringify(json(spelt)));
    const tokenizer = openTokenizer('', file);
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...characters), { maxLength: 40 }), (parts) => {
        expect(tokenizer.encode(parts.join(''))).toEqual(merged(parts.join('')));
      }),
    );
  });
});

describe('the boundary between prompt and response', () => {
  it('keeps prompt text out of the response where one token would span both (toy BPE with a merge "b c")', () => {
    const vocab = Object.fromEntries(
      ['<pad>', '<eos>', '<bos>', 'a', 'b', 'c', 'd', 'bc'].map((token, id) => [token, id]),
    );
    const toy = join(folder, 'toy.json');
    writeFileSync(
      toy,
      JSON.stringify({
        added_tokens: [],
        normalizer: null,
        pre_tokenizer: null,
        post_processor: null,
        decoder: { type: 'Fuse' },
        model: { type: 'BPE', vocab, merges: [['b', 'c']], unk_token: null },
      }),
    );
    const tokenizer = openTokenizer('', toy);
    expect(tokenizer.encode('abcd')).toEqual([3, 7, 6]);
    const tokens = tokenisePair(tokenizer, { prompt: 'ab', chosen: 'cd', rejected: 'd' });
    expect(tokens).toEqual({
      prompt: Int32Array.of(2, 3, 4),
      chosen: Int32Array.of(5, 6, 1),
      rejected: Int32Array.of(6, 1),
      boundaryDiffers: true,
    });
    expect(tokenisePair(tokenizer, { prompt: 'a', chosen: 'bcd', rejected: 'd' }).boundaryDiffers).toBe(false);
  });

  it('does so with Gemma, where "US" and "A" make "USA"', () => {
    const joined = tokenisePair(gemma, { prompt: 'C. US', chosen: 'A', rejected: 'B' });
    expect(joined.boundaryDiffers).toBe(true);
    expect(gemma.decode(joined.prompt)).toBe('<bos>C. US');
    expect(gemma.decode(joined.chosen)).toBe('A<eos>');
    expect(tokenisePair(gemma, { prompt: 'C. Other', chosen: 'A', rejected: 'B' }).boundaryDiffers).toBe(false);
  });

  it('takes a response from the joined text (a stand-in that marks where a text starts)', () => {
    // As tokenizers that put a space before every text: alone, "x" is [100, 120]; after a prompt it is [120].
    const marking: TextTokenizer = {
      file: '',
      vocabulary: 256,
      bos: 2,
      eos: 1,
      controls: [],
      encode: (text) => [100, ...Buffer.from(text)],
      decode: (ids) => Buffer.from(Array.from(ids)).toString(),
      chatTemplate: (at) => gemma.chatTemplate(at),
    };
    expect(tokenisePair(marking, { prompt: 'p', chosen: 'x', rejected: 'y' }).chosen).toEqual(Int32Array.of(120, 1));
  });
});

describe('openTokenizer', () => {
  it.each([
    ['/nowhere', 'no such folder'],
    [folder, 'no such file'],
  ])('says what is missing in %s', async (path, problem) => {
    const error = await inputError(() => openTokenizer(path));
    expect(error.message).toContain(problem);
    expect(error.message).toContain('tokenizer.json');
  });

  it('refuses files that are no tokenizer, and one without BOS', async () => {
    const write = (name: string, text: string) => {
      writeFileSync(join(folder, name), text);
      return join(folder, name);
    };
    expect((await inputError(() => openTokenizer('', write('a.json', '{')))).message).toContain('is not JSON');
    expect((await inputError(() => openTokenizer('', write('b.json', '{}')))).message).toContain('model.vocab');
    const other = '{"model": {"type": "Nonsense", "vocab": {"a": 0}, "merges": []}}';
    expect((await inputError(() => openTokenizer('', write('c.json', other)))).message).toContain('understands');
    const json = JSON.parse(readFileSync(tiny.file, 'utf8'));
    json.added_tokens = json.added_tokens.filter(({ content }: { content: string }) => content !== '<bos>');
    delete json.model.vocab['<bos>'];
    expect((await inputError(() => openTokenizer('', write('d.json', JSON.stringify(json))))).code).toBe('BOS_MISSING');
  });

  it('takes the names of BOS and EOS from tokenizer_config.json where there is one', () => {
    const renamed = join(folder, 'renamed');
    mkdirSync(renamed);
    writeFileSync(join(renamed, 'tokenizer.json'), readFileSync(tiny.file));
    writeFileSync(join(renamed, 'tokenizer_config.json'), '{"bos_token": {"content": "<unk>"}, "eos_token": "<pad>"}');
    const tokenizer = openTokenizer(renamed);
    expect([tokenizer.bos, tokenizer.eos]).toEqual([3, 0]);
  });
});
