import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { loadPairs } from '../../src/data/pairs/dataset.js';
import { People } from '../../src/data/pairs/people.js';
import { loadPrompts } from '../../src/data/pairs/prompts.js';
import { temporaryFolder } from '../temporary-folder.js';
import { inputError, writeLines } from './helpers.js';

const folder = temporaryFolder();
/** The same people as pandas writes them: see make.py beside them. */
const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/preferences/${name}`, import.meta.url));
const pair = { prompt_ids: [2], chosen_ids: [3], rejected_ids: [4] };

/** The group of each pair of these people. */
async function groupsOf(
  people: { file: string; key: string },
  groupBy: string[],
  rows: object[],
  name = 'pairs.jsonl',
) {
  const file = writeLines(
    folder,
    name,
    rows.map((row) => ({ ...pair, ...row })),
  );
  const { groups, pairs } = await loadPairs(file, { groupBy, people: await People.read(people, groupBy) });
  return pairs.map(({ group }) => groups[group]);
}

describe.each(['people.jsonl', 'people.csv', 'people.parquet'])('%s', (name) => {
  const people = { file: fixture(name), key: 'id' };
  const rows = [{ id: 12 }, { id: 7, sex: 'f' }, { id: '8' }, { id: 7 }];

  it.each([
    ['age', ['18-24', '18-24', '65+', '18-24']],
    ['location.region', ['Asia', 'Africa', 'Europe', 'Africa']],
  ])('its %s groups pairs', async (field, groups) => {
    expect(await groupsOf(people, [field], rows)).toEqual(groups);
  });

  it('its fields are crossed with one another, with columns of the pairs and with the person', async () => {
    const rows = [
      { id: 7, sex: 'f' },
      { id: 8, sex: 'm' },
    ];
    expect(await groupsOf(people, ['age', 'sex', 'id'], rows)).toEqual(['age=18-24/sex=f/id=7', 'age=65+/sex=m/id=8']);
  });

  it('a field that somebody has not is an error that names their row', async () => {
    const field = 'location.birth.country';
    expect(await groupsOf(people, [field], [{ id: 12 }, { id: 7 }])).toEqual(['Japan', 'Kenya']);
    const { location, message } = await inputError(() => groupsOf(people, [field], [{ id: 7 }, { id: 8 }]));
    const place = name.endsWith('parquet') ? { row: 2 } : { line: name.endsWith('csv') ? 3 : 2 };
    expect(location).toEqual({ file: people.file, field, ...place });
    expect(message).toContain('expected the name of a group');
  });

  it('reads no files of pairs that name somebody else, and counts them', async () => {
    const rows = [{ id: 12 }, { id: 1 }, { id: 8 }, { id: 'x' }, { id: 1 }];
    const { location, problem } = await inputError(() => groupsOf(people, ['age'], rows));
    expect(location).toMatchObject({ line: 2, field: 'id' });
    expect(problem).toBe(
      `"1" is not in ${people.file}, which has 3 people; 2 people are missing there, who made 3 of 5 pairs here`,
    );
  });
});

describe('a table of people', () => {
  const write = (rows: object[]) => ({ file: writeLines(folder, 'people.jsonl', rows), key: 'id' });

  it('has each of them once', async () => {
    const people = write([
      { id: 'a', age: 1 },
      { id: 'b' },
      { id: 'a', age: 1 },
      { id: 'b' },
      { id: 'a' },
      { id: 'c' },
    ]);
    const { location, problem } = await inputError(() => People.read(people, ['age']));
    expect(location).toEqual({ file: people.file, line: 3, field: 'id' });
    expect(problem).toBe('"a" stands there already, on line 1; 2 people have more than one row, of 3');
  });

  it.each([
    [[], /holds no person/],
    [[{ who: 'a' }], /field "id": there is no such column.*who/s],
    [[{ id: ' ', age: 1 }], /:1, field "id": expected the name or number of a person, found " "/],
    [[{ id: { a: 1 }, age: 1 }], /:1, field "id": expected the name/],
    [[{ id: 'a', sex: 1, place: { town: 'x' } }], /does nothing: pairs are grouped by age.*\(sex, place\.town\)/s],
    [[{ id: 'a' }], /it has none/],
  ])('is refused where it is %j', async (rows, message) => {
    const error = await inputError(() => People.read(write(rows), ['age']));
    expect(error.message).toMatch(message);
  });

  it('finds no field in what every object has', async () => {
    const people = write([{ id: 'a' }]);
    for (const name of ['constructor', '__proto__', 'constructor.name', 'id.length'])
      expect((await inputError(() => People.read(people, [name]))).message).toContain('does nothing');
  });

  it('prefers a column whose name has dots to what is inside another', async () => {
    const people = write([{ id: 1, 'a.b': 'dots', a: { b: 'inner', 'c.d': 'both' }, 'a.x': {} }]);
    expect(await groupsOf(people, ['a.b', 'a.c.d'], [{ id: 1 }])).toEqual(['a.b=dots/a.c.d=both']);
  });

  it('takes the person for a name, and never the name of another', async () => {
    const people = write([
      { id: '1', age: 'one' },
      { id: '01', age: 'two' },
      { id: '__proto__', age: 'three' },
      { id: true, age: 'four' },
    ]);
    const rows = [{ id: '01' }, { id: 1 }, { id: '__proto__' }, { id: 'true' }];
    expect(await groupsOf(people, ['age'], rows)).toEqual(['two', 'one', 'three', 'four']);
  });
});

describe('pairs of people', () => {
  const people = {
    file: writeLines(folder, 'two.jsonl', [
      { id: 'a', age: 1, weight: 5 },
      { id: 'b', age: 2 },
    ]),
    key: 'id',
  };

  it.each([
    [{ id: 'a', age: 3 }, /field "age": is a column of the pairs and of .*two\.jsonl/],
    [{ who: 'a' }, /field "id": there is no such column.*who/s],
    [{ id: null }, /field "id": expected the name or number of a person, found null/],
    [{ id: 'a\n'.repeat(50) }, /"a\\na\\n[^\n]*…" is not in .*; 1 person is missing there, who made 1 of 1 pair here/],
  ])('%j is refused', async (row, message) => {
    expect((await inputError(() => groupsOf(people, ['age'], [row]))).message).toMatch(message);
  });

  it('a column that neither has is an error with the names of both', async () => {
    const { message } = await inputError(() => groupsOf(people, ['age', 'sex'], [{ id: 'a', town: 'x' }]));
    expect(message).toMatch(/field "sex": there is no such column.*\(id, age, weight\) \(columns here: .*town/s);
  });

  it('take nothing else from them: a field called weight weighs no pair', async () => {
    const file = writeLines(folder, 'unweighted.jsonl', [
      { ...pair, id: 'a' },
      { ...pair, id: 'b', rejected_ids: [5] },
    ]);
    const read = await loadPairs(file, { groupBy: ['age'], people: await People.read(people, ['age', 'weight']) });
    expect(read.pairs.map(({ weight }) => weight)).toEqual([1, 1]);
  });

  it('are grouped where only prompts are read', async () => {
    const file = writeLines(folder, 'prompts.jsonl', [{ id: 'b', prompt_ids: [2] }]);
    const options = { groupBy: ['age'], groupOptional: true, people: await People.read(people, ['age']) };
    const { prompts } = await loadPrompts(file, { ...options, tokenizer: () => expect.fail() });
    expect(prompts.map(({ groups }) => groups)).toEqual([['2']]);
  });
});
