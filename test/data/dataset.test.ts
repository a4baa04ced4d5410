import { describe, expect, it } from 'vitest';
import { loadPairs } from '../../src/data/pairs/dataset.js';
import { parseTemplate } from '../../src/data/pairs/prompt-template.js';
import { openTokenizer } from '../../src/data/text/tokenizer.js';
import { temporaryFolder } from '../temporary-folder.js';
import { GEMMA_TOKENIZER, inputError, writeLines } from './helpers.js';

const folder = temporaryFolder();
const tiny = openTokenizer('random:tiny');
const gemma = openTokenizer('random:gemma-2b', GEMMA_TOKENIZER);
const tokenizer = () => tiny;
const text = (group: string, chosen = 'A', rejected = 'B', more: object = {}) => ({
  group,
  prompt: 'Which?\n',
  chosen,
  rejected,
  ...more,
});
const ids = (group: string, prompt: number[], chosen: number[], rejected: number[]) => ({
  group,
  prompt_ids: prompt,
  chosen_ids: chosen,
  rejected_ids: rejected,
});

describe('loadPairs', () => {
  it('keeps order, names pairs by file and line, numbers groups by first appearance', async () => {
    const file = writeLines(folder, 'order.jsonl', [text('b'), '', text('a'), text('b', 'C')]);
    const set = await loadPairs(file, { tokenizer });
    expect(set.groups).toEqual(['b', 'a']);
    expect(set.counts).toEqual([2, 1]);
    expect(set.pairs.map(({ id, group }) => [id, group])).toEqual([
      [`${file}:1`, 0],
      [`${file}:3`, 1],
      [`${file}:4`, 0],
    ]);
  });

  it("keeps the groups of the training set, warns of one without pairs, refuses others' names", async () => {
    const file = writeLines(folder, 'groups.jsonl', [text('a')]);
    const set = await loadPairs(file, { tokenizer, groups: ['c', 'a'] });
    expect([set.groups, set.counts, set.pairs[0].group]).toEqual([['c', 'a'], [0, 1], 1]);
    expect(set.report.warnings).toEqual([`${file}: no pair of group "c"`]);
    const error = await inputError(() => loadPairs(file, { tokenizer, groups: ['c'] }));
    expect(error.location).toEqual({ file, line: 1, field: 'group' });
  });

  it('uses ids exactly as given, and then needs no tokenizer', async () => {
    const file = writeLines(folder, 'ids.jsonl', [ids('a', [2, 9], [5], [6, 7])]);
    const { pairs } = await loadPairs(file);
    expect([pairs[0].prompt, pairs[0].chosen, pairs[0].rejected]).toEqual([
      Int32Array.of(2, 9),
      Int32Array.of(5),
      Int32Array.of(6, 7),
    ]);
  });

  it('warns of ids without BOS where the model needs it, and leaves them as they are', async () => {
    const file = writeLines(folder, 'bos.jsonl', [ids('a', [2, 9], [5], [6]), ids('a', [9], [5], [6])]);
    expect((await loadPairs(file, { bos: 2 })).report.warnings.join()).toContain('BOS_MISSING in 1 prompts');
    expect((await loadPairs(file)).report.warnings).toEqual([]);
  });

  it('refuses text without a tokenizer, and tokens the model does not know', async () => {
    const file = writeLines(folder, 'text.jsonl', [text('a')]);
    expect((await inputError(() => loadPairs(file))).location).toEqual({ file, line: 1, field: 'prompt' });
    const error = await inputError(() => loadPairs(file, { tokenizer: () => gemma, vocabulary: 1004 }));
    expect(error.location).toEqual({ file, line: 1, field: 'prompt' });
    expect(error.message).toContain('1004');
  });

  it('gives weights mean 1 within each group, and refuses a group of zeros', async () => {
    const file = writeLines(folder, 'weights.jsonl', [
      text('a', 'A', 'B', { weight: 6 }),
      text('a', 'A', 'C', { weight: 2 }),
      text('b'),
      text('a', 'A', 'D', { weight: 0 }),
    ]);
    const { pairs } = await loadPairs(file, { tokenizer });
    expect(pairs.map(({ weight }) => weight)).toEqual([2.25, 0.75, 1, 0]);
    const zeros = writeLines(folder, 'zeros.jsonl', [text('a'), text('b', 'A', 'B', { weight: 0 })]);
    expect((await inputError(() => loadPairs(zeros, { tokenizer }))).message).toContain('"b"');
  });

  it('keeps soft labels; of pairs without one all prefer the chosen response', async () => {
    const file = writeLines(folder, 'soft.jsonl', [
      text('a', 'A', 'B', { preference: 0.75 }),
      text('a', 'A', 'C', { preference: 0 }),
    ]);
    const preferences = async (file: string) =>
      (await loadPairs(file, { tokenizer })).pairs.map((pair) => pair.preference);
    expect(await preferences(file)).toEqual([0.75, 0]);
    const csv = writeLines(folder, 'soft.csv', [
      'group,prompt,chosen,rejected,preference',
      'a,q,A,B,0.75',
      'a,q,A,C,1',
    ]);
    expect(await preferences(csv)).toEqual([0.75, 1]);
    expect(await preferences(writeLines(folder, 'hard.jsonl', [text('a')]))).toEqual([1]);
  });

  it('makes weights (2, 0) the same group loss as leaving the second pair out', async () => {
    const both = writeLines(folder, 'two.jsonl', [
      text('a', 'A', 'B', { weight: 2 }),
      text('a', 'C', 'B', { weight: 0 }),
    ]);
    const one = writeLines(folder, 'one.jsonl', [text('a')]);
    const losses = [3, 100];
    const groupLoss = async (file: string) => {
      const { pairs } = await loadPairs(file, { tokenizer });
      return pairs.reduce((sum, pair, i) => sum + pair.weight * losses[i], 0) / pairs.length;
    };
    expect(await groupLoss(both)).toBe(await groupLoss(one));
  });

  it('refuses pairs that are too long or say nothing, or leaves them out and counts them', async () => {
    const long = ids('a', [2, 3, 4], [5, 6], [7]);
    const file = writeLines(folder, 'unusable.jsonl', [
      ids('a', [2, 3], [5], [6]),
      long,
      ids('a', [2], [5, 6], [5, 6]),
    ]);
    const tooLong = await inputError(() => loadPairs(file, { maxLength: 4 }));
    expect(tooLong.location).toEqual({ file, line: 2, field: 'chosen_ids' });
    expect(tooLong.message).toContain('5 tokens');
    const degenerate = await inputError(() => loadPairs(file, { maxLength: 5 }));
    expect(degenerate.location).toEqual({ file, line: 3, field: 'rejected_ids' });
    const set = await loadPairs(file, { maxLength: 4, unusable: 'drop' });
    expect([set.counts, set.report.dropped]).toEqual([[1], { empty: 0, degenerate: 1, tooLong: 1 }]);
    expect(set.report.warnings[0]).toContain(
      '0 pairs with an empty text, 1 with equal responses and 1 that are too long',
    );
    const none = writeLines(folder, 'none.jsonl', [long]);
    expect((await inputError(() => loadPairs(none, { maxLength: 3, unusable: 'drop' }))).message).toContain(
      'no usable',
    );
  });

  it('counts BOS and EOS in the length, exactly', async () => {
    const file = writeLines(folder, 'length.jsonl', [text('a')]);
    const length = tokenizer().encode('Which?\n').length + 1 + 2;
    expect((await loadPairs(file, { tokenizer, maxLength: length })).pairs.length).toBe(1);
    await inputError(() => loadPairs(file, { tokenizer, maxLength: length - 1 }));
  });

  it('warns of boundaries that the joined text would cut otherwise, and of chat markers', async () => {
    const file = writeLines(folder, 'boundary.jsonl', [
      { group: 'a', prompt: 'C. Other', chosen: 'A', rejected: 'B' },
      { group: 'a', prompt: '<start_of_turn>user C. US', chosen: 'A', rejected: 'B' },
    ]);
    const { report } = await loadPairs(file, { tokenizer: () => gemma });
    expect(report.boundaryDiffers).toEqual({ count: 1, firstLines: [2] });
    expect(report.warnings.length).toBe(2);
    expect(report.warnings[0]).toContain('1 pairs (first on line 2)');
    expect(report.warnings[1]).toContain('<start_of_turn>');
  });

  it('warns of texts that repeat their prompt, as whole dialogues do, also behind a template', async () => {
    const whole = (chosen: string) => ({ group: 'a', prompt: 'Which is it?\n', chosen, rejected: 'Which is it?\nB' });
    const file = writeLines(folder, 'whole.jsonl', [whole('Which is it?\nA'), whole('A')]);
    for (const template of [undefined, parseTemplate('In {group}: {prompt}')]) {
      const { report } = await loadPairs(file, { tokenizer, template });
      expect(report.warnings).toEqual([expect.stringContaining('in 1 pairs both responses begin with the prompt')]);
    }
  });
});
