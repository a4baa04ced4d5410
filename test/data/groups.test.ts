import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cellsOf, loadPairs } from '../../src/data/pairs/dataset.js';
import { datasetDigest } from '../../src/data/pairs/digest.js';
import { People } from '../../src/data/pairs/people.js';
import { parseTemplate } from '../../src/data/pairs/prompt-template.js';
import { openTokenizer } from '../../src/data/text/tokenizer.js';
import { temporaryFolder } from '../temporary-folder.js';
import { inputError, readPairs, writeLines } from './helpers.js';

/** Pairs that are of several groups: `groupBy: { overlap }`, and lists in the column. */
const folder = temporaryFolder();
const ids = { prompt_ids: [2, 5], chosen_ids: [3], rejected_ids: [4] };
const write = (rows: object[], name = 'pairs.jsonl') =>
  writeLines(
    folder,
    name,
    rows.map((row) => ({ ...ids, ...row })),
  );

describe('groups that overlap', () => {
  const rows = [
    { country: 'Peru', sex: 'f', weight: 1 },
    { country: 'Chad', sex: 'f', weight: 3 },
    { country: 'Peru', sex: 'm', weight: 2 },
    { country: 'Peru', sex: 'f', weight: 2 },
  ];

  it('are the values of each column, named as those of combinations are; each counts its members', async () => {
    const data = await loadPairs(write(rows), { groupBy: { overlap: ['country', 'sex'] } });
    expect(data.groups).toEqual(['country=Peru', 'sex=f', 'country=Chad', 'sex=m']);
    expect(data.counts).toEqual([3, 3, 1, 1]);
    expect(data.pairs.map(({ group }) => cellsOf(data)[group].map((g) => data.groups[g]))).toEqual([
      ['country=Peru', 'sex=f'],
      ['sex=f', 'country=Chad'],
      ['country=Peru', 'sex=m'],
      ['country=Peru', 'sex=f'],
    ]);
    // No scale makes the mean 1 in every group: it is 1 over all pairs.
    expect(data.pairs.map(({ weight }) => weight)).toEqual([0.5, 1.5, 1, 1]);
  });

  it('are the names of a list in the column, beside rows with one name', async () => {
    const file = write([{ group: ['b', 'a'] }, { group: 'a' }, { group: ['a', 'b'] }, { group: [7] }]);
    const data = await loadPairs(file);
    expect([data.groups, data.counts]).toEqual([
      ['b', 'a', '7'],
      [2, 3, 1],
    ]);
    expect(data.cells).toEqual([[0, 1], [1], [2]]);
    expect(data.pairs.map(({ group }) => group)).toEqual([0, 1, 0, 2]);
    const ordered = await loadPairs(file, { groups: ['7', 'a', 'b'] });
    expect(ordered.cells).toEqual([[1, 2], [1], [0]]);
  });

  it('may be lists in some columns and names in others', async () => {
    const overlap = { groupBy: { overlap: ['country', 'tags'] } };
    const file = write([
      { country: 'Peru', tags: ['x', 'y'] },
      { country: 'Chad', tags: [] },
    ]);
    const { groups, cells } = await loadPairs(file, overlap);
    expect(groups).toEqual(['country=Peru', 'tags=x', 'tags=y', 'country=Chad']);
    expect(cells).toEqual([[0, 1, 2], [3]]);
  });

  it('come of CSV as lists of quoted names, in JSON’s or Python’s notation; other brackets are names', async () => {
    const file = writeLines(folder, 'pairs.csv', [
      'group,prompt,chosen,rejected',
      `"[""a"", ""b""]",p,x,y`,
      `"['b', 'c d']",p,x,y`,
      '"[18, 25]",p,x,y',
    ]);
    const read = [];
    for await (const { groups } of readPairs(file)) read.push(groups);
    expect(read).toEqual([['a', 'b'], ['b', 'c d'], ['[18, 25]']]);
  });

  it('may be fields of the people, of CSV too', async () => {
    const people = writeLines(folder, 'people.csv', ['who,tags,sex', `u,"['x', 'y']",f`, 'v,z,f']);
    const options = { people: await People.read({ file: people, key: 'who' }, ['tags', 'sex']) };
    const file = write([{ who: 'u' }, { who: 'v' }]);
    const { groups, counts } = await loadPairs(file, { ...options, groupBy: { overlap: ['tags', 'sex'] } });
    expect([groups, counts]).toEqual([
      ['tags=x', 'tags=y', 'sex=f', 'tags=z'],
      [1, 1, 2, 1],
    ]);
  });

  it('make the prompts that combinations make', async () => {
    const template = parseTemplate('{group}: {prompt}');
    const file = writeLines(folder, 'texts.jsonl', [
      { country: 'Peru', sex: 'f', prompt: 'Q\n', chosen: 'x', rejected: 'y' },
      { country: 'Peru', sex: 'm', prompt: 'Q\n', chosen: 'x', rejected: 'y' },
    ]);
    const columns = ['country', 'sex'];
    const prompts = async (groupBy: { overlap: string[] } | string[]) => {
      const read = [];
      for await (const record of readPairs(file, { groupBy, template })) read.push(record.prompt);
      return read;
    };
    expect(await prompts({ overlap: columns })).toEqual(await prompts(columns));
    expect((await prompts(columns))[0]).toBe('country=Peru/sex=f: Q\n');
  });

  it('are the same data in every way where none overlaps', async () => {
    const file = write([
      { group: 'b', weight: 3 },
      { group: 'a', weight: 1 },
      { group: ['b'], weight: 0.3 },
    ]);
    for (const groups of [undefined, ['a', 'b', 'c']]) {
      const plain = await loadPairs(
        write([{ group: 'b', weight: 3 }, { group: 'a' }, { group: 'b', weight: 0.3 }], 'plain.jsonl'),
        { groups },
      );
      for (const groupBy of [undefined, { overlap: ['group'] }]) {
        const data = await loadPairs(file, { groups, groupBy });
        expect(data.cells).toBeUndefined();
        expect(datasetDigest(data)).toBe(datasetDigest(plain));
        expect(data.counts).toEqual(plain.counts);
      }
    }
  });

  it('do not overlap where the pairs of several are left out', async () => {
    const same = { ...ids, rejected_ids: ids.chosen_ids };
    const rows = [{ group: ['a', 'b'], ...same }, { group: 'b', weight: 5 }, { group: 'a' }];
    const { cells, pairs, counts } = await loadPairs(write(rows), { unusable: 'drop' });
    expect([cells, counts]).toEqual([undefined, [1, 1]]);
    expect(pairs.map(({ group, weight }) => [group, weight])).toEqual([
      [1, 1],
      [0, 1],
    ]);
  });

  it('tell two data sets apart that differ in memberships alone', async () => {
    const digests = await Promise.all(
      [
        [{ group: ['a', 'b'] }, { group: ['a'] }, { group: ['b'] }],
        [{ group: ['a', 'b'] }, { group: ['b'] }, { group: ['a'] }],
      ].map(async (rows, i) => datasetDigest(await loadPairs(write(rows, `digest-${i}.jsonl`)))),
    );
    expect(digests[0]).not.toBe(digests[1]);
  });

  it('are read as brute force has it, whatever the memberships', async () => {
    const names = ['a', 'b', 'c', 'd'];
    const row = fc.record({
      group: fc.shuffledSubarray(names, { minLength: 1 }),
      weight: fc.integer({ min: 1, max: 4 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(row, { minLength: 1, maxLength: 12 }), async (rows) => {
        const data = await loadPairs(write(rows, 'random.jsonl'));
        expect(data.groups).toEqual([...new Set(rows.flatMap(({ group }) => group))]);
        for (const [g, name] of data.groups.entries())
          expect(data.counts[g]).toBe(rows.filter(({ group }) => group.includes(name)).length);
        for (const [i, { group }] of data.pairs.entries())
          expect(new Set(cellsOf(data)[group].map((g) => data.groups[g]))).toEqual(new Set(rows[i].group));
        if (data.cells === undefined) return;
        const mean = rows.reduce((sum, { weight }) => sum + weight, 0) / rows.length;
        for (const [i, { weight }] of data.pairs.entries()) expect(weight).toBeCloseTo(rows[i].weight / mean, 12);
      }),
      { numRuns: 40 },
    );
  });

  it.each([
    ['an empty list', [{ group: 'a' }, { group: [] }], {}, ':2, field "group": names no group'],
    [
      'no name in any column',
      [{ tags: [], more: [] }],
      { groupBy: { overlap: ['tags', 'more'] } },
      ':1, field "tags, more": names no group',
    ],
    ['a name twice', [{ group: ['a', 'b', 'a'] }], {}, ':1, field "group": names "a" twice'],
    [
      'a list within',
      [{ group: 'a' }, { group: ['a', ['b']] }],
      {},
      ':2, field "group": entry 1 is ["b"], not the name of a group',
    ],
    [
      'a list beside another column',
      [{ group: ['a', 'b'], sex: 'f' }],
      { groupBy: ['group', 'sex'] },
      /:1, field "group": is a list, .*overlap: \[group, sex\]/s,
    ],
    [
      'a column that is not there',
      [{ group: 'a' }],
      { groupBy: { overlap: ['group', 'sex'] } },
      ':1, field "sex": there is no such column',
    ],
    [
      'a group that is not known',
      [{ group: ['a', 'z'] }],
      { groups: ['a'] },
      ':1, field "group": "z" is not one of the groups',
    ],
    [
      'weights of 0 in one group',
      [{ group: ['a', 'b'], weight: 0 }, { group: 'a' }],
      {},
      'all weights of group "b" are 0',
    ],
  ])('are refused with %s', async (_, rows, options, message) => {
    expect((await inputError(() => loadPairs(write(rows), options))).message).toMatch(message);
  });

  it('are refused where a list of CSV cannot be read', async () => {
    const file = writeLines(folder, 'broken.csv', [
      'group,prompt_ids,chosen_ids,rejected_ids',
      `"[""a"", b",[2],[3],[4]`,
    ]);
    expect((await inputError(() => loadPairs(file))).message).toContain(':2, field "group": is not a list of names');
  });

  it('have no survey: shares are the answers of one group', async () => {
    const pair = { prompt: 'Is it?\n', chosen: 'A', rejected: 'B', shares: [0.7, 0.3] };
    const file = writeLines(folder, 'survey.jsonl', [
      { ...pair, group: ['a', 'b'] },
      { ...pair, group: 'a' },
    ]);
    const tokenizer = () => openTokenizer('random:tiny');
    const { message } = await inputError(() => loadPairs(file, { tokenizer, survey: 'required' }));
    expect(message).toContain(':1, field "shares": are the answers of one group, and the pair is of several');
    const { questions, report } = await loadPairs(file, { tokenizer, survey: 'optional' });
    expect(questions).toBeUndefined();
    expect(report.warnings.join()).toContain('are not scored');
  });
});
