import { describe, expect, it } from 'vitest';
import { loadPairs } from '../../src/data/pairs/dataset.js';
import type { ReadPairsOptions } from '../../src/data/pairs/pairs.js';
import { paperTemplate, parseTemplate } from '../../src/data/pairs/prompt-template.js';
import { parseSurvey } from '../../src/data/surveys/global-opinions.js';
import { opinionPairs } from '../../src/data/surveys/opinion-pairs.js';
import { openTokenizer } from '../../src/data/text/tokenizer.js';
import { resolveConfig } from '../../src/train/config.js';
import { temporaryFolder } from '../temporary-folder.js';
import { inputError, readPairs, writeLines } from './helpers.js';

const folder = temporaryFolder();
const imagine = parseTemplate('Imagine you are from {group}. {prompt}');

describe('a template', () => {
  it.each([
    ['Imagine you are from {group}. {prompt}', 'Imagine you are from Côte d’Ivoire. Is it {so}?'],
    ['{prompt} ({prompt}, {{group}}, {{{group}}})', 'Is it {so}? (Is it {so}?, {group}, {Côte d’Ivoire})'],
  ])('%s is filled in', (text, filled) => {
    expect(parseTemplate(text).fill('Côte d’Ivoire', 'Is it {so}?')).toBe(filled);
  });

  it('puts in nothing twice, whatever group and prompt hold', () => {
    expect(imagine.fill('{prompt} $&', '{group} $1')).toBe('Imagine you are from {prompt} $&. {group} $1');
  });

  it.each([
    ['{country}: {prompt} {Group}', '{country}, {Group}'],
    ['You are from {group}.', 'no {prompt}'],
    ['{} {prompt}', '{}'],
    ['{ group } {prompt}', '{ group }'],
    ['{group {prompt}', 'brace without its other half'],
    ['{prompt} }', 'brace without its other half'],
    ['', 'no {prompt}'],
  ])('%j is refused', async (text, problem) => {
    const error = await inputError(() => parseTemplate(text, { field: '--template' }));
    expect(error.message).toContain(problem);
    expect(error.location.field).toBe('--template');
    const config = { model: 'random:tiny', output: 'x', objective: { loss: 'sft' }, steps: 1 };
    const refused = await inputError(() => resolveConfig({ ...config, data: { train: 'x', template: text } }));
    expect(refused.location.field).toBe('data.template');
    expect(refused.message).toContain(problem);
  });
});

describe('prompts with the group in them', () => {
  const first = async (record: object, options: ReadPairsOptions = {}) => {
    const file = writeLines(folder, 'one.jsonl', [{ group: 'Egypt', ...record }]);
    for await (const read of readPairs(file, { template: imagine, ...options })) return read;
    throw new Error('no pair');
  };
  const user = (content: unknown) => ({ role: 'user', content });
  const assistant = (content: string) => ({ role: 'assistant', content });

  it('are made of texts, also of a common beginning and of crossed groups', async () => {
    const filled = 'Imagine you are from Egypt. Q:';
    expect(await first({ prompt: 'Q:', chosen: ' A', rejected: ' B' })).toMatchObject({ prompt: filled, chosen: ' A' });
    expect(await first({ chosen: 'Q: A', rejected: 'Q: B' })).toMatchObject({ prompt: filled, chosen: ' A' });
    const crossed = await first({ sex: 'f', prompt: 'Q', chosen: 'A', rejected: 'B' }, { groupBy: ['group', 'sex'] });
    expect(crossed.prompt).toBe('Imagine you are from group=Egypt/sex=f. Q');
  });

  it('are made of the first turn, the system or else the user', async () => {
    const responses = { chosen: [assistant('A')], rejected: [assistant('B')] };
    const turns = [user('Q'), assistant('Hm'), user('R')];
    expect((await first({ prompt: turns, ...responses })).prompt).toEqual([
      user('Imagine you are from Egypt. Q'),
      ...turns.slice(1),
    ]);
    const system = { role: 'system', content: 'Be kind' };
    expect((await first({ prompt: [system, user('Q')], ...responses })).prompt).toEqual([
      { role: 'system', content: 'Imagine you are from Egypt. Be kind' },
      user('Q'),
    ]);
    const listed = user([{ type: 'text', text: 'Q' }]);
    const shared = { chosen: [listed, assistant('A')], rejected: [listed, assistant('B')] };
    expect(await first(shared)).toMatchObject({
      prompt: [user('Imagine you are from Egypt. Q')],
      chosen: [assistant('A')],
    });
  });

  it('are not made of ids, which {prompt} alone leaves as they are', async () => {
    const ids = { prompt_ids: [2, 5], chosen_ids: [6], rejected_ids: [7] };
    expect((await inputError(() => first(ids))).location.field).toBe('prompt_ids');
    expect((await first(ids, { template: parseTemplate('{prompt}') })).prompt).toEqual(Int32Array.of(2, 5));
  });
});

describe('opposite labels of equal prompts in different groups', () => {
  const pair = (group: string, prompt: string, chosen: string, rejected: string) => ({
    group,
    prompt,
    chosen,
    rejected,
  });
  const file = writeLines(folder, 'opposed.jsonl', [
    pair('a', 'Q1', 'x', 'y'),
    pair('b', 'Q1', 'y', 'x'),
    pair('c', 'Q1', 'y', 'x'),
    // Opposed within one group; not opposed: on another prompt, to other responses.
    pair('a', 'Q2', 'x', 'y'),
    pair('a', 'Q2', 'y', 'x'),
    pair('b', 'Q3', 'y', 'x'),
    pair('b', 'Q2', 'y', 'z'),
    pair('a', 'Q4', 'x', 'y'),
    pair('b', 'Q4', 'y', 'x'),
  ]);
  const warnings = async (template?: ReadPairsOptions['template']) =>
    (await loadPairs(file, { tokenizer: () => openTokenizer('random:tiny'), template })).report.warnings;

  it('are counted in a warning, which the template ends', async () => {
    const within = expect.stringMatching(/opposed\.jsonl: 2 pairs \(on 1 prompts\) .* in their own group too/);
    const elsewhere = expect.stringMatching(/opposed\.jsonl: 5 pairs \(on 2 prompts\) .* in another group/);
    expect(await warnings()).toEqual([elsewhere, within]);
    expect(await warnings(parseTemplate('Q: {prompt}'))).toEqual([elsewhere, within]);
    expect(await warnings(imagine)).toEqual([within]);
  });
});

it('opposite labels are those of most of a group', async () => {
  const row = (group: string, preference?: number) => ({ group, prompt: 'Q', chosen: 'x', rejected: 'y', preference });
  const count = async (...rows: object[]) => {
    const file = writeLines(folder, 'soft.jsonl', rows);
    return (await loadPairs(file, { tokenizer: () => openTokenizer('random:tiny') })).report.warnings.length;
  };
  expect(await count(row('a', 0.6), row('b', 0.4))).toBe(1);
  expect(await count(row('a', 0.6), row('b', 0.5))).toBe(0);
  expect(await count(row('a', 0.4), row('b', 0.1))).toBe(0);
});

it('{prompt} alone is no template: a run with it is the run without one', () => {
  const config = (data: object) =>
    resolveConfig({
      model: 'random:tiny',
      output: 'out',
      data: { train: 'a.jsonl', ...data },
      objective: { loss: 'sft' },
      optimizer: { learningRate: 1 },
      steps: 1,
    });
  expect(config({ template: '{prompt}' })).toEqual(config({}));
  expect(config({ template: 'Q: {prompt}' }).data.template).toBe('Q: {prompt}');
});

it('the survey of the paper has one, and another decides nothing but the prompts', async () => {
  const csv = "question,selections,options\n\"Is it?\",\"{'A': [0.6, 0.4], 'B': [0.3, 0.7]}\",\"['x', 'y']\"\n";
  const survey = await parseSurvey(Buffer.from(csv), 's.csv');
  const all = (template?: ReadPairsOptions['template']) => {
    const { splits, summary } = opinionPairs(survey, { groups: ['A', 'B'], seed: 0, template });
    return { pairs: Object.values(splits).flat(), summary };
  };
  const usual = all();
  expect(usual.summary.template).toBe(paperTemplate.text);
  expect(usual.pairs[0].prompt).toBe('Opinion of people in A on: Is it?\nSelect the best response:\nA. x\nB. y');
  const plain = all(parseTemplate('{prompt}'));
  expect(plain.pairs).toEqual(
    usual.pairs.map((pair) => ({ ...pair, prompt: 'Is it?\nSelect the best response:\nA. x\nB. y' })),
  );
});
