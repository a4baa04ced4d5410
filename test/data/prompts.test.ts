import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { loadPairs } from '../../src/data/pairs/dataset.js';
import { parseTemplate } from '../../src/data/pairs/prompt-template.js';
import { loadPrompts } from '../../src/data/pairs/prompts.js';
import { endOfTurn } from '../../src/data/text/control-tokens.js';
import { openTokenizer, type TextTokenizer } from '../../src/data/text/tokenizer.js';
import { temporaryFolder } from '../temporary-folder.js';
import { inputError, writeLines } from './helpers.js';

/** Prompts alone become the tokens that they are in pairs. */
const folder = temporaryFolder();
let tokenizer: TextTokenizer;
beforeAll(() => {
  // The built-in one with marks of turns, and Gemma's chat template: its own tokenizer takes seconds to open.
  const json = JSON.parse(readFileSync('src/data/text/tiny-tokenizer.json', 'utf8'));
  for (const content of ['<start_of_turn>', '<end_of_turn>']) {
    const id = Object.keys(json.model.vocab).length;
    json.model.vocab[content] = id;
    json.added_tokens.push({ ...json.added_tokens[0], id, content });
  }
  writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(json));
  copyFileSync('test/fixtures/preferences/gemma.jinja', join(folder, 'chat_template.jinja'));
  tokenizer = openTokenizer(folder);
});
const load = (rows: object[], options = {}) =>
  loadPrompts(writeLines(folder, 'prompts.jsonl', rows), {
    tokenizer: () => tokenizer,
    groupOptional: true,
    bos: 2,
    ...options,
  });

const turns = [
  { role: 'user', content: 'Is it so?' },
  { role: 'assistant', content: 'Hm' },
  { role: 'user', content: [{ type: 'text', text: ' Well? ' }] },
];

describe('prompts', () => {
  const template = parseTemplate('In {group}: {prompt}');
  const answers = (text: string) => [{ role: 'assistant', content: text }];
  it.each([
    ['text', { prompt: 'Is it so?\n' }, { chosen: 'A', rejected: 'B' }],
    ['a conversation', { prompt: turns }, { chosen: answers('A'), rejected: answers('B') }],
  ])('of %s are those of pairs, with a template and without', async (_, prompt, responses) => {
    for (const options of [{}, { template }]) {
      const row = { group: 'Peru', ...prompt };
      const { prompts } = await load([row, row], options);
      const { pairs } = await loadPairs(writeLines(folder, 'pairs.jsonl', [{ ...row, ...responses }]), {
        tokenizer: () => tokenizer,
        ...options,
      });
      expect(prompts.map(({ line, groups, prompt: ids }) => [line, ...groups, ids])).toEqual(
        [1, 2].map((line) => [line, 'Peru', pairs[0].prompt]),
      );
    }
  });

  it.each([
    ['text', { chosen: 'Is it so? A', rejected: 'Is it so? B' }],
    ['turns', { chosen: [...turns, ...answers('A')], rejected: [...turns, ...answers('B')] }],
    [
      'turns beside a text',
      { prompt: 'x', chosen: [...turns, ...answers('A')], rejected: [...turns, ...answers('B')] },
    ],
  ])('in responses of %s are those of pairs', async (_, pair) => {
    const row = { group: 'Peru', ...pair };
    const { prompts } = await load([row], { ofPairs: true, template });
    const { pairs } = await loadPairs(writeLines(folder, 'pairs.jsonl', [row]), {
      tokenizer: () => tokenizer,
      template,
    });
    expect(prompts[0].prompt).toEqual(pairs[0].prompt);
  });

  it('of pairs are read whatever else the pairs hold', async () => {
    const odd = [
      { chosen: 'A', rejected: 'A' },
      { chosen: '', rejected: 'B' },
      { chosen: 'A', weight: -1, preference: 2 },
    ].map((rest) => ({ prompt: 'Is it so?', ...rest }));
    const ids = { prompt_ids: [2, 5], chosen_ids: [], chosen: 'A', rejected: 'A' };
    const { prompts } = await load([...odd, ids], { ofPairs: true });
    const [{ prompt }] = (await load([{ prompt: 'Is it so?' }])).prompts;
    expect(prompts.map(({ kind, prompt: tokens }) => [kind, tokens])).toEqual([
      ...odd.map(() => ['text', prompt]),
      ['ids', Int32Array.of(2, 5)],
    ]);
  });

  it('of ids are as given; a row needs no group where it is optional', async () => {
    const { prompts, warnings } = await load([{ prompt_ids: [2, 5] }, { prompt_ids: [7], group: 'a' }]);
    expect(prompts.map(({ groups, prompt }) => [...groups, ...prompt])).toEqual([
      ['', 2, 5],
      ['a', 7],
    ]);
    expect(warnings).toEqual([expect.stringContaining('BOS_MISSING in 1 prompts of token ids')]);
  });

  it('of plain text with marks of turns get a warning', async () => {
    const { warnings } = await load([{ prompt: '<start_of_turn>user\nhi<end_of_turn>\n' }]);
    expect(warnings).toEqual([expect.stringContaining('1 prompts of plain text hold chat markers')]);
    expect(endOfTurn(tokenizer).map((id) => tokenizer.decode([id]))).toEqual(['<end_of_turn>']);
  });

  it.each<[object[], object, RegExp]>([
    [[], {}, /holds no prompt/],
    [[{ text: 'x' }], {}, /field "prompt": there is no such column\n {2}fix: add a column "prompt", or "prompt_ids"/],
    [[{ prompt: ' ' }], {}, /field "prompt": is empty\n {2}fix: fill it in, or remove the row$/],
    [[{ prompt_ids: [] }], {}, /field "prompt_ids": is empty\n {2}fix: fill it in, or remove the row$/],
    [
      [{ chosen: 'So. A', rejected: 'So. A' }],
      { ofPairs: true },
      /field "chosen": is empty after what .* fix: add a column "prompt", or remove the row$/s,
    ],
    [[{ chosen: 'A' }], { ofPairs: true }, /field "prompt": there is no such column/],
    [[{ prompt: 'x', prompt_ids: [2] }], {}, /field "prompt": is given beside "prompt_ids"/],
    [[{ prompt: 'x' }], { groupOptional: false }, /field "group": there is no such column/],
    [[{ prompt: 'x', group: null }], {}, /field "group": expected the name of a group/],
    [[{ prompt_ids: [2], group: 'a' }], { template }, /field "prompt_ids": is token ids, of which a template/],
    [[{ prompt: 'x<eos>' }], {}, /field "prompt": has the token "<eos>" inside its text/],
    [[{ prompt: [{ role: 'user', content: '<end_of_turn>' }] }], {}, /field "prompt\[0\]\.content": has the token/],
    [[{ prompt: 'x' }], { vocabulary: 3 }, /field "prompt": "x" is token \d+, but the model knows only 3/],
  ])('are refused: %j', async (rows, options, message) => {
    expect((await inputError(() => load(rows, options))).message).toMatch(message);
  });
});
