import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { bootstrapInterval } from '../../src/numbers/bootstrap.js';
import { Random } from '../../src/numbers/random.js';
import { writeRunReport } from '../../src/report/run-report.js';
import { cellsOf, isDone, settingName } from '../../src/sweep/cells.js';
import { collect } from '../../src/sweep/collect.js';
import { compareChosen } from '../../src/sweep/comparison.js';
import { loadSweep } from '../../src/sweep/config.js';
import { validate } from '../../src/sweep/selection.js';
import { temporaryFolder } from '../temporary-folder.js';
import { type FakePair, pretendRuns, writeSweep } from './fake-sweep.js';

const root = temporaryFolder();
let made = 0;
const place = () => join(root, `${made++}`);

const twoMethods = `seeds: 0-2
methods:
  - name: ipo
    set: { objective.weights: erm }
  - name: gr-ipo
    set: { objective.weights: mirror-ascent }
    grid: { objective.step: [0.001, 0.003, 0.01] }
`;

describe('the file of a sweep', () => {
  it('is 3 + 9 runs, each with its settings, seed and folder, seed by seed', () => {
    const folder = place();
    const cells = cellsOf(loadSweep(writeSweep(folder, twoMethods)));
    expect(cells).toHaveLength(12);
    expect(cells.map(({ seed }) => seed)).toEqual([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]);
    const out = join(folder, 'out', 'cells');
    expect(cells.slice(0, 4).map((cell) => cell.folder)).toEqual([
      join(out, 'ipo', 'seed-0'),
      ...[0.001, 0.003, 0.01].map((step) => join(out, 'gr-ipo', `objective.step=${step}`, 'seed-0')),
    ]);
    const { config } = cells[11];
    expect(config).toMatchObject({
      seed: 2,
      output: cells[11].folder,
      objective: { weights: 'mirror-ascent', step: 0.01 },
    });
    expect(cells[0].config.objective).toMatchObject({ weights: 'erm' });
  });

  it('has all combinations of several keys, and folders that do not depend on the others', () => {
    const grid =
      'grid: { objective.beta: [1, 2], optimizer.betas: [[0.9, 0.99], [0.8, 0.9]], data.template: ["{prompt}!/?"] }';
    const text = `seeds: 5\nselect: worst/accuracy\nmethods: [{ name: ipo, ${grid} }]\n`;
    const cells = cellsOf(loadSweep(writeSweep(place(), text)));
    expect(cells).toHaveLength(4);
    expect(new Set(cells.map(({ folder }) => folder)).size).toBe(4);
    expect(cells.map(({ config }) => [config.objective, config.optimizer.betas, config.data.template])).toEqual(
      [1, 2].flatMap((beta) =>
        [
          [0.9, 0.99],
          [0.8, 0.9],
        ].map((betas) => [expect.objectContaining({ beta }), betas, '{prompt}!/?']),
      ),
    );
    const alone = new Map<string, unknown>([['optimizer.betas', [0.8, 0.9]]]);
    expect(settingName(alone)).toMatch(/^optimizer\.betas=[0-9a-f]{12}$/);
    expect(cells[1].folder).toContain(settingName(alone));
    for (const { folder } of cells) expect(folder.slice(root.length)).toMatch(/^[\w./=,+-]+$/);
  });

  it('may train on other pairs in each setting', () => {
    const text = 'seeds: 0\nmethods: [{ name: a, grid: { data.train: [few.jsonl, many.jsonl] } }]\n';
    const cells = cellsOf(loadSweep(writeSweep(place(), text)));
    expect(cells.map(({ config }) => config.data.train)).toEqual(['few.jsonl', 'many.jsonl']);
  });

  it('has grids of mappings, and folders apart for values that are written alike', () => {
    const sets = ['{ set: cvar, level: 0.5 }', '{ set: cvar, level: 0.2 }', '{ set: kl, radius: 0.2 }'];
    const set = '{ objective.weights: best-response }';
    const text = (values: string) =>
      `seeds: 0\nmethods: [{ name: max, set: ${set}, grid: { objective.ambiguity: [${values}] } }]\n`;
    const cells = cellsOf(loadSweep(writeSweep(place(), text(sets.join(', ')))));
    expect(cells.map(({ config: { objective } }) => 'ambiguity' in objective && objective.ambiguity)).toEqual([
      { set: 'cvar', level: 0.5 },
      { set: 'cvar', level: 0.2 },
      { set: 'kl', radius: 0.2 },
    ]);
    expect(new Set(cells.map(({ folder }) => folder)).size).toBe(3);
    for (const { folder } of cells) expect(folder).toMatch(/objective\.ambiguity=[0-9a-f]{12}\/seed-0$/);
    expect(() => loadSweep(writeSweep(place(), text([...sets, sets[1]].join(', '))))).toThrow(
      /holds the same value twice/,
    );
    const alike = [1, '1', true, 'true', null, 'null', [1], 1e21, '1e+21', 'dpo'];
    const names = alike.map((value) => settingName(new Map([['key', value]])));
    expect(new Set(names).size).toBe(alike.length);
    expect(names[0]).toBe('key=1');
    expect(names.at(-1)).toBe('key=dpo');
    for (const name of names) expect(name).toMatch(/^key=[\w.+-]+$/);
  });

  it.each([
    [
      'seeds: 0\nmethods: [{ name: a, gird: {} }]',
      /sweep\.yaml:4, field "methods\[0\]\.gird": unknown key\n.*name, set, grid/,
    ],
    ['seeds: 0\nmethod: []\nmethods: [{ name: a }]', /sweep\.yaml:4, field "method": unknown key\n.*seeds/],
    ['seeds: 0', /field "methods": is missing/],
    ['seeds: 3-1\nmethods: [{ name: a }]', /sweep\.yaml:3, field "seeds": "3-1" is not a seed or a range/],
    ['seeds: [0.5]\nmethods: [{ name: a }]', /field "seeds"/],
    ['seeds: 0\nmethods: [{ name: a/b }]', /field "methods\[0\]\.name": must be letters/],
    ['seeds: 0\nmethods: [{ name: a }, { name: A }]', /field "methods": holds the same name twice/],
    ['seeds: 0\nmethods: [{ name: a, set: { seed: 1 } }]', /field "methods\[0\]\.set\.seed": is set by the sweep/],
    [
      'seeds: 0\nmethods: [{ name: a, set: { epochs: 1 }, grid: { epochs: [2] } }]',
      /field "methods\[0\]\.grid\.epochs": stands under set too/,
    ],
    ['seeds: 0\nmethods: [{ name: a, grid: { epochs: [2, 2] } }]', /holds the same value twice/],
    ['seeds: 0\nmethods: [{ name: a, grid: { epochs: [] } }]', /field "methods\[0\]\.grid\.epochs"/],
    [
      'seeds: 0\nmethods: [{ name: a, set: { objective.stepp: 1 } }]',
      /sweep\.yaml, method a, field "objective\.stepp": unknown key\n.*did you mean step/,
    ],
    [
      'seeds: 0\nmethods: [{ name: a, grid: { objective.step: [1, 2] } }]',
      /method a, field "objective\.step": does nothing with weights: erm/,
    ],
    ['seeds: 0\nmethods: [{ name: a, set: { data.test: null } }]', /method a, field "data\.test": is missing/],
    [
      'seeds: 0\nmethods: [{ name: a, set: { data.validation: null } }]',
      /method a, field "data\.validation": is missing/,
    ],
    [
      'seeds: 0\nmethods: [{ name: a, grid: { objective.beta: [1, 2] } }]',
      /method.*a.*unit of the loss.*\n.*select: worst\/accuracy/,
    ],
    [
      'seeds: 0\nmethods: [{ name: a, set: { objective.loss: simpo }, grid: { objective.gamma: [0, 1] } }]',
      /method.*a.*unit of the loss.*\n.*select: worst\/accuracy/,
    ],
    [
      'seeds: 0\nselect: worst/accuracy\nmethods: [{ name: a, set: { objective: { loss: sft } } }]',
      /method a, field "objective\.loss": sft has no rewards/,
    ],
    [
      'seeds: 0\nmethods: [{ name: a, grid: { data.validation: [a.jsonl, b.jsonl] } }]',
      /method a, field "data\.validation": is ".*b\.jsonl", but ".*a\.jsonl" in another setting of it: all runs must be judged on the same\n {2}fix: /,
    ],
    [
      'seeds: 0\nmethods: [{ name: a, set: { data.unusable: drop }, grid: { data.maxLength: [300, 500] } }]',
      /method a, field "data\.maxLength": is 500, but 300 in another setting of it/,
    ],
    ...['data.test: b.jsonl', 'data.groupBy: country', 'data.people: { file: p.jsonl, key: user_id }'].map(
      (setting): [string, RegExp] => [
        `seeds: 0\nmethods: [{ name: a }, { name: b, set: { ${setting} } }]`,
        new RegExp(`method b, field "${setting.split(':')[0]}": is .*, but .* in method a`),
      ],
    ),
    ['seeds: 0-9999\nmethods: [{ name: a, grid: { epochs: [1, 2] } }]', /are 20000 runs, more than 10000/],
  ])('%s is refused', (text, message) => {
    expect(() => cellsOf(loadSweep(writeSweep(place(), `${text}\n`)))).toThrow(message);
  });
});

/** Two groups of four pairs. */
const pairsOf = (losses: readonly number[], rights: readonly (0 | 1)[] = [1, 1, 0, 1, 0, 1, 1, 1]): FakePair[] =>
  losses.map((loss, i) => [i + 1, i < 4 ? 'a' : 'b', 1, loss, rights[i]]);

describe('selection', () => {
  /** Validation losses of seeds 0 to 2 by step; the means of the worst groups are 5, 4 and 6. */
  const worst = new Map([
    [0.001, [5, 5, 5]],
    [0.003, [9, 1, 2]],
    [0.01, [6, 6, 6]],
  ]);
  const validation = (step: unknown, seed: number) => worst.get(Number(step))![seed];
  const run = (file: string, tests: (step: unknown) => number, without = '') =>
    pretendRuns(file, ({ folder, setting, seed, method }) => {
      if (without !== '' && folder.includes(without)) return undefined;
      const step = setting.get('objective.step');
      const pairs = pairsOf([1, 2, 3, 4, 5, 6, 7, 8].map((loss) => loss * tests(step)));
      return { validation: [0.5, method === 'ipo' ? 3 : validation(step, seed)], pairs };
    });

  it('takes the mean over seeds of the worst group’s validation loss, and never the test', async () => {
    // The best on the test split is another one: 0.01.
    const { sweep, cells } = run(writeSweep(place(), twoMethods), (step) => (step === 0.01 ? 0.1 : 1));
    const candidates = await validate(sweep, cells);
    const chosen = candidates.filter((one) => one.chosen);
    expect(chosen.map(({ method, setting }) => [method, setting.get('objective.step')])).toEqual([
      ['ipo', undefined],
      ['gr-ipo', 0.003],
    ]);
    expect(chosen[1].worst?.mean).toBeCloseTo(4, 12);
    expect(chosen[1].mean?.mean).toBeCloseTo((0.5 + 4) / 2, 12);
    expect(candidates.map((one) => one.worst?.mean)).toEqual([3, 5, 4, 6]);
  });

  it('by accuracy takes the largest', async () => {
    const { sweep, cells } = run(writeSweep(place(), `select: worst/accuracy\n${twoMethods}`), () => 1);
    const [, ...robust] = await validate(sweep, cells);
    // Means of 1/(1 + loss): 1/6; (1/10 + 1/2 + 1/3)/3 = 0.311; 1/7.
    expect(robust.map((one) => one.chosen)).toEqual([false, true, false]);
    expect(robust[1].worst?.mean).toBeCloseTo((1 / 10 + 1 / 2 + 1 / 3) / 3, 12);
  });

  it('passes over a setting of which a seed is missing', async () => {
    const { sweep, cells } = run(writeSweep(place(), twoMethods), () => 1, join('objective.step=0.003', 'seed-1'));
    const [, ...robust] = await validate(sweep, cells);
    expect(robust.map(({ chosen, whole, runs }) => [chosen, whole, runs.length])).toEqual([
      [true, true, 3],
      [false, false, 2],
      [false, true, 3],
    ]);
  });

  describe('by accuracy, where the best step of a seed is 0 and all its rewards tie', () => {
    const text = `select: worst/accuracy\n${twoMethods}`;
    const tied = (file: string, isTied: (setting: unknown, seed: number) => boolean) =>
      pretendRuns(file, ({ setting, seed }) => {
        const step = setting.get('objective.step') ?? 'plain';
        // By its other seeds 0.003 would be best, and 0.01 worst.
        const loss =
          new Map<unknown, number>([
            [0.003, 0.2],
            [0.01, 6],
          ]).get(step) ?? 3;
        const best = isTied(step, seed) ? 0 : 10;
        return { validation: [0.1, loss], pairs: pairsOf([1, 2, 3, 4, 5, 6, 7, 8]), best };
      });

    it('takes the tie for no accuracy, neither for 0 nor for nothing, and names the seed', async () => {
      const folder = place();
      const { sweep, cells } = tied(writeSweep(folder, text), (step, seed) => step === 0.003 && seed === 1);
      const [, ...robust] = await validate(sweep, cells);
      expect(robust.map(({ chosen, whole, worst }) => [chosen, whole, worst && Number(worst.mean.toFixed(9))])).toEqual(
        [
          [true, true, 0.25],
          [false, false, null],
          [false, true, Number((1 / 7).toFixed(9))],
        ],
      );
      expect(robust[1].mean).toBeNull();
      await collect(sweep, cells, () => {});
      const markdown = readFileSync(join(folder, 'out', 'report.md'), 'utf8');
      expect(markdown).toContain('No reward accuracy: GR-IPO (objective.step 0.003) with seed 1. ');
      expect(markdown).toMatch(/\| GR-IPO \| 0\.003 \| 3 of 3 \| – \| – \| {2}\|/);
      const rows = readFileSync(join(folder, 'out', 'runs.csv'), 'utf8').split('\n');
      expect(rows.find((row) => row.includes('step=0.003/seed-1'))).toMatch(/,,,false$/);
      expect(rows.find((row) => row.includes('step=0.003/seed-0'))).toMatch(/,0\.8\d+,0\.8\d+,false$/);
    });

    it('chooses by loss as ever', async () => {
      const { sweep, cells } = tied(writeSweep(place(), twoMethods), (step) => step === 0.003);
      const [, ...robust] = await validate(sweep, cells);
      // Of step 0, 1.
      expect(robust.map(({ chosen, worst }) => [chosen, worst?.mean])).toEqual([
        [false, 3],
        [true, 1],
        [false, 6],
      ]);
    });

    it('leaves a method out that has no other setting, and is refused where none has', async () => {
      const folder = place();
      const { sweep, cells } = tied(writeSweep(folder, text), (step, seed) => step !== 'plain' && seed === 2);
      await collect(sweep, cells, () => {});
      const markdown = readFileSync(join(folder, 'out', 'report.md'), 'utf8');
      expect(markdown).toContain('GR-IPO has no setting that can be chosen, so it is left out.');
      const none = tied(writeSweep(place(), text), (_, seed) => seed === 2);
      await expect(collect(none.sweep, none.cells, () => {})).rejects.toThrow(
        /no method has a setting that can be chosen\. No reward accuracy: IPO with seed 2; GR-IPO .*\n {2}fix: /,
      );
    });
  });

  it('refuses runs of other settings, and of data that has changed', async () => {
    const file = writeSweep(place(), twoMethods);
    const { sweep } = run(file, () => 1);
    writeFileSync(file, readFileSync(file, 'utf8').replace('objective.weights: erm', 'objective.weights: uniform'));
    await expect(validate(sweep, cellsOf(loadSweep(file)))).rejects.toThrow(
      /ipo.seed-0, field "objective\.weights": is "uniform", but was "erm" when this run of the sweep was made/,
    );
    const other = pretendRuns(writeSweep(place(), twoMethods), ({ seed }) => ({
      validation: [1, 1],
      pairs: pairsOf([1, 1, 1, 1, 1, 1, 1, 1]),
      dataHash: `${seed === 2}`,
    }));
    await expect(validate(other.sweep, other.cells)).rejects.toThrow(/seed-2: was made of other data than .*seed-0/);
  });
});

describe('comparison', () => {
  const plain = `seeds: 0-2\nmethods: [{ name: ipo }, { name: gr-ipo, set: { objective.weights: mirror-ascent, objective.step: 0.1 } }]\n`;
  const compare = async (text: string, of: (method: string, seed: number) => FakePair[], test?: object[]) => {
    const folder = place();
    const file = writeSweep(folder, text);
    const lines = (test ?? Array.from({ length: 8 }, () => ({}))).map((row) => `${JSON.stringify(row)}\n`);
    writeFileSync(join(folder, 'test.jsonl'), lines.join(''));
    const { sweep, cells } = pretendRuns(file, ({ method, seed }) => ({ validation: [1, 2], pairs: of(method, seed) }));
    const candidates = await validate(sweep, cells);
    return compareChosen(
      candidates.filter(({ chosen }) => chosen),
      sweep.cluster,
    );
  };

  it('has the means over seeds of what the worst groups of each had, by hand', async () => {
    const { methods, differences, over } = await compare(plain, (method, seed) =>
      method === 'ipo'
        ? pairsOf([1, 2, 3, 4, 5, 6, 7, 8].map((loss) => loss + seed))
        : pairsOf(
            [4, 4, 4, 8, 1, 1, 1, 1].map((loss) => loss + 2 * seed),
            [1, 1, 1, 1, 0, 0, 1, 1],
          ),
    );
    expect(over).toContain('of 8 pairs.');
    const [ipo, robust] = methods.map(({ measured }) => measured);
    // Means of a and b: 2.5 and 6.5, one more with each seed; 5 and 1, two more.
    expect(ipo['worst-group loss']?.mean).toBeCloseTo(7.5, 12);
    expect(ipo['mean loss over groups']?.mean).toBeCloseTo(5.5, 12);
    expect(ipo['gap between groups in loss']?.mean).toBeCloseTo(4, 12);
    expect(robust['worst-group loss']?.mean).toBeCloseTo(7, 12);
    expect(robust['worst-group reward accuracy']?.mean).toBeCloseTo(0.5, 12);
    expect(differences).toHaveLength(1);
    expect(differences[0]).toMatchObject({ first: 'gr-ipo', second: 'ipo' });
    expect(differences[0].measured['worst-group loss']?.mean).toBeCloseTo(-0.5, 12);
  });

  it('weighs pairs as the evaluation does', async () => {
    const { methods } = await compare(plain, () => [
      [1, 'a', 3, 1, 1],
      [2, 'a', 1, 5, 0],
      [3, 'b', 1, 1, 1],
    ]);
    expect(methods[0].measured['worst-group loss']?.mean).toBeCloseTo(2, 12);
    expect(methods[0].measured['worst-group reward accuracy']?.mean).toBeCloseTo(0.75, 12);
  });

  it('pairs pair by pair and seed by seed: what both share cancels, and the sign is that of the later method', async () => {
    const random = Random.stream(1, 'noise');
    const noise = Array.from({ length: 8 }, () => 50 * random.uniform());
    const { differences, checks } = await compare(plain, (method, seed) =>
      pairsOf(noise.map((value) => value + 10 * seed - (method === 'ipo' ? 0 : 1))),
    );
    const { mean, interval } = differences[0].measured['worst-group loss'];
    expect(mean).toBeCloseTo(-1, 10);
    expect(interval?.[0]).toBeCloseTo(-1, 10);
    expect(interval?.[1]).toBeCloseTo(-1, 10);
    expect(checks.map(({ claim, outcome }) => [claim, outcome])).toEqual([
      ['GR-IPO lowers the worst group’s test loss against IPO', 'holds'],
      ['GR-IPO raises the worst group’s test reward accuracy against IPO', 'unclear'],
    ]);
    expect(checks[0].detail).toContain('as one of 2 comparisons');
  });

  it('fails where all is worse, and is unclear where seeds disagree', async () => {
    const shifted = (by: (seed: number) => number) =>
      compare(plain, (method, seed) =>
        pairsOf([1, 2, 3, 4, 1, 2, 3, 4].map((loss) => loss + (method === 'ipo' ? 0 : by(seed)))),
      );
    expect((await shifted(() => 1)).checks[0].outcome).toBe('fails');
    expect((await shifted((seed) => [-3, 2, -3][seed])).checks[0].outcome).toBe('unclear');
  });

  it('judges all comparisons together more strictly than each alone', async () => {
    // Three seeds with differences −1, −1.5, −2: Student's interval of one is −1.5 ± 1.24, that of one in 12 −1.5 ± 3.8.
    const names = ['ipo', 'b', 'c', 'd'];
    const many = `seeds: 0-2\nmethods: [${names.map((name) => `{ name: ${name} }`).join(', ')}]\n`;
    const of = (method: string, seed: number) =>
      pairsOf([5, 5, 5, 5, 5, 5, 5, 5].map((loss) => loss - (method === 'ipo' ? 0 : 1 + seed / 2)));
    const two = await compare(plain, of);
    const four = await compare(many, of);
    expect(two.differences[0].measured['worst-group loss'].interval?.[1]).toBeLessThan(0);
    expect(four.differences[0].measured['worst-group loss'].interval?.[1]).toBeLessThan(0);
    expect(four.checks).toHaveLength(12);
    expect(four.checks[0].outcome).toBe('unclear');
  });

  it('draws clusters as wholes: forty pairs of one person are not forty observations', async () => {
    const random = Random.stream(2, 'people');
    const people = Array.from({ length: 10 }, () => random.normal());
    const losses = people.flatMap((value) => Array.from({ length: 40 }, () => 10 + value));
    const rows = losses.map((_, i) => ({ user_id: `user${Math.floor(i / 40)}` }));
    const pairs = losses.map((loss, i): FakePair => [i + 1, 'a', 1, loss, 1]);
    const one = plain.replace('0-2', '0');
    const width = async (text: string) => {
      const { methods, over, notes } = await compare(text, () => pairs, rows);
      // Ten are enough.
      expect(notes).toEqual([]);
      const [low, high] = methods[0].measured['worst-group loss'].interval!;
      return { over, width: high - low };
    };
    const single = await width(one);
    const clustered = await width(`cluster: user_id\n${one}`);
    expect(single.over).toContain('of 400 pairs.');
    expect(clustered.over).toContain('of 400 pairs in 10 clusters of one user_id');
    const [low, high] = bootstrapInterval(
      10,
      (times) => people.reduce((sum, value, i) => sum + times[i] * value, 0) / 10,
      Random.stream(3, 'draws'),
    );
    expect(clustered.width / (high - low)).toBeGreaterThan(0.9);
    expect(clustered.width / (high - low)).toBeLessThan(1.1);
    expect(clustered.width / single.width).toBeGreaterThan(5);
    const few = await compare(`cluster: user_id\n${one}`, () => pairs.slice(40), rows);
    expect(few.notes.join()).toContain('Few clusters: a group has pairs of only 9 clusters (user_id)');
    await expect(compare(`cluster: person\n${one}`, () => pairs, rows)).rejects.toThrow(
      /test\.jsonl:1, field "person"/,
    );
  });

  describe('with a group of one test pair, whose mean is the same in every draw', () => {
    // All of a are better by 5, with noise of their own, and so is the one of b.
    const random = Random.stream(4, 'one');
    const noise = Array.from({ length: 20 }, () => random.normal());
    const of = (others: readonly FakePair[]) => (method: string) => [
      ...noise.map((value, i): FakePair => [i + 1, 'a', 1, 20 + value - (method === 'ipo' ? 0 : 5), 1]),
      ...others.map(
        ([line, group, weight, loss, right]): FakePair => [
          line,
          group,
          weight,
          loss - (method === 'ipo' ? 0 : 5),
          right,
        ],
      ),
    ];
    const one: FakePair = [21, 'b', 1, 90, 0];
    const unclear = async (text: string, others: readonly FakePair[], rows?: object[]) => {
      const { methods, differences, checks, notes } = await compare(text, of(others), rows);
      for (const { measured } of [...methods, ...differences])
        for (const [measure, { interval }] of Object.entries(measured)) expect(interval, measure).toBeNull();
      expect(methods[0].measured['worst-group loss'].mean).toBeCloseTo(90, 12);
      expect(differences[0].measured['worst-group loss'].mean).toBeCloseTo(-5, 12);
      expect(checks.map(({ outcome }) => outcome)).toEqual(['unclear', 'unclear']);
      return { checks, notes };
    };

    it('has no interval and no clear verdict, and says so', async () => {
      const { checks, notes } = await unclear(plain, [one]);
      expect(checks[0].detail).toBe('difference −5; no interval, since a group has only one pair');
      expect(notes).toEqual([expect.stringMatching(/^Few pairs: a group has only one, which tells nothing/)]);
      // One of no weight adds nothing.
      await unclear(plain, [one, [22, 'b', 0, 10, 1]]);
    });

    it('counts clusters where there are some', async () => {
      const rows = Array.from({ length: 22 }, (_, i) => ({ user: `u${Math.min(i, 20)}` }));
      const others: FakePair[] = [one, [22, 'b', 1, 90, 0]];
      const { checks, notes } = await unclear(`cluster: user\n${plain}`, others, rows);
      expect(checks[0].detail).toContain('a group has only one cluster');
      expect(notes.join()).toContain('Few clusters: a group has only one');
    });

    it('is judged from two pairs on, with a warning below ten', async () => {
      const more = (count: number) => Array.from({ length: count }, (_, i): FakePair => [21 + i, 'b', 1, 90 + i, 0]);
      const two = await compare(plain, of(more(2)));
      expect(two.checks[0].outcome).toBe('holds');
      expect(two.methods[0].measured['worst-group loss'].interval).not.toBeNull();
      expect(two.notes).toEqual([expect.stringMatching(/^Few pairs: a group has only 2 pairs: fewer than 10 know/)]);
      expect((await compare(plain, of(more(9)))).notes.join()).toContain('only 9 pairs');
      expect((await compare(plain, of(more(10)))).notes).toEqual([]);
    });
  });

  describe('where the best step of a seed is 0, and all rewards of its tests tie', () => {
    const names = ['ipo', 'gr-ipo', 'dro'];
    const three = `seeds: 0-2\nmethods: [${names.map((name) => `{ name: ${name} }`).join(', ')}]\n`;
    const tie = async (isTied: (method: string, seed: number) => boolean) => {
      const { sweep, cells } = pretendRuns(writeSweep(place(), three), ({ method, seed }) => ({
        validation: [1, 2],
        pairs: pairsOf([5, 5, 5, 5, 5, 5, 5, 5].map((loss) => loss - names.indexOf(method) * (1 + seed / 2))),
        best: isTied(method, seed) ? 0 : 10,
      }));
      return (await collect(sweep, cells, () => {})).comparison;
    };

    it('names method and seed, and leaves the claims unclear that need a reward accuracy', async () => {
      const { checks, notes, methods, differences } = await tie((method, seed) => method === 'gr-ipo' && seed === 1);
      expect(notes).toContainEqual(
        expect.stringMatching(/^No test reward accuracy: GR-IPO with seed 1\. .*all rewards tie/),
      );
      expect(methods.map(({ measured }) => 'worst-group reward accuracy' in measured)).toEqual([true, false, true]);
      expect(differences.map(({ measured }) => 'worst-group reward accuracy' in measured)).toEqual([
        false,
        true,
        false,
      ]);
      const accuracy = checks.filter(({ claim }) => claim.includes('reward accuracy'));
      expect(accuracy.map(({ outcome, detail }) => [outcome, detail.includes('GR-IPO with seed 1, whose')])).toEqual([
        ['unclear', true],
        ['unclear', false],
        ['unclear', true],
      ]);
      // As many comparisons as without the ties, so that each is judged as strictly.
      expect(checks).toHaveLength(6);
      const plain = await tie(() => false);
      const losses = (all: typeof checks) => all.filter(({ claim }) => claim.includes('loss'));
      expect(losses(checks)).toEqual(losses(plain.checks));
      expect(checks[0].detail).toContain('as one of 6 comparisons');
      expect(plain.notes.join()).not.toContain('tie');
    });

    it('names all of them', async () => {
      const { checks, notes } = await tie((method, seed) => method === 'dro' || (method === 'ipo' && seed > 0));
      expect(notes.join()).toContain('No test reward accuracy: IPO with seed 1, 2; dro with seed 0, 1, 2. ');
      expect(checks.map(({ detail }) => detail).join()).toContain(
        'no reward accuracy of dro with seed 0, 1, 2 and IPO with seed 1, 2, whose rewards all tie',
      );
    });
  });

  it('compares no losses of different units, and no tests of different pairs', async () => {
    const two = `seeds: 0\nmethods: [{ name: ipo }, { name: soft, set: { objective.beta: 1 } }]\n`;
    const { differences, notes, checks } = await compare(two, () => pairsOf([1, 2, 3, 4, 5, 6, 7, 8]));
    expect(differences[0].measured['worst-group loss']).toBeUndefined();
    expect(differences[0].measured['worst-group reward accuracy']).toBeDefined();
    expect(checks).toHaveLength(1);
    expect(notes.join()).toContain('losses of different units');
    const other = await compare(plain, (method) => pairsOf([1, 2, 3, 4, 5, 6, 7, 8]).slice(method === 'ipo' ? 0 : 1));
    expect(other.differences).toEqual([]);
    expect(other.notes.join()).toContain('GR-IPO was tested on other pairs than IPO');
  });
});

describe('collect', () => {
  it('writes a page, tables and figures, with test figures of the chosen settings only', async () => {
    const folder = place();
    const base = 'optimizer: { averageFrom: 3 }';
    const { sweep, cells } = pretendRuns(writeSweep(folder, twoMethods, base), ({ setting, seed }) => {
      const step = Number(setting.get('objective.step') ?? 0);
      // 0.003 is chosen; the others have a test loss that cannot be overlooked.
      return {
        validation: [1, 2 + Math.abs(step - 0.003) * 100 + seed / 10],
        pairs: pairsOf(Array.from({ length: 8 }, () => (step === 0.003 || step === 0 ? 3 : 7654321))),
      };
    });
    const { comparison } = await collect(sweep, cells, () => {});
    const out = join(folder, 'out');
    expect(readdirSync(out).sort()).toEqual(
      ['cells', 'comparison.csv', 'figures', 'report.html', 'report.md', 'report.tex', 'runs.csv'].sort(),
    );
    const texts = ['report.html', 'report.md', 'report.tex', 'runs.csv', 'comparison.csv'].map((name) =>
      readFileSync(join(out, name), 'utf8'),
    );
    for (const text of texts) expect(text).not.toContain('7654321');
    const [html, markdown, latex, runs, table] = texts;
    expect(html).toContain('Chosen settings on the test split');
    expect(markdown).toContain('| GR-IPO | objective.step 0.003 | 3 |');
    expect(markdown).toContain('Of 2 comparisons at 95 % each');
    expect(latex).toContain('\\begin{tabular}');
    expect(runs.trimEnd().split('\n')).toHaveLength(13);
    expect(runs.split('\n').filter((line) => line.endsWith(',true'))).toHaveLength(6);
    expect(table.trimEnd().split('\n')).toHaveLength(1 + 3 * Object.keys(comparison.methods[0].measured).length);
    const figure = readFileSync(join(out, 'figures', 'sensitivity-gr-ipo-objective.step.svg'), 'utf8');
    expect(figure).toMatch(/^<svg .*Chosen: 0\.003/);
    expect(html).toContain('The policy of IPO, GR-IPO is the mean of the adapters from step 3 on');
    // Again, as after more runs: what is there gives way.
    await collect(sweep, cells, () => {});
  });

  it('takes a run that was stopped for none, though a report of it lies there', async () => {
    const run = { validation: [1, 2] as const, pairs: pairsOf([1, 2, 3, 4, 5, 6, 7, 8]) };
    const { sweep, cells } = pretendRuns(writeSweep(place(), twoMethods), () => run);
    for (const { folder, seed } of cells.filter(({ method }) => method === 'ipo')) {
      // Before its last step, and after it in the scoring of the test pairs.
      if (seed === 0) {
        const { steps: _, ...record } = JSON.parse(readFileSync(join(folder, 'run.json'), 'utf8'));
        writeFileSync(join(folder, 'run.json'), JSON.stringify(record));
      }
      if (seed < 2) rmSync(join(folder, 'evaluation.json'));
      await writeRunReport(folder);
    }
    expect(cells.filter((cell) => !isDone(cell)).map(({ method, seed }) => [method, seed])).toEqual([
      ['ipo', 0],
      ['ipo', 1],
    ]);
    await collect(sweep, cells, () => {});
    expect(readFileSync(join(sweep.output, 'report.md'), 'utf8')).toContain(
      'IPO has no setting whose 3 runs are all done, so it is left out: 1 run of 3',
    );
  });

  it('says which runs are missing, and is refused where no method has all seeds of a setting', async () => {
    const folder = place();
    const run = { validation: [1, 2] as const, pairs: pairsOf([1, 2, 3, 4, 5, 6, 7, 8]) };
    const { sweep, cells } = pretendRuns(writeSweep(folder, twoMethods), ({ method, seed }) =>
      method === 'ipo' || seed < 2 ? run : undefined,
    );
    await collect(sweep, cells, () => {});
    const markdown = readFileSync(join(folder, 'out', 'report.md'), 'utf8');
    expect(markdown).toContain('GR-IPO has no setting whose 3 runs are all done, so it is left out: 6 runs of 9');
    expect(markdown).toMatch(/\| GR-IPO \| 0\.001 \| 2 of 3 \|/);
    for (const cell of cells) if (cell.seed === 1) rmSync(cell.folder, { recursive: true, force: true });
    rmSync(join(folder, 'out', 'report.html'));
    await expect(collect(sweep, cells, () => {})).rejects.toThrow(
      /out: no method has a setting whose 3 seeds are all done: 5 of 12 runs are\n {2}fix: run group-robust sweep/,
    );
    expect(existsSync(join(folder, 'out', 'report.html'))).toBe(false);
  });
});
