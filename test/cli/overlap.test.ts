import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { valuesOf } from '../../src/report/group-measures.js';
import { readTestScores } from '../../src/report/pair-scores.js';
import { temporaryFolder } from '../temporary-folder.js';
import { groupRobust } from './run.js';

/** `groupBy: { overlap }` and `--group-by overlap:…` from the files of pairs to the report. */
const folder = temporaryFolder();
const at = (...names: string[]) => join(folder, ...names);
const model = 'random:tiny?layers=1';

const rows = Array.from({ length: 14 }, (_, i) => ({
  country: ['Peru', 'Chad', 'Mali'][i % 3] ?? '',
  sex: i % 4 === 0 ? 'm' : 'f',
  who: `p${i % 5}`,
  prompt: `Is it ${i}?`,
  chosen: i % 2 === 0 ? 'Yes' : 'No',
  rejected: i % 2 === 0 ? 'No, not at all' : 'Yes, sure',
  weight: 1 + (i % 3),
}));
const columns = Object.keys(rows[0] ?? {}) as (keyof (typeof rows)[number])[];
const pairs = at('pairs.csv');
const names = ['country=Peru', 'sex=m', 'country=Chad', 'sex=f', 'country=Mali'];
const isOf = (row: (typeof rows)[number], name: string) => [`country=${row.country}`, `sex=${row.sex}`].includes(name);
const json = (file: string) => JSON.parse(readFileSync(file, 'utf8'));
const jsonLines = (file: string) =>
  readFileSync(file, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));

const train = (output: string, ...more: string[]) => groupRobust(['train', at(`${output}.yaml`), '--quiet', ...more]);
const scored = (name: string, ...more: string[]) =>
  groupRobust([
    name,
    '--model',
    model,
    '--adapter',
    at('run', 'adapter'),
    '--pairs',
    pairs,
    '--quiet',
    '--json',
    ...more,
  ]);

beforeAll(() => {
  writeFileSync(
    pairs,
    [columns.join(), ...rows.map((row) => columns.map((column) => `"${row[column]}"`).join())].join('\n'),
  );
  const data = { train: pairs, validation: pairs, test: pairs, groupBy: { overlap: ['country', 'sex'] } };
  writeFileSync(
    at('run.yaml'),
    stringify({
      model,
      output: at('run'),
      data,
      objective: { loss: 'ipo', beta: 0.1, weights: 'mirror-ascent', step: 0.01 },
      lora: { rank: 2 },
      optimizer: { learningRate: 0.01 },
      batch: { size: 4 },
      steps: 4,
      checkpoint: { best: true },
    }),
  );
  const { status, stderr } = train('run');
  expect(status, stderr).toBe(0);
});

/** Of each group Σ w x / Σ w over its rows. */
function meansOf(values: readonly number[]): number[] {
  return names.map((name) => {
    const own = rows.flatMap((row, i) => (isOf(row, name) ? [{ ...row, value: values[i] ?? Number.NaN }] : []));
    const mass = own.reduce((sum, { weight }) => sum + weight, 0);
    return own.reduce((sum, { weight, value }) => sum + weight * value, 0) / mass;
  });
}

it('a run has metrics and α of every group, and its pairs name all of theirs', async () => {
  const lines = jsonLines(at('run', 'metrics.jsonl'));
  const alpha = names.map((name) => lines.at(-1)[`group/${name}/alpha`]);
  expect(alpha.reduce((sum, value) => sum + value, 0)).toBeCloseTo(1, 12);
  expect(new Set(alpha).size).toBeGreaterThan(1);
  const evaluation = json(at('run', 'evaluation.json'));
  expect(evaluation.group_order).toEqual(names);
  const tested = jsonLines(at('run', 'evaluation-pairs.jsonl'));
  expect(tested.map(({ group }) => group)).toEqual(rows.map((row) => names.filter((name) => isOf(row, name))));
  const means = meansOf(tested.map(({ loss }) => loss));
  names.forEach((name, g) => {
    expect(evaluation.groups[name].loss).toBeCloseTo(means[g] ?? Number.NaN, 9);
    expect(evaluation.groups[name].count).toBe(rows.filter((row) => isOf(row, name)).length);
    expect(lines.at(-1)[`eval_group/${name}/loss`]).toBeCloseTo(means[g] ?? Number.NaN, 9);
  });
  // As sweeps read them, of the best step.
  const scores = (await readTestScores(at('run'))).pairs;
  const indexed = scores.map(({ groups, weight, ...measured }, unit) => {
    return { groups: groups.map((name) => names.indexOf(name)), weight, unit, scores: measured };
  });
  const best = json(at('run', 'evaluation-best.json'));
  expect(valuesOf(indexed, names.length, 'loss').map(({ mean }) => mean)).toEqual(
    names.map((name) => expect.closeTo(best.groups[name].loss, 9)),
  );
  expect(evaluation.worst.group).toBe(names[means.indexOf(Math.max(...means))]);
  const { pairs: counts, groups } = json(at('run', 'run.json'));
  expect(counts).toEqual({ train: 14, validation: 14, test: 14 });
  expect(groups['sex=f'].train).toBe(10);
  // It goes on, also further than it was made, which needs the number of pairs.
  expect(train('run', '--resume', '--set', 'steps=6').status).toBe(0);
  expect(jsonLines(at('run', 'metrics.jsonl')).at(-1).step).toBe(6);
});

it('--resume refuses other memberships by the key', () => {
  const { status, stderr } = train('run', '--resume', '--set', 'data.groupBy=[country, sex]');
  expect(status).toBe(2);
  expect(stderr).toContain('data.groupBy');
});

it('eval has the means that the log-probabilities of the pairs give, and their errors over clusters', () => {
  const out = at('logprobs.jsonl');
  expect(scored('logprobs', '--out', out).status).toBe(0);
  const losses = jsonLines(out).map(
    (line) => (line.chosen - line.reference_chosen - (line.rejected - line.reference_rejected) - 5) ** 2,
  );
  const means = meansOf(losses);
  const { json: result } = scored(
    'eval',
    '--group-by',
    'overlap:country,sex',
    '--objective',
    'ipo,beta=0.1',
    '--cluster',
    'who',
  );
  expect(result.group_order).toEqual(names);
  names.forEach((name, g) => {
    expect(result.groups[name].loss).toBeCloseTo(means[g] ?? Number.NaN, 6);
  });
  expect(result.worst.loss).toBeCloseTo(Math.max(...means), 6);
  expect(result.group_mean.loss).toBeCloseTo(means.reduce((sum, mean) => sum + mean, 0) / 5, 6);
  const total = rows.reduce((sum, { weight }) => sum + weight, 0);
  expect(result.mean.loss).toBeCloseTo(
    losses.reduce((sum, loss, i) => sum + (rows[i]?.weight ?? 0) * loss, 0) / total,
    6,
  );
  expect(result.clusters).toMatchObject({ count: 5, crossing: true });
  expect(result.clusters.groups['sex=f'].clusters).toBe(5);
});

it('report has a line for each group, with errors over clusters', () => {
  const out = at('report.csv');
  const { status, stderr } = groupRobust(['report', at('run'), '--cluster', 'who', '--format', 'csv', '--out', out]);
  expect(status, stderr).toBe(0);
  const text = readFileSync(out, 'utf8');
  for (const name of names) expect(text).toContain(name);
});

it('sample answers for the groups that are asked for', () => {
  const out = at('samples.jsonl');
  const options = ['--model', model, '--pairs', pairs, '--max-tokens', '2', '--out', out, '--quiet'];
  expect(groupRobust(['sample', ...options, '--group-by', 'overlap:country,sex', '--groups', 'sex=m']).status).toBe(0);
  const groups = jsonLines(out).map(({ group }) => group);
  expect(groups).toHaveLength(4);
  expect(groups[0]).toEqual(['country=Peru', 'sex=m']);
});
