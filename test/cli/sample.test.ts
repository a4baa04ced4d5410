import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { openTokenizer } from '../../src/data/text/tokenizer.js';
import { stopTokens } from '../../src/policy/stop-tokens.js';
import { inputError } from '../data/helpers.js';
import { temporaryFolder } from '../temporary-folder.js';
import { groupRobust } from './run.js';

const folder = temporaryFolder();
const at = (name: string) => join(folder, name);
const write = (name: string, rows: object[]) => {
  writeFileSync(at(name), rows.map((row) => JSON.stringify(row)).join('\n'));
  return at(name);
};

// Pairs that nothing can be learnt from have prompts to answer.
const rows = ['Egypt', 'Peru', 'Egypt'].map((group, i) => ({
  group,
  prompt: `Is it ${i}?`,
  chosen: 'A',
  rejected: 'A',
  weight: -1,
}));
const pairs = write('pairs.jsonl', rows);
const prompts = write(
  'prompts.jsonl',
  rows.map(({ group, prompt }) => ({ country: group, prompt })),
);

interface Line {
  line: number;
  group?: string;
  sample: number;
  prompt: string;
  response: string;
  prompt_ids: number[];
  response_ids: number[];
  logprob: number;
  tokens: number;
  finish_reason: string;
}

const model = 'random:tiny?layers=1';
const sample = (...args: string[]) => groupRobust(['sample', '--max-tokens', '5', '--quiet', ...args]);
const linesOf = (file: string) =>
  readFileSync(file, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Line);

describe('sample', () => {
  let drawn: ReturnType<typeof groupRobust>;
  let lines: Line[];
  beforeAll(() => {
    drawn = sample('--model', model, '--pairs', pairs, '--count', '2', '--out', at('answers.jsonl'));
    lines = linesOf(at('answers.jsonl'));
  });

  it('writes an answer a line, in order', () => {
    expect([drawn.stderr, drawn.status]).toEqual(['', 0]);
    expect(drawn.stdout).toMatch(/answers\.jsonl: 6 answers to 3 prompts, \d ended\n$/);
    expect(lines.map(({ line, sample: number }) => [line, number])).toEqual(
      [1, 2, 3].flatMap((line) => [0, 1].map((number) => [line, number])),
    );
    lines.forEach(({ group, prompt, response, tokens, finish_reason }, i) => {
      const row = rows[Math.floor(i / 2)];
      expect([group, prompt, finish_reason]).toEqual([row.group, row.prompt, tokens === 5 ? 'length' : 'stop']);
      expect(response).not.toContain('<eos>');
    });
    expect(new Set(lines.map(({ response }) => response)).size).toBe(6);
  });

  it('draws the same of prompts alone, for some groups, in other batches, and to stdout', () => {
    const args = ['--prompts', prompts, '--group-by', 'country', '--groups', 'Egypt', '--batch', '1'];
    const { json } = sample('--model', model, ...args, '--count', '2', '--out', '-', '--json');
    expect(json).toMatchObject({ prompts: 2, answers: 4, out: '-' });
    expect(json.samples).toEqual(lines.filter(({ group }) => group === 'Egypt'));
  });

  it('fills a template in; a row needs no group without one', () => {
    const some = write('text.jsonl', [{ prompt: 'Why?' }]);
    const args = ['--model', model, '--prompts', some, '--temperature', '0', '--out', '-'];
    const [line] = sample(...args, '--template', 'Say: {prompt}')
      .stdout.split('\n')
      .map((one) => one && JSON.parse(one));
    expect(line).toMatchObject({ line: 1, sample: 0, prompt: 'Say: Why?' });
    expect(line).not.toHaveProperty('group');
    const refused = sample(...args, '--template', '{group}: {prompt}');
    expect([refused.status, refused.stderr]).toEqual([2, expect.stringContaining('field "group": there is no such')]);
  });

  it('answers ids with ids, whose log-probs are those of logprobs, with the adapter', () => {
    const fixture = resolve('test/fixtures/gemma2-tiny');
    const policy = ['--model', fixture, '--adapter', join(fixture, 'adapter')];
    const ids = write('ids.jsonl', [{ prompt_ids: [2, 9, 33, 51, 180, 8, 14, 99] }, { prompt_ids: [2, 60] }]);
    const answers = at('ids-answers.jsonl');
    expect(sample(...policy, '--prompts', ids, '--count', '3', '--out', answers).status).toBe(0);
    const given = linesOf(answers);
    const scored = write(
      'scored.jsonl',
      given.map(({ prompt_ids, response_ids }) => ({ prompt_ids, chosen_ids: response_ids, rejected_ids: [190, 191] })),
    );
    const { json } = groupRobust(['logprobs', ...policy, '--pairs', scored, '--out', '-', '--json', '--quiet']);
    expect(given).toHaveLength(6);
    given.forEach(({ logprob, response_ids, tokens }, i) => {
      expect(response_ids).toHaveLength(tokens);
      expect(Math.abs(logprob - json.logprobs[i].chosen)).toBeLessThan(1e-5 * Math.abs(logprob));
    });
  });
});

it('answers ids with ids and text with text, each with its own stop tokens, whatever other rows are', () => {
  const ids = { prompt_ids: [2, 60] };
  const drawTo = (some: object[]) =>
    sample('--model', model, '--prompts', write('mixed.jsonl', some), '--count', '200', '--out', '-', '--json');
  const mixed = drawTo([ids, { prompt: 'Why?' }]);
  const samples: Line[] = mixed.json.samples;
  const [ofIds, ofText] = [samples.slice(0, 200), samples.slice(200)];
  expect(drawTo([ids]).json.samples).toEqual(ofIds);
  // Random models have no stop tokens, their tokenizer has EOS.
  expect(ofIds.some(({ response_ids }) => response_ids.slice(0, -1).includes(1))).toBe(true);
  expect(ofIds.every(({ finish_reason }) => finish_reason === 'length')).toBe(true);
  expect(ofText).toHaveLength(200);
  expect(ofText.some(({ finish_reason }) => finish_reason === 'stop')).toBe(true);
  expect(ofText.every(({ response }) => typeof response === 'string')).toBe(true);

  // The model has 1024 rows for the 1004 tokens of its tokenizer.
  const { vocabulary } = openTokenizer(model);
  const odd = ofText.filter(({ response_ids }) => response_ids !== undefined);
  expect(odd.length).toBeGreaterThan(0);
  for (const { response_ids, tokens } of odd) {
    expect(response_ids).toHaveLength(tokens);
    expect(Math.max(...response_ids)).toBeGreaterThanOrEqual(vocabulary);
  }
  const warning = `warning: ${odd.length} answers of 400 hold ids that the tokenizer does not know`;
  expect(mixed.stderr.split(warning)).toHaveLength(2);
});

it.each([
  [['--pairs', pairs, '--prompts', prompts], /field "--pairs": and --prompts are both given/],
  [['--pairs', pairs, '--temperature', '0', '--top-p', '0.9'], /field "--top-p": does nothing with --temperature 0/],
  [['--pairs', pairs, '--groups', 'Chad'], /has no prompt of "Chad"\n {2}fix: use "Egypt", "Peru"/],
  [['--prompts', prompts, '--groups', 'Egypt'], /field "group": there is no such column/],
])('refuses %j', (args, message) => {
  const { status, stderr } = sample('--model', model, ...args, '--out', '-');
  expect(stderr).toMatch(message);
  expect(status).toBe(2);
});

it("a checkpoint's own stop tokens are one or several, in generation_config.json before config.json", async () => {
  writeFileSync(at('config.json'), '{"text_config": {}}');
  // The default of transformers.
  expect(stopTokens(folder)).toEqual([1]);
  // As transformers 5 writes a multimodal one.
  writeFileSync(at('config.json'), '{"text_config": {"eos_token_id": 7}}');
  expect(stopTokens(folder)).toEqual([7]);
  writeFileSync(at('config.json'), '{"eos_token_id": 8, "text_config": {"eos_token_id": 7}}');
  expect(stopTokens(folder)).toEqual([8]);
  writeFileSync(at('config.json'), '{"eos_token_id": 1}');
  expect(stopTokens(folder)).toEqual([1]);
  writeFileSync(at('generation_config.json'), '{}');
  expect(stopTokens(folder)).toEqual([1]);
  writeFileSync(at('generation_config.json'), '{"eos_token_id": [1, 106]}');
  expect(stopTokens(folder)).toEqual([1, 106]);
  writeFileSync(at('generation_config.json'), '{"eos_token_id": "one"}');
  expect((await inputError(() => stopTokens(folder))).message).toMatch(/generation_config\.json, field "eos_token_id"/);
  expect(stopTokens('random:tiny')).toEqual([]);
});
