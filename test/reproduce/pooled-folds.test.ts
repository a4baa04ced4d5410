import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Random } from '../../src/numbers/random.js';
import { pooledSection, poolFolds } from '../../src/reproduce/pooled-folds.js';
import type { Method } from '../../src/reproduce/stages.js';
import { readTestedPairs, type TestedRun, testedPairs, testedPairsCsv } from '../../src/reproduce/tested-pairs.js';
import { temporaryFolder } from '../temporary-folder.js';

const root = temporaryFolder();
let made = 0;

interface Fake {
  method: Method;
  seed: number;
  /** [question, group, loss, right]. */
  pairs: [number, string, number, 0 | 1][];
  best?: boolean;
  /** Tested before its first step: all rewards are equal, which counts as wrong. */
  tied?: boolean;
}

/** The files of a run and its pairs, with other lines between, as where pairs were left out. */
function fake({ method, seed, pairs, best, tied }: Fake): TestedRun {
  const run = join(root, `${made++}`);
  const data = join(run, 'data');
  mkdirSync(data, { recursive: true });
  const lines = (values: object[]) => values.map((value) => `${JSON.stringify(value)}\n`).join('');
  writeFileSync(join(data, 'test.jsonl'), lines(pairs.flatMap(([question]) => [{ question: 9999 }, { question }])));
  const scores = (scale: number) =>
    lines(
      pairs.map(([, group, loss, right], i) => ({
        line: 2 * i + 2,
        group,
        loss: scale * loss,
        'rewards/accuracies': tied ? 0 : right,
        'rewards/margins': tied ? 0 : right - 0.5,
        'logps/accuracies': 1 - right,
      })),
    );
  writeFileSync(join(run, 'evaluation-pairs.jsonl'), scores(best ? 1000 : 1));
  if (best) writeFileSync(join(run, 'evaluation-best-pairs.jsonl'), scores(1));
  return { run, method, seed, data };
}

const poolRuns = async (runs: TestedRun[]) => poolFolds(await testedPairs(runs));

describe('poolFolds', () => {
  it('leaves pairs out of reward accuracies that a method has no rewards for, of every method, and says so', async () => {
    const first: Fake['pairs'] = [
      [0, 'a', 6, 1],
      [1, 'b', 1, 0],
      [2, 'a', 1, 0],
    ];
    const second: Fake['pairs'] = [
      [3, 'a', 25, 1],
      [4, 'b', 25, 1],
      // A region asks it in each of its countries.
      [4, 'b', 25, 1],
    ];
    const runs = [
      fake({ method: 'ipo', seed: 1, pairs: first }),
      fake({ method: 'ipo', seed: 1, pairs: second, tied: true }),
      fake({ method: 'gr-ipo', seed: 1, pairs: first }),
      fake({ method: 'gr-ipo', seed: 1, pairs: second }),
    ];
    const tested = await testedPairs(runs);
    const pooled = poolFolds(tested);
    expect(pooled.ties).toBe(3);
    for (const method of ['ipo', 'gr-ipo']) {
      expect(pooled.methods[method].measures['mean reward accuracy over groups'].mean).toBe(0.25);
      expect(pooled.methods[method].groups.a).toMatchObject({ pairs: 3, rewardAccuracy: 0.5, policyAccuracy: 1 / 3 });
      expect(pooled.methods[method].measures['mean loss over groups'].mean).toBeCloseTo((32 / 3 + 51 / 3) / 2, 12);
    }
    expect(pooledSection(pooled).text?.[1]).toMatch(/^Reward accuracies leave out 3 pairs /);
    // An empty cell, and read back as it was.
    const csv = testedPairsCsv(tested);
    expect(csv).toContain('\nipo,1,3,a,25,,0\n');
    writeFileSync(join(root, 'tied.csv'), csv);
    expect(poolFolds(await readTestedPairs(join(root, 'tied.csv')))).toEqual(pooled);

    const none = poolFolds(await testedPairs([runs[1], runs[3]]));
    expect(none.differences['gr-ipo - ipo']['worst-group reward accuracy'].mean).toBeNaN();
    const accuracy = none.checks.filter(({ claim }) => claim.includes('reward accuracy'));
    expect(accuracy.map(({ outcome }) => outcome)).toEqual(['unclear', 'unclear']);
    expect(accuracy[0].detail).toBe('no pair of a seed has a reward of every method');
    expect(JSON.stringify(pooledSection(none).tables)).toContain('"–"');
    expect(JSON.stringify(pooledSection(none).tables)).not.toContain('NaN');
  });

  it('takes means over all folds before the worst group is looked for, by hand', async () => {
    // Group a is worst in fold one, b in fold two; over both it is b: (1 + 8)/2 against (6 + 1)/2.
    const pooled = await poolRuns([
      fake({
        method: 'ipo',
        seed: 1,
        pairs: [
          [0, 'a', 6, 1],
          [1, 'b', 1, 0],
        ],
      }),
      fake({
        method: 'ipo',
        seed: 1,
        best: true,
        pairs: [
          [2, 'a', 1, 1],
          [3, 'b', 8, 1],
        ],
      }),
      fake({
        method: 'gr-ipo',
        seed: 1,
        pairs: [
          [0, 'a', 5, 1],
          [1, 'b', 2, 1],
        ],
      }),
      fake({
        method: 'gr-ipo',
        seed: 1,
        pairs: [
          [2, 'a', 2, 0],
          [3, 'b', 4, 1],
        ],
      }),
    ]);
    const { ipo, 'gr-ipo': robust } = pooled.methods;
    expect(ipo.measures['worst-group loss'].mean).toBe(4.5);
    expect(ipo.measures['mean loss over groups'].mean).toBe(4);
    expect(ipo.measures['gap between groups in loss'].mean).toBe(1);
    expect(ipo.measures['worst-group reward accuracy'].mean).toBe(0.5);
    expect(ipo.measures['worst-group accuracy of the policy'].mean).toBe(0);
    expect(robust.measures['worst-group loss'].mean).toBe(3.5);
    expect(robust.groups).toEqual({
      a: { pairs: 2, loss: 3.5, rewardAccuracy: 0.5, policyAccuracy: 0.5 },
      b: { pairs: 2, loss: 3, rewardAccuracy: 1, policyAccuracy: 0 },
    });
    expect(pooled.questions).toBe(4);
    expect(Object.keys(pooled.differences)).toEqual(['gr-ipo - ipo']);
    expect(pooled.differences['gr-ipo - ipo']['worst-group loss'].mean).toBe(-1);
    // Four questions show nothing.
    expect(pooled.checks[0]).toMatchObject({ outcome: 'unclear', claim: expect.stringContaining('GR-IPO') });
    expect(pooledSection(pooled).tables).toHaveLength(4);
  });

  /** 200 questions asked in both groups; the robust method's losses of b are lower by `gain` with noise that questions share. */
  const runs = (gain: (seed: number) => number) =>
    [1, 2].flatMap((seed) =>
      (['dpo', 'is-dpo', 'gr-dpo'] as const).map((method) => {
        const random = Random.stream(seed, 'losses');
        return fake({
          method,
          seed,
          pairs: Array.from({ length: 200 }, (_, row) => {
            const base = random.normal();
            const robust = method === 'gr-dpo' ? gain(seed) : 0;
            return [
              [row, 'a', 2 + base, 1],
              [row, 'b', 3 + base - robust + 0.2 * random.normal(), 1],
            ] as Fake['pairs'];
          }).flat(),
        });
      }),
    );

  it('pairs the methods question by question, so that noise they share cancels', async () => {
    const { differences, checks, methods } = await poolRuns(runs(() => 0.1));
    expect(Object.keys(differences)).toEqual(['gr-dpo - dpo', 'gr-dpo - is-dpo']);
    const { mean, interval, seeds } = differences['gr-dpo - dpo']['worst-group loss'];
    expect(mean).toBeCloseTo(-0.1, 9);
    expect(seeds.map((value) => value.toFixed(6))).toEqual(['-0.100000', '-0.100000']);
    expect(interval[1] - interval[0]).toBeLessThan(1e-9);
    const alone = methods.dpo.measures['worst-group loss'].interval;
    // 1/√200 from the seed-wise means, less by the two seeds: 4 standard errors of width 0.2.
    expect(alone[1] - alone[0]).toBeGreaterThan(0.12);
    expect(checks.find(({ claim }) => /lowers the worst/.test(claim))?.outcome).toBe('holds');
    // Equal accuracies neither raise nor contradict.
    expect(checks.find(({ claim }) => /raises the worst/.test(claim))?.outcome).toBe('unclear');
  });

  it('is unclear where seeds disagree, and fails where the whole interval says the contrary', async () => {
    const outcome = async (gain: (seed: number) => number) => (await poolRuns(runs(gain))).checks[0].outcome;
    expect(await outcome((seed) => (seed === 1 ? 0.3 : -0.1))).toBe('unclear');
    expect(await outcome(() => -0.1)).toBe('fails');
  });

  it('has no interval, and no clear verdict, where a group of a seed has a single question, as its mean is the same in every draw', async () => {
    const runs = (questions: number) =>
      (['ipo', 'gr-ipo'] as const).flatMap((method) =>
        [1, 2].map((seed) => {
          const random = Random.stream(seed, 'single');
          const better = method === 'ipo' ? 0 : 5;
          const pairs = Array.from(
            { length: 60 },
            (_, row): Fake['pairs'] =>
              [
                [row, 'a', 20 + random.normal() - better, 1],
                // Of the first seed few; of both one question is asked twice, as a region may be.
                ...(seed === 2 || row < questions ? [[row, 'b', 90 - better, 0] as const] : []),
                ...(row === 0 ? [[row, 'b', 91 - better, 0] as const] : []),
              ] as Fake['pairs'],
          );
          return fake({ method, seed, pairs: pairs.flat() });
        }),
      );
    const single = await poolRuns(runs(1));
    const { interval, mean, seeds } = single.differences['gr-ipo - ipo']['worst-group loss'];
    expect(interval).toEqual([Number.NaN, Number.NaN]);
    expect(mean).toBeCloseTo(-5, 12);
    expect(seeds.every((value) => value < 0)).toBe(true);
    expect(new Set(single.checks.map(({ outcome }) => outcome))).toEqual(new Set(['unclear']));
    expect(single.checks[0].detail).toBe(
      'difference −5; no interval, since a group has only one question; by seed −5, −5',
    );
    const { text, tables } = pooledSection(single);
    expect(text?.join()).toContain('one has a single question');
    expect(text?.join()).not.toContain('Few questions');
    expect(JSON.stringify(tables)).not.toContain('NaN');
    expect(JSON.parse(JSON.stringify(single)).methods.ipo.measures['worst-group loss'].interval).toEqual([null, null]);

    const two = await poolRuns(runs(2));
    expect(two.checks[0].outcome).toBe('holds');
    const texts = async (questions: number) => pooledSection(await poolRuns(runs(questions))).text?.join();
    expect(await texts(2)).not.toContain('single question');
    // It holds, but not without a word of how little two questions know.
    expect(await texts(2)).toMatch(
      /Few questions: a group has pairs of only 2 clusters \(question\): fewer than 10 know/,
    );
    expect(await texts(9)).toContain('only 9 clusters');
    expect(await texts(10)).not.toContain('Few questions');
  });

  it('names a file that does not fit its pairs', async () => {
    const run = fake({ method: 'ipo', seed: 1, pairs: [[0, 'a', 1, 1]] });
    writeFileSync(join(run.data, 'test.jsonl'), '{"question": 0}\n');
    await expect(testedPairs([run])).rejects.toThrow(/evaluation-pairs\.jsonl: names line 2/);
    rmSync(join(run.run, 'evaluation-pairs.jsonl'));
    await expect(testedPairs([run])).rejects.toThrow(/evaluation-pairs\.jsonl/);
  });

  it('refuses methods that have tested other pairs; a region may be asked a question once a country', async () => {
    const run = (method: Method, ...questions: number[]) =>
      fake({ method, seed: 1, pairs: questions.map((question) => [question, 'a', 1, 1]) });
    await expect(poolRuns([run('ipo', 0, 1), run('gr-ipo', 0)])).rejects.toThrow(
      /GR-IPO has tested question 1 of "a" in seed 1 0 times, another method 1 times/,
    );
    await expect(poolRuns([run('ipo', 0), run('gr-ipo', 0, 1)])).rejects.toThrow(/^IPO has tested question 1 /);
    await expect(poolRuns([run('ipo', 0, 0), run('gr-ipo', 0)])).rejects.toThrow(/GR-IPO .* 1 times, .* 2 times/);
    const regions = await poolRuns([run('ipo', 0, 0, 1), run('gr-ipo', 0, 0, 1)]);
    expect(regions.methods.ipo.groups.a.pairs).toBe(3);
  });
});

it('says how many questions each seed has tested where one lacks folds', async () => {
  const of = (seed: number, ...questions: number[]) =>
    (['ipo', 'gr-ipo'] as const).map((method) =>
      fake({ method, seed, pairs: questions.map((question) => [question, 'a', 1, 1]) }),
    );
  const text = async (...runs: TestedRun[]) => pooledSection(await poolRuns(runs)).text?.[0];
  expect(await text(...of(1, 0, 1), ...of(2, 1, 0))).toContain('Each of 2 questions is tested once in each of 2 seeds');
  expect(await text(...of(1, 0, 1, 2), ...of(2, 1))).toContain(
    'Of 3 questions 3 are tested in seed 1, 1 are tested in seed 2',
  );
});

describe('tested.csv', () => {
  const file = join(root, 'tested.csv');
  const row = 'gr-ipo,1,7,"Avaland, north",0.1,0.5,1';
  const header = 'method,seed,question,group,loss,reward_accuracy,policy_accuracy';

  it('brings back every number as it was', async () => {
    const pairs = await testedPairs(runsOfTwo());
    writeFileSync(file, testedPairsCsv(pairs));
    expect(await readTestedPairs(file)).toEqual(pairs);
    writeFileSync(file, `${header}\n${row}\n`);
    expect(await readTestedPairs(file)).toEqual([
      {
        method: 'gr-ipo',
        seed: 1,
        question: 7,
        group: 'Avaland, north',
        loss: 0.1,
        reward_accuracy: 0.5,
        policy_accuracy: 1,
      },
    ]);
  });

  it('names what is wrong in it', async () => {
    const refuses = async (text: string, message: RegExp) => {
      writeFileSync(file, text);
      await expect(readTestedPairs(file)).rejects.toThrow(message);
    };
    await refuses(`${header}\n`, /holds no tested pair/);
    await refuses(`${header}\n${row}\n${row.replace('gr-ipo', 'best')}\n`, /:3, field "method"/);
    await refuses(`${header}\n${row.replace('0.1', '')}\n`, /:2, field "loss"/);
    await refuses(`${header}\n${row.replace('0.1', 'low')}\n`, /:2, field "loss": expected a number/);
    await refuses(`${header.replace('loss', 'cost')}\n${row}\n`, /field "loss"/);
  });
});

function runsOfTwo(): TestedRun[] {
  const random = Random.stream(3, 'losses');
  return (['ipo', 'gr-ipo'] as const).map((method) =>
    fake({
      method,
      seed: 2,
      pairs: Array.from({ length: 5 }, (_, question) => [question, 'a', 10 * random.normal(), 1]),
    }),
  );
}
