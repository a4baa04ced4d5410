import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadPairs } from '../../src/data/pairs/dataset.js';
import { type PrismSettings, prismPairs, writePrism } from '../../src/data/surveys/prism.js';
import { temporaryFolder } from '../temporary-folder.js';
import { inputError, readPairs, writeLines } from './helpers.js';

/** Invented rows of PRISM's format. */
const root = temporaryFolder();
const defaults: PrismSettings = {
  groupBy: ['location.special_region'],
  tie: 5,
  minPairs: 1,
  small: 'pool',
  perPerson: false,
  seed: 0,
};

const user = (turn: number, content: string) => ({ turn, role: 'user', content });
const model = (turn: number, content: string, score: number, if_chosen = false) => ({
  ...{ turn, role: 'model', content, score, if_chosen },
  ...{ model_name: 'm', model_provider: 'p', within_turn_id: 0 },
});
const person = (user_id: string, special_region: unknown = 'Europe') => ({
  user_id,
  age: '18-24',
  location: { special_region },
});
const conversation = (user_id: string, conversation_history: unknown, conversation_id = `c-${user_id}`) => ({
  ...{ user_id, conversation_id, conversation_type: 'unguided', conversation_history },
});

let folders = 0;
function make(people: object[], conversations: object[], settings: Partial<PrismSettings> = {}) {
  const folder = join(root, String(folders++));
  mkdirSync(folder);
  writeLines(folder, 'survey.jsonl', people);
  writeLines(folder, 'conversations.jsonl', conversations);
  return prismPairs(folder, { ...defaults, ...settings });
}
const all = ({ pairs }: Awaited<ReturnType<typeof prismPairs>>) => [...pairs.train, ...pairs.validation, ...pairs.test];
/** One turn with so many pairs of different scores. */
const talk = (pairs: 1 | 3 | 6) => [
  user(0, 'Hello?'),
  ...Array.from({ length: { 1: 2, 3: 3, 6: 4 }[pairs] }, (_, i) => model(0, `answer ${i}`, 20 * i + 1, i === 0)),
];

describe('pairs of a conversation', () => {
  const history = [
    user(0, 'Hi'),
    model(0, 'A', 50),
    model(0, 'B', 55, true),
    model(0, 'C', 56),
    user(1, 'And?'),
    model(1, 'D', 10, true),
    model(1, 'E', 90),
  ];
  const said = (role: string, content: string) => ({ role, content });

  it('are two answers of a turn beyond the tie, after the turns that went before', async () => {
    const made = await make([person('u')], [conversation('u', history)]);
    const ids = { group: 'Europe', user_id: 'u', conversation_id: 'c-u' };
    // B and A differ by 5, C and B by 1.
    expect(all(made)).toEqual([
      {
        ...ids,
        turn: 0,
        prompt: [said('user', 'Hi')],
        chosen: [said('assistant', 'C')],
        rejected: [said('assistant', 'A')],
      },
      {
        ...{ ...ids, turn: 1 },
        prompt: [said('user', 'Hi'), said('assistant', 'B'), said('user', 'And?')],
        ...{ chosen: [said('assistant', 'E')], rejected: [said('assistant', 'D')] },
      },
    ]);
    expect(made.summary.left_out).toEqual({ ties: 2, equal: 0, empty: 0 });
    expect(all(await make([person('u')], [conversation('u', history)], { tie: 0 }))).toHaveLength(4);
    await expect(make([person('u')], [conversation('u', history)], { tie: 80 })).rejects.toThrow('makes no group');
  });

  it('do not depend on the order of the messages of a turn, nor on numbers that are not whole', async () => {
    const made = await make(
      [person('u')],
      [conversation('u', [model(0, 'A', 1.5), user(0, 'Hi'), model(0, 'B', 90.25)])],
    );
    expect(all(made)).toMatchObject([{ prompt: [said('user', 'Hi')], chosen: [said('assistant', 'B')] }]);
  });

  it('leave out and count equal answers and empty texts', async () => {
    const blank = [user(0, 'Hi'), model(0, 'A', 1), model(0, ' ', 90), model(0, 'A', 50)];
    const unasked = [
      user(0, ''),
      model(0, 'A', 1, true),
      model(0, 'B', 90),
      user(1, 'x'),
      model(1, 'A', 1),
      model(1, 'B', 9),
    ];
    const conversations = [conversation('u', blank), conversation('u', unasked), conversation('u', talk(1))];
    const made = await make([person('u')], conversations);
    expect(all(made)).toHaveLength(1);
    expect(made.summary.left_out).toEqual({ ties: 0, equal: 1, empty: 4 });
  });

  it.each([
    ['no list', 'x', /conversation_history/],
    ['nothing', undefined, /conversation_history/],
    ['a score that is text', [user(0, 'a'), { ...model(0, 'b', 1), score: '5' }], /conversation_history/],
    ['a score that is too large', [user(0, 'a'), model(0, 'b', 101)], /conversation_history/],
    ['another role', [{ turn: 0, role: 'system', content: 'x' }], /conversation_history/],
    [
      'two questions in a turn',
      [user(0, 'a'), user(0, 'b'), ...talk(1).slice(1)],
      /has 2 messages of the user in turn 0/,
    ],
    ['a turn that is missing', [...talk(1), user(2, 'a')], /has 0 messages of the user in turn 1/],
    ['a negative turn', [user(-1, 'a')], /conversation_history/],
    [
      'no answer that was gone on from',
      [user(0, 'a'), model(0, 'b', 1), user(1, 'c')],
      /after turn 0, of which 0 answers are chosen/,
    ],
    [
      'two of them',
      [user(0, 'a'), model(0, 'b', 1, true), model(0, 'c', 9, true), user(1, 'c')],
      /of which 2 answers are chosen/,
    ],
  ])('are refused where the history has %s', async (_, bad, message) => {
    const rows = [conversation('u', talk(1)), conversation('u', bad)];
    const { message: text } = await inputError(() => make([person('u')], rows));
    expect(text).toContain('conversations.jsonl:2');
    expect(text).toMatch(message);
  });
});

describe('groups', () => {
  const people = ['a', 'b', 'c', 'd', 'e'].map((id, i) =>
    person(id, ['Europe', 'Europe', 'Asia', 'Africa', 'other'][i]),
  );
  const conversations = [
    conversation('a', talk(6)),
    conversation('b', talk(3)),
    conversation('c', talk(1)),
    conversation('d', talk(3)),
  ];
  const sizes = ({ summary }: Awaited<ReturnType<typeof prismPairs>>) =>
    Object.fromEntries(
      Object.entries(summary.groups).map(([name, { pairs }]) => [name, pairs.train + pairs.validation + pairs.test]),
    );

  it('are any fields of the person', async () => {
    expect(sizes(await make(people, conversations))).toEqual({ Europe: 9, Asia: 1, Africa: 3 });
    expect(sizes(await make(people, conversations, { groupBy: ['age', 'location.special_region'] }))).toMatchObject({
      'age=18-24/location.special_region=Asia': 1,
    });
    for (const field of ['conversation_type', 'user_id'])
      expect((await inputError(() => make(people, conversations, { groupBy: ['age', field] }))).location.field).toBe(
        '--group-by',
      );
  });

  it('are pooled where they are small, or left out', async () => {
    const pooled = await make(people, conversations, { minPairs: 4 });
    expect(sizes(pooled)).toEqual({ Europe: 9, other: 4 });
    expect(pooled.summary.small).toEqual({ groups: { Asia: 1, Africa: 3 }, pooled: 'other' });
    expect(new Set(all(pooled).map(({ group }) => group))).toEqual(new Set(['Europe', 'other']));
    expect(sizes(await make(people, conversations, { minPairs: 5 }))).toEqual({ Europe: 9 });
    const dropped = await make(people, conversations, { minPairs: 3, small: 'drop' });
    expect(sizes(dropped)).toEqual({ Europe: 9, Africa: 3 });
    expect(dropped.summary.small).toEqual({ groups: { Asia: 1 }, pooled: null });
    // A group that is called so already.
    const named = [...conversations, conversation('e', talk(6))];
    expect(sizes(await make(people, named, { minPairs: 4 }))).toEqual({ Europe: 9, other: 6, 'other (pooled)': 4 });
  });

  it('need a person with a value for each conversation', async () => {
    expect((await inputError(() => make([person('a', null)], [conversation('a', talk(1))]))).message).toContain(
      'survey.jsonl:1',
    );
    const missing = await inputError(() =>
      make([person('a')], [conversation('a', talk(1)), conversation('z', talk(1))]),
    );
    expect(missing.message).toMatch(/conversations\.jsonl:2, field "user_id": "z" is not in .*1 person is missing/);
    expect((await inputError(() => make([person('a'), person('a')], []))).message).toContain('more than one row');
  });
});

describe('splits', () => {
  const people = Array.from({ length: 40 }, (_, i) => person(`u${i}`, i % 2 ? 'Asia' : 'Europe'));
  const conversations = people.flatMap(({ user_id }, i) =>
    Array.from({ length: 1 + (i % 3) }, (_, n) => conversation(user_id, talk(3), `${user_id}.${n}`)),
  );

  it('are by person, 80/10/10 of each group, and by the seed', async () => {
    const { pairs, summary } = await make(people, conversations);
    const persons = Object.values(pairs).map((split) => new Set(split.map(({ user_id }) => user_id)));
    expect(persons.map(({ size }) => size)).toEqual([32, 4, 4]);
    expect(new Set(persons.flatMap((split) => [...split])).size).toBe(40);
    expect(summary).toMatchObject({ people: 40, conversations: conversations.length });
    expect(Object.values(summary.groups).map(({ people }) => people)).toEqual([20, 20]);
    expect((await make(people, conversations)).pairs).toEqual(pairs);
    expect((await make(people, conversations, { seed: 1 })).pairs).not.toEqual(pairs);
  });

  it('weigh every person the same with --per-person', async () => {
    for (const pairs of Object.values((await make(people, conversations, { perPerson: true })).pairs)) {
      const sums = new Map<string, number>();
      for (const { user_id, weight = 0 } of pairs) sums.set(user_id, (sums.get(user_id) ?? 0) + weight);
      for (const sum of sums.values()) expect(sum).toBeCloseTo(1, 12);
    }
  });

  it('are files of pairs, as they are read', async () => {
    const folder = join(root, 'written');
    const made = await make(people, conversations, { perPerson: true });
    writePrism(folder, made);
    const records = [];
    for await (const record of readPairs(join(folder, 'train.jsonl'))) records.push(record);
    expect(records).toHaveLength(made.pairs.train.length);
    expect(records[0]).toMatchObject({
      kind: 'chat',
      groups: [made.pairs.train[0].group],
      prompt: made.pairs.train[0].prompt,
    });
    expect(JSON.parse(readFileSync(join(folder, 'summary.json'), 'utf8'))).toEqual(made.summary);
    await expect(loadPairs(join(folder, 'train.jsonl'))).rejects.toThrow('no tokenizer');
  });
});
