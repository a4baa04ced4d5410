import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { openTokenizer } from '../../src/data/text/tokenizer.js';
import { temporaryFolder } from '../temporary-folder.js';
import { groupRobust } from './run.js';

/** `data prism` of files, and its pairs, which are conversations, through `train` and `eval`. All rows are invented. */
const folder = temporaryFolder();
const at = (...names: string[]) => join(folder, ...names);
const lines = (file: string) =>
  readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));

const user = (turn: number, content: string) => ({ turn, role: 'user', content });
const model = (turn: number, content: string, score: number, if_chosen = false) => ({
  ...{ turn, role: 'model', content, score, if_chosen },
  ...{ model_name: 'm', model_provider: 'p', within_turn_id: 0 },
});
const regions = [...Array(10).fill('Europe'), ...Array(10).fill('Asia'), 'Africa', 'Oceania'];
const people = regions.map((special_region, i) => ({
  user_id: `user${i}`,
  age: '18-24 years old',
  location: { special_region, birth_country: 'x' },
}));
/** Scores of the three answers of the first turn: two of them are near each other. */
const scores = (i: number) => [10 + i, 20 + i, 90];
const history = (i: number, n: number) => [
  user(0, `Is it ${i}?`),
  ...scores(i).map((score, k) => model(0, `${'ABC'[k]}${n}`, score, k === 2)),
  user(1, 'Why?'),
  model(1, 'so', 30, true),
  model(1, 'no', 60),
];
const conversations = people.flatMap(({ user_id }, i) =>
  Array.from({ length: 1 + (i % 2) }, (_, n) => ({
    ...{ conversation_id: `c${i}.${n}`, user_id, conversation_type: 'unguided', conversation_turns: 2 },
    conversation_history: history(i, n),
  })),
);

let folders = 0;
function prismFolder(of: { people?: unknown[]; conversations?: unknown[] } = {}): string {
  const path = at(`prism-${folders++}`);
  mkdirSync(path);
  const write = (name: string, rows: unknown[]) =>
    writeFileSync(
      join(path, name),
      rows.map((row) => `${typeof row === 'string' ? row : JSON.stringify(row)}\n`).join(''),
    );
  write('survey.jsonl', of.people ?? people);
  write('conversations.jsonl', of.conversations ?? conversations);
  return path;
}
const prism = (from: string, out: string, ...more: string[]) =>
  groupRobust(['data', 'prism', '--from', from, '--group-by', 'location.special_region', '--out', out, ...more]);
const splits = ['train', 'validation', 'test'] as const;
const pairsIn = (out: string) => splits.map((split) => lines(join(out, `${split}.jsonl`)));

describe('group-robust data prism', () => {
  const from = prismFolder();

  it('makes every two answers beyond the tie a pair, pools small groups, and weighs by person', () => {
    const out = at('pooled');
    const { status, json, stderr } = prism(from, out, '--tie', '10', '--min-pairs', '7', '--per-person', '--json');
    expect(status, stderr).toBe(0);
    // Of 10 + i, 20 + i and 90 the first two are a tie, and 20 + i and 90 from i = 60 on.
    const pairsOf = (i: number) => 3 * (1 + (i % 2));
    const made = pairsIn(out);
    const bySplit = made.map((pairs) => new Set(pairs.map(({ user_id }) => user_id)));
    expect(bySplit.reduce((sum, { size }) => sum + size, 0)).toBe(22);
    expect(new Set(bySplit.flatMap((users) => [...users])).size).toBe(22);
    for (const [i, { user_id, location }] of people.entries()) {
      const own = made.flat().filter((pair) => pair.user_id === user_id);
      expect(own).toHaveLength(pairsOf(i));
      const region = location.special_region;
      for (const { group, weight } of own) {
        expect(weight).toBeCloseTo(1 / pairsOf(i), 12);
        expect(group).toBe(i < 20 ? region : 'other');
      }
    }
    const said = (role: string, content: string) => ({ role, content });
    expect(made.flat().filter(({ conversation_id }) => conversation_id === 'c3.1')).toMatchObject([
      { prompt: [said('user', 'Is it 3?')], chosen: [said('assistant', 'C1')], rejected: [said('assistant', 'A1')] },
      { turn: 0, chosen: [said('assistant', 'C1')], rejected: [said('assistant', 'B1')] },
      {
        turn: 1,
        prompt: [said('user', 'Is it 3?'), said('assistant', 'C1'), said('user', 'Why?')],
        ...{ chosen: [said('assistant', 'no')], rejected: [said('assistant', 'so')] },
      },
    ]);
    expect(json).toMatchObject({ out, people: 22, conversations: 33, left_out: { ties: 33, equal: 0, empty: 0 } });
    expect(json.small).toEqual({ groups: { Africa: 3, Oceania: 6 }, pooled: 'other' });
    expect(json.groups.Europe).toEqual({ people: 10, pairs: expect.anything() });
    expect(Object.values(json.groups.Asia.pairs)).toEqual(
      made.map((pairs) => pairs.filter(({ group }) => group === 'Asia').length),
    );
    const { out: _, ...summary } = json;
    expect(JSON.parse(readFileSync(join(out, 'summary.json'), 'utf8'))).toEqual(summary);
  });

  it('leaves small groups out with --small drop, and tells of all', () => {
    const out = at('dropped');
    const { status, stdout } = prism(from, out, '--min-pairs', '9', '--small', 'drop', '--seed', '1');
    expect(status).toBe(0);
    expect(new Set(pairsIn(out).flatMap((pairs) => pairs.map(({ group }) => group)))).toEqual(
      new Set(['Europe', 'Asia']),
    );
    expect(stdout).toMatch(/^Europe: 10 people -> \d+ train, \d+ validation, \d+ test pairs$/m);
    expect(stdout).toMatch(/^Oceania: \d pairs, left out$/m);
    expect(stdout).toContain(`no pairs: 0 ties, 0 equal, 0 empty -> ${out} (seed 1)`);
  });

  const bad = (change: object) => [{ ...conversations[0], ...change }];
  it.each<[string, Parameters<typeof prismFolder>[0], RegExp, ...string[]]>([
    ['text that is no JSON', { conversations: [conversations[0], '{"user_id": '] }, /conversations\.jsonl:2: /],
    [
      'half a character',
      { conversations: bad({ conversation_history: [user(0, 'a'), model(0, '\ud83d', 1)] }) },
      /:1, field "conversation_history\[1\]\.content": contains half of a character/,
    ],
    ['a person without the field', { people: people.map((one) => ({ ...one, location: {} })) }, /special_region/],
    ['no person', { people: [] }, /survey\.jsonl: holds no person/],
    [
      'a person who is not there',
      { conversations: bad({ user_id: 'ghost' }) },
      /:1, field "user_id": "ghost" is not in/,
    ],
    ['a name that is a list', { conversations: bad({ user_id: ['user0'] }) }, /field "user_id": expected the name/],
    [
      'a history that is text',
      { conversations: bad({ conversation_history: 'x' }) },
      /:1, field "conversation_history/,
    ],
    [
      'a score of 1e9',
      { conversations: bad({ conversation_history: [user(0, 'a'), model(0, 'b', 1e9)] }) },
      /:1, field "conversation_history\[1\]\.score"/,
    ],
    [
      'a turn that nobody asked',
      { conversations: bad({ conversation_history: [model(0, 'b', 1), model(0, 'c', 9)] }) },
      /:1, field "conversation_history": has 0 messages of the user in turn 0/,
    ],
    ['nothing but ties', {}, /makes no group of 1 pairs or more/, '--tie', '100'],
    ['a small that nothing is', {}, /"--small": does nothing without --min-pairs/, '--small', 'drop'],
  ])('refuses %s, and leaves nothing, nor anything else of what was there', (_, rows, message, ...more) => {
    const path = prismFolder(rows);
    const out = join(path, 'out');
    const before = readdirSync(path);
    const { status, stderr } = prism(path, out, ...more);
    expect(stderr).toMatch(message);
    expect(status).toBe(2);
    expect(readdirSync(path)).toEqual(before);
  });

  it('leaves what is to be replaced as it was where there is an error', () => {
    const path = prismFolder({ conversations: [...conversations, '[]'] });
    const out = at('kept');
    expect(prism(from, out).status).toBe(0);
    const read = () =>
      [...splits.map((split) => `${split}.jsonl`), 'summary.json'].map((name) => readFileSync(join(out, name)));
    const before = read();
    expect(prism(path, out, '--force').status).toBe(2);
    expect(read()).toEqual(before);
    expect(existsSync(at('none'))).toBe(false);
    expect(prism(at('none'), at('nowhere')).stderr).toContain('none');
    expect(existsSync(at('nowhere'))).toBe(false);
  });
});

it('its pairs are trained on and evaluated through a chat template, people as wholes', () => {
  const out = at('pairs');
  expect(prism(prismFolder(), out, '--min-pairs', '7', '--per-person').status).toBe(0);
  const tokenizer = at('tokenizer');
  mkdirSync(tokenizer);
  copyFileSync(
    fileURLToPath(new URL('../../src/data/text/tiny-tokenizer.json', import.meta.url)),
    join(tokenizer, 'tokenizer.json'),
  );
  writeFileSync(
    join(tokenizer, 'chat_template.jinja'),
    '{% for message in messages %}{{ message.role }}:\n{{ message.content }}\n{% endfor %}' +
      '{% if add_generation_prompt %}assistant:\n{% endif %}',
  );
  const [train, validation, test] = splits.map((split) => join(out, `${split}.jsonl`));
  const config = {
    ...{ model: 'random:tiny?layers=1', tokenizer, output: at('run'), device: 'cpu', threads: 1, steps: 3 },
    data: { train, validation, test, template: 'From {group}: {prompt}' },
    objective: { loss: 'ipo', beta: 0.1, weights: 'mirror-ascent', step: 0.1 },
    lora: { rank: 2 },
  };
  writeFileSync(at('config.yaml'), stringify(config));
  const trained = groupRobust(['train', at('config.yaml'), '--quiet', '--json']);
  expect(trained.status, trained.stderr).toBe(0);
  const { json, status, stderr } = evaluate(test, '--tokenizer', tokenizer, '--cluster', 'user_id');
  expect(status, stderr).toBe(0);
  const pairs = lines(test);
  expect(json.mean).toEqual(trained.json.test.mean);
  expect(json.clusters).toMatchObject({ count: new Set(pairs.map(({ user_id }) => user_id)).size, crossing: false });
  const counts = Object.entries(json.groups).map(([name, of]) => [name, (of as { count: number }).count]);
  expect(new Map(counts as [string, number][])).toEqual(
    new Map(['Europe', 'Asia'].map((name) => [name, pairs.filter(({ group }) => group === name).length])),
  );

  // The same turns written out by hand, as tokens.
  const { encode, bos } = openTokenizer('random:tiny');
  const turn = ({ role, content }: { role: string; content: string }) => `${role}:\n${content}\n`;
  const byHand = pairs.map(({ prompt: [first, ...more], chosen, rejected, group, weight, user_id }) => {
    const prompt = [{ ...first, content: `From ${group}: ${first.content}` }, ...more].map(turn).join('');
    const prompt_ids = encode(`${prompt}assistant:\n`);
    const ids = ([{ content }]: { content: string }[]) =>
      encode(`${prompt}assistant:\n${content}\n`).slice(prompt_ids.length);
    return {
      ...{ group, weight, user_id, prompt_ids: [bos, ...prompt_ids] },
      ...{ chosen_ids: ids(chosen), rejected_ids: ids(rejected) },
    };
  });
  writeFileSync(at('by-hand.jsonl'), byHand.map((row) => JSON.stringify(row)).join('\n'));
  const ofTokens = evaluate(at('by-hand.jsonl'), '--template', '{prompt}', '--cluster', 'user_id').json;
  expect({ ...ofTokens, template: json.template }).toEqual(json);
});

function evaluate(pairs: string, ...more: string[]) {
  const of = ['eval', '--model', 'random:tiny?layers=1', '--adapter', at('run', 'adapter'), '--pairs', pairs];
  return groupRobust([...of, '--objective', 'ipo,beta=0.1', '--threads', '1', '--quiet', '--json', ...more]);
}
