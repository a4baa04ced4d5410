import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { opinionPrompt, parseSurvey, readSurvey } from '../../src/data/surveys/global-opinions.js';
import { type OpinionOptions, opinionPairs, splitIndices } from '../../src/data/surveys/opinion-pairs.js';
import { worldRegions } from '../../src/data/surveys/world-regions.js';
import { editDistance, nearMatches } from '../../src/data/tables/near-matches.js';
import { pythonRepr } from '../../src/data/tables/python-literal.js';
import { InputError } from '../../src/errors.js';
import { Random } from '../../src/numbers/random.js';
import { inputError } from './helpers.js';

const HEADER = 'question,selections,options,source\n';
const quote = (text: string) => `"${text.replaceAll('"', '""')}"`;
const selectionsText = (shares: Record<string, number[]>) =>
  `defaultdict(<class 'list'>, ${pythonRepr(new Map(Object.entries(shares)))})`;
const row = (question: string, shares: Record<string, number[]>, options: string[]) =>
  `${[question, selectionsText(shares), pythonRepr(options), 'GAS'].map(quote).join(',')}\n`;
const survey = (...rows: string[]) => parseSurvey(Buffer.from(HEADER + rows.join('')), 'f.csv');
const pairsOf = (file: Awaited<ReturnType<typeof survey>>, options: Partial<OpinionOptions> = {}) =>
  opinionPairs(file, { groups: ['X'], seed: 1, ...options });
const all = ({ splits }: ReturnType<typeof opinionPairs>) => [...splits.train, ...splits.validation, ...splits.test];

/** Many questions for X, with a clear winner at a place that depends on the question. */
const many = (count: number, options: number) =>
  survey(
    ...Array.from({ length: count }, (_, q) => {
      const shares = Array.from({ length: options }, (_, i) => (i === q % options ? 0.5 : 0.5 / (options - 1)));
      return row(
        `Question ${q}?`,
        { X: shares, Y: shares },
        Array.from({ length: options }, (_, i) => `option ${i}`),
      );
    }),
  );

describe('reading', () => {
  it('reads quotes, apostrophes, commas and line breaks, and knows the line of each row', async () => {
    const file = await survey(
      row('First, "really"?\n\nCan\'t say', { "Côte d'Ivoire": [0.25, 0.75] }, ["Don't know", 'A, "b"']),
      row('Second?', { X: [1, 0] }, ['a', 'b']),
    );
    expect(file.questions.map(({ row, line, question, options }) => ({ row, line, question, options }))).toEqual([
      { row: 0, line: 2, question: 'First, "really"?\n\nCan\'t say', options: ["Don't know", 'A, "b"'] },
      { row: 1, line: 5, question: 'Second?', options: ['a', 'b'] },
    ]);
    expect(file.questions[0].selections.get("Côte d'Ivoire")).toEqual([0.25, 0.75]);
  });

  it('knows lines also where they end in \\r\\n, and skips a byte-order mark and blank lines', async () => {
    const text = `\ufeff${HEADER}\n${row('a\nb', { X: [1, 0] }, ['a', 'b'])}\n${row('c', { X: [1, 0] }, ['a', 'b'])}`;
    for (const ending of ['\n', '\r\n']) {
      const { questions, rows } = await parseSurvey(Buffer.from(text.replaceAll('\n', ending)), 'f.csv');
      expect([rows, questions.map(({ row, line }) => [row, line])]).toEqual([
        2,
        [
          [0, 3],
          [1, 6],
        ],
      ]);
    }
  });

  it('collects bad rows by line and field, and goes on', async () => {
    const file = await survey(
      `"q1","defaultdict(<class 'list'>, {'X': [0.5, 0.5]","['a', 'b']",GAS\n`,
      `"q\n2","{}","['a', 'b'",GAS\n`,
      row('q3', { X: [1, 0] }, ['a', 'b']),
      'q4,{}\n',
      `"q5","{'X': 1}","['a']",GAS\n`,
      `"q6","{}","[None]",GAS\n`,
      '"q7","{}","[]",GAS,extra\n',
    );
    expect(file.bad.map(({ line, field }) => [line, field])).toEqual([
      [2, 'selections'],
      [3, 'options'],
      [6, 'options'],
      [7, 'selections'],
      [8, 'options'],
      [9, undefined],
    ]);
    expect(file.bad[0].problem).toContain('at character 45');
    expect(file.questions.map(({ row }) => row)).toEqual([2]);
    expect(file.rows).toBe(7);
  });

  it.each([
    ['another header', 'question,answers\nq,a\n', 'no column "selections" and no column "options"'],
    ['an empty file', '', 'holds no question'],
    ['a header alone', HEADER, 'holds no question'],
    ['semicolons', `${HEADER}"q","{}","[]",GAS\n`.replaceAll(',', ';'), 'has its columns separated by semicolons'],
    ['tabs, and quotes', '"question"\t"selections"\t"options"\n', 'has its columns separated by tabs'],
    ['a quote that never closes', `${HEADER}"q,{},[],GAS\n`, 'fix: separate values with commas'],
    ['a quote inside a field', `${HEADER}q"x"y,{},[],GAS\n`, 'is not CSV'],
  ])('refuses %s', async (_, text, problem) => {
    const error = await inputError(() => parseSurvey(Buffer.from(text), 'f.csv'));
    expect(error.message).toContain(problem);
    expect(error.location.file).toBe('f.csv');
    if (text.startsWith('question,answers')) expect(error.location.line).toBe(1);
  });

  it('refuses bytes that are not UTF-8, and a missing file', async () => {
    await inputError(() => parseSurvey(Buffer.concat([Buffer.from(HEADER), Buffer.from([0xff])]), 'f.csv'));
    expect((await inputError(() => readSurvey('/nowhere.csv'))).message).toContain('/nowhere.csv');
  });

  it('gives pairs or an InputError for any mutilated file', async () => {
    const text =
      HEADER +
      row('A "b", c?\nd', { X: [0.5, 0.25, 0.25], Y: [0, 1, 0] }, ["Don't", 'No', 'DK/Refused']) +
      row('q2', { X: [0.1, 0.9] }, ['a', 'b']);
    const mutation = fc.tuple(
      fc.nat(text.length),
      fc.nat(6),
      fc.string({ maxLength: 4, unit: fc.constantFrom(...'"\'\\[](){},:0.eNn\n <') }),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(mutation, { minLength: 1, maxLength: 3 }),
        fc.boolean(),
        async (mutations, skipBadRows) => {
          let broken = text;
          for (const [at, removed, inserted] of mutations)
            broken = broken.slice(0, at) + inserted + broken.slice(at + removed);
          try {
            const made = pairsOf(await parseSurvey(Buffer.from(broken), 'f.csv'), { skipBadRows, multiPair: true });
            for (const { chosen, rejected } of all(made)) expect(chosen).not.toBe(rejected);
          } catch (error) {
            expect(error).toBeInstanceOf(InputError);
          }
        },
      ),
      { numRuns: 2000 },
    );
  });
});

describe('surveys of other forms', () => {
  const made = (name: string) => fileURLToPath(new URL(`../fixtures/preferences/survey-${name}`, import.meta.url));
  const forms = ['python', 'json'].flatMap((name) => ['csv', 'jsonl', 'parquet'].map((ending) => `${name}.${ending}`));

  it.each([...forms, 'nested.jsonl', 'nested.parquet', 'map.parquet'])('reads %s', async (name) => {
    const { questions, rows, bad } = await readSurvey(made(name));
    expect([rows, bad]).toEqual([20, []]);
    expect(questions.map(({ row, question, options, selections }) => [row, question, options, selections])).toEqual(
      Array.from({ length: 20 }, (_, i) => [
        i,
        `Question, ${i}?`,
        ['Yes', "Don't know"],
        new Map(i % 2 ? Object.entries({ Nigeria: [0.25, 0.75], "Côte d'Ivoire": [0.5, 0.5] }) : [['Nigeria', [1, 0]]]),
      ]),
    );
  });
});

describe('opinionPrompt', () => {
  it("is the paper's: country and question, instruction, lettered options, nothing after the last", () => {
    expect(opinionPrompt('India (Current national sample)', 'Is it so?', ['Yes', "Don't know"])).toBe(
      "Opinion of people in India (Current national sample) on: Is it so?\nSelect the best response:\nA. Yes\nB. Don't know",
    );
  });
});

describe('opinionPairs', () => {
  it('chooses the most frequent answer, the first of several, and a loser among the others', async () => {
    const file = await survey(
      row('q', { X: [0.2, 0.5, 0.3], Z: [1, 0, 0] }, ['a', 'b', 'c']),
      row('tie', { X: [0.2, 0.4, 0.4] }, ['a', 'b', 'c']),
    );
    const made = pairsOf(file);
    for (const { chosen, rejected } of all(made)) {
      expect(chosen).toBe('B');
      expect(['A', 'C']).toContain(rejected);
    }
    expect(made.summary.groups.X.tied).toBe(1);
    expect(all(made).length).toBe(2);
  });

  it('draws losers uniformly among the other options (600 questions, 4 standard errors)', async () => {
    const counts = new Map<string, number>();
    for (const { row, chosen, rejected } of all(pairsOf(await many(600, 4)))) {
      expect(chosen).toBe('ABCD'[row % 4]);
      expect(rejected).not.toBe(chosen);
      counts.set(chosen + rejected, (counts.get(chosen + rejected) ?? 0) + 1);
    }
    expect(counts.size).toBe(12);
    for (const [pair, count] of counts)
      expect(Math.abs(count - 50), pair).toBeLessThan(4 * Math.sqrt((150 * (1 / 3) * 2) / 3));
  });

  it('is the same for the same seed, another for another, and does not depend on the other groups', async () => {
    const file = await many(60, 5);
    const alone = pairsOf(file);
    expect(pairsOf(file)).toEqual(alone);
    const withY = pairsOf(file, { groups: ['Y', 'X'] });
    expect(withY.splits.train.filter(({ group }) => group === 'X')).toEqual(alone.splits.train);
    expect(withY.splits.train[0].group).toBe('Y');
    const other = pairsOf(file, { seed: 2 });
    expect(other.splits.train.map(({ row }) => row)).not.toEqual(alone.splits.train.map(({ row }) => row));
    const losers = (made: typeof alone) => new Map(all(made).map(({ row, rejected }) => [row, rejected]));
    expect(losers(other)).not.toEqual(losers(alone));
  });

  it('makes min(4, all) ordered pairs a question under multiPair, the likelier answer chosen', async () => {
    const shares = [0.1, 0.6, 0.3];
    const three = pairsOf(await survey(row('q', { X: shares }, ['a', 'b', 'c'])), { multiPair: true });
    const made = all(three).map(({ chosen, rejected }) => chosen + rejected);
    expect(made.sort()).toEqual(['BA', 'BC', 'CA']);
    const five = pairsOf(await many(40, 5), { multiPair: true });
    expect(five.summary.groups.X.pairs.train).toBe(4 * five.summary.groups.X.questions.train);
    const questions = new Map<number, Set<string>>();
    for (const { row, chosen, rejected } of all(five))
      questions.set(row, (questions.get(row) ?? new Set()).add(chosen + rejected));
    expect([...questions.values()].map((pairs) => pairs.size)).toEqual(Array.from({ length: 40 }, () => 4));
  });

  it('makes every pair that has answers under pairs: all, with the share that prefers the likelier one', async () => {
    const shares = [0.1, 0.6, 0, 0.3, 0];
    const made = pairsOf(await survey(row('q', { X: shares }, ['a', 'b', 'c', 'd', 'e'])), { pairs: 'all' });
    const labels = all(made).map(({ chosen, rejected, preference }) => [chosen + rejected, preference]);
    const ofTwo = (won: number, lost: number) => expect.closeTo(won / (won + lost), 12);
    expect(Object.fromEntries(labels)).toEqual({
      BD: ofTwo(0.6, 0.3),
      BA: ofTwo(0.6, 0.1),
      BC: 1,
      BE: 1,
      DA: ofTwo(0.3, 0.1),
      DC: 1,
      DE: 1,
      AC: 1,
      AE: 1,
    });
    expect(labels).toHaveLength(9);
    expect(made.summary).toMatchObject({ pairs: 'all', groups: { X: { pairs: { train: 9 } } } });
    // A question stays in its split, whatever its pairs.
    const file = await many(40, 3);
    const rows = (made: ReturnType<typeof pairsOf>) => new Set(made.splits.train.map(({ row }) => row));
    expect(rows(pairsOf(file, { pairs: 'all' }))).toEqual(rows(pairsOf(file)));
    expect(all(pairsOf(file)).every((pair) => !('preference' in pair))).toBe(true);
  });

  it('keeps the last of several equal questions', async () => {
    const made = pairsOf(
      await survey(
        row('q', { X: [0.9, 0.1] }, ['a', 'b']),
        row('q', { X: [0.9, 0.1] }, ['a', 'c']),
        row('q', { X: [0.1, 0.9] }, ['a', 'b']),
      ),
    );
    expect(made.summary.groups.X.duplicates).toBe(1);
    expect(
      all(made)
        .map(({ row, chosen }) => [row, chosen])
        .sort(),
    ).toEqual([
      [1, 'A'],
      [2, 'B'],
    ]);
  });

  it('filters and counts by reason', async () => {
    const made = pairsOf(
      await survey(
        row(' ', { X: [1, 0] }, ['a', 'b']),
        row('q1', { X: [1, 0] }, []),
        row('q2', { X: [] }, ['a', 'b']),
        row('q3', { X: [0, 0] }, ['a', 'b']),
        row('q4', { X: [1] }, ['a']),
        row('q5', { Y: [1, 0] }, ['a', 'b']),
        row('q6', { X: [1, 0] }, ['a', 'b']),
      ),
    );
    expect(made.summary.groups.X).toMatchObject({
      rows: 6,
      filtered: { emptyQuestion: 1, emptyOptions: 1, emptySelections: 1, zeroSum: 1, singleOption: 1 },
      pairs: { train: 1, validation: 0, test: 0 },
    });
    expect(made.summary.totals).toMatchObject({ rows: 6, filtered: 5 });
    expect(made.summary.warnings).toEqual(['no validation pair of group "X"', 'no test pair of group "X"']);
  });

  it.each([
    ['NaN', [Number.NaN, 1]],
    ['a negative share', [-0.5, 1.5]],
    ['more shares than options', [0.5, 0.25, 0.25]],
  ])('refuses %s of a wanted country by line, or leaves the row out and says so', async (_, shares) => {
    const file = await survey(row('q1', { X: [0, 1] }, ['a', 'b']), row('q2', { X: shares, Y: [1, 0] }, ['a', 'b']));
    const error = await inputError(() => pairsOf(file));
    expect(error.location).toEqual({ file: 'f.csv', line: 3, field: 'selections' });
    const made = pairsOf(file, { skipBadRows: true });
    expect(made.summary.badRows.map(({ line }) => line)).toEqual([3]);
    expect(all(made).length).toBe(1);
    expect(all(pairsOf(file, { groups: ['Y'] })).length).toBe(1);
  });

  it('lists all bad rows in the message', async () => {
    const file = await survey('q1,{,[],GAS\n', row('q', { X: [1, 0] }, ['a', 'b']), 'q2,{},[,GAS\n');
    const { message } = await inputError(() => pairsOf(file));
    expect(message).toContain('f.csv:2, field "selections"');
    expect(message).toContain('2 bad rows');
    expect(message).toContain('line 4, field "options"');
  });

  it('speaks of the bad rows, not of an unknown country, when no row can be read', async () => {
    expect((await inputError(async () => pairsOf(await survey('q1,{,[],GAS\n')))).location.line).toBe(2);
  });

  it('refuses more options than letters', async () => {
    const options = Array.from({ length: 27 }, (_, i) => `o${i}`);
    await inputError(async () => pairsOf(await survey(row('q', { X: options.map(() => 1) }, options))));
  });

  it('names near matches of a country it does not know, and refuses one named twice', async () => {
    const file = await survey(
      row('q', { Nigeria: [1, 0], Niger: [1, 0], 'India (Current national sample)': [1, 0] }, ['a', 'b']),
    );
    const fix = async (name: string) => (await inputError(() => pairsOf(file, { groups: [name] }))).fix;
    expect(await fix('Nigera')).toContain('"Nigeria"');
    expect(await fix('india')).toContain('"India (Current national sample)"');
    expect(await fix('Xyz')).toContain('3 in all');
    expect((await inputError(() => pairsOf(file, { groups: ['Niger', 'Niger'] }))).message).toContain('twice');
  });
});

describe('splitIndices', () => {
  it.each([
    [572, 458, 57, 57],
    [570, 456, 57, 57],
    [376, 301, 38, 37],
    [309, 247, 31, 31],
    [712, 570, 71, 71],
    [1, 1, 0, 0],
    [2, 2, 0, 0],
    [3, 2, 0, 1],
    [365, 292, 36, 37],
  ])('%i questions: %i train, %i test, %i validation, as pandas rounds', (count, train, test, validation) => {
    const split = splitIndices(count, Random.stream(1, 'test'));
    expect([split.train.length, split.test.length, split.validation.length]).toEqual([train, test, validation]);
    const together = [...split.train, ...split.test, ...split.validation].sort((a, b) => a - b);
    expect(together).toEqual(Array.from({ length: count }, (_, i) => i));
  });
});

describe('folds', () => {
  /** Questions of which X, Y and Z were asked most, in orders of their own. */
  const shared = () =>
    survey(
      ...Array.from({ length: 53 }, (_, q) => {
        const asked = ['X', 'Y', 'Z'].filter((_, c) => (q + c) % 4 > 0);
        return row(`Question ${q}?`, Object.fromEntries(asked.map((name) => [name, [3, 1, 4]])), ['a', 'b', 'c']);
      }),
    );
  const groups = ['X', 'Y', 'Z'];
  const rowsOf = (pairs: { row: number }[]) => new Set(pairs.map(({ row }) => row));

  it.each([3, 5])('tests each question once in %i folds, and no split has a question of another', async (of) => {
    const file = await shared();
    const made = Array.from({ length: of }, (_, i) => pairsOf(file, { groups, fold: { number: i + 1, of } }));
    const tested = made.flatMap(({ splits }) => splits.test);
    const everything = all(pairsOf(file, { groups }));
    const keys = (pairs: typeof tested) => pairs.map(({ group, row }) => `${group} ${row}`).sort();
    expect(keys(tested)).toEqual(keys(everything));
    made.forEach(({ splits, summary }, i) => {
      expect(keys(all({ splits, summary }))).toEqual(keys(everything));
      const [train, validation, test] = [splits.train, splits.validation, splits.test].map(rowsOf);
      expect([...train, ...validation, ...test].length).toBe(53);
      expect(new Set([...train, ...validation, ...test]).size).toBe(53);
      expect(Math.abs(test.size - 53 / of)).toBeLessThan(1);
      expect(validation).toEqual(rowsOf(made[(i + 1) % of].splits.test));
      expect(summary.fold).toEqual({ number: i + 1, of });
    });
    // Another seed has other folds.
    const other = pairsOf(file, { groups, seed: 2, fold: { number: 1, of } });
    expect(rowsOf(other.splits.test)).not.toEqual(rowsOf(made[0].splits.test));
  });

  it('takes questions that differ in capitals, punctuation, blanks or options for one', async () => {
    const file = await survey(
      ...Array.from({ length: 20 }, (_, q) => row(`Number ${q}?`, { X: [1, 0] }, ['a', 'b'])),
      ...Array.from({ length: 20 }, (_, q) => row(`number  ${q}`, { Y: [1, 0, 0] }, ['a', 'b', 'c'])),
    );
    for (let number = 1; number <= 4; number++) {
      const { splits } = pairsOf(file, { groups: ['X', 'Y'], fold: { number, of: 4 } });
      const names = (group: string) => splits.test.filter((pair) => pair.group === group).map(({ row }) => row % 20);
      expect(names('Y').sort()).toEqual(names('X').sort());
      for (const { row, question } of splits.test) expect(question).toBe(row % 20);
    }
  });

  it('keeps the shares of all options with each pair', async () => {
    for (const pair of all(pairsOf(await shared()))) expect(pair.shares).toEqual([3 / 8, 1 / 8, 4 / 8]);
  });
});

describe('groups of countries', () => {
  it('asks each country in its own name and counts them as one group', async () => {
    const file = await survey(
      row('q', { X: [1, 0], Y: [0, 1], Z: [1, 0] }, ['a', 'b']),
      row('r', { Y: [1, 0] }, ['a', 'b']),
    );
    const made = pairsOf(file, { groups: [{ name: 'north', countries: ['Y', 'X'] }, 'Z'] });
    expect(
      all(made)
        .map(({ group, prompt, chosen }) => [group, prompt.split('\n')[0], chosen])
        .sort(),
    ).toEqual([
      ['Z', 'Opinion of people in Z on: q', 'A'],
      ['north', 'Opinion of people in X on: q', 'A'],
      ['north', 'Opinion of people in Y on: q', 'B'],
      ['north', 'Opinion of people in Y on: r', 'A'],
    ]);
    expect(made.summary.groups.north.rows).toBe(3);
  });

  it('knows regions, also of samples in brackets, and names countries that have none', async () => {
    const asked = (...names: string[]) => row('q', Object.fromEntries(names.map((name) => [name, [1, 0]])), ['a', 'b']);
    const countries = ['Japan', 'India (Old national sample)', 'Sweden', 'S. Korea', 'India (Non-national sample)'];
    expect(worldRegions(await survey(asked(...countries)))).toEqual([
      { name: 'Western Europe', countries: ['Sweden'] },
      { name: 'South Asia', countries: ['India (Old national sample)', 'India (Non-national sample)'] },
      { name: 'East and Southeast Asia', countries: ['Japan', 'S. Korea'] },
    ]);
    const unknown = await survey(asked('Atlantis', 'Japan', 'toString'));
    expect(() => worldRegions(unknown)).toThrow(/the region of "Atlantis", "toString" is not known/);
  });
});

describe('nearMatches', () => {
  it('measures edit distance', () => {
    expect(editDistance('kitten', 'sitting')).toBe(3);
    expect([editDistance('', 'abc'), editDistance('abc', ''), editDistance('abc', 'abc')]).toEqual([3, 3, 0]);
    fc.assert(
      fc.property(fc.string(), fc.string(), fc.string(), (a, b, c) => {
        expect(editDistance(a, b)).toBe(editDistance(b, a));
        expect(editDistance(a, c)).toBeLessThanOrEqual(editDistance(a, b) + editDistance(b, c));
      }),
    );
  });

  it('puts the nearest first and leaves strangers out', () => {
    expect(nearMatches('Grmany', ['France', 'Germany', 'Romania', 'Armenia'])[0]).toBe('Germany');
    expect(nearMatches('Zzzz', ['France'])).toEqual([]);
    expect(nearMatches(' ', ['France'])).toEqual([]);
  });
});

const sample =
  process.env.GLOBAL_OPINIONS_CSV ??
  fileURLToPath(new URL('../../../shared/data/global_opinions_sample.csv', import.meta.url));

describe.skipIf(!existsSync(sample))(`the real sample (GLOBAL_OPINIONS_CSV, skipped where absent)`, () => {
  const groups = ['Nigeria', 'Egypt', 'India (Current national sample)', 'China', 'Japan'];

  it('gives 541 pairs of 542 rows: one vector sums to 0', async () => {
    const { summary } = opinionPairs(await readSurvey(sample), { groups, seed: 42 });
    expect(summary.badRows).toEqual([]);
    expect(Object.values(summary.groups).map(({ rows }) => rows)).toEqual([188, 73, 42, 157, 82]);
    expect(summary.totals).toEqual({
      rows: 542,
      filtered: 1,
      duplicates: 0,
      pairs: { train: 433, validation: 53, test: 55 },
    });
    expect(summary.groups.China.filtered.zeroSum).toBe(1);
  });

  it('reads every row of it for every country', async () => {
    const survey = await readSurvey(sample);
    expect([survey.rows, survey.questions.length, survey.bad.length]).toEqual([1396, 1396, 0]);
    const countries = [...new Set(survey.questions.flatMap(({ selections }) => [...selections.keys()]))];
    expect(countries.length).toBe(130);
    expect(
      worldRegions(survey)
        .flatMap((region) => region.countries)
        .sort(),
    ).toEqual([...countries].sort());
    expect(opinionPairs(survey, { groups: countries, seed: 0, skipBadRows: true }).summary.badRows).toEqual([]);
  });
});
