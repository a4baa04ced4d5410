import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { writeSurvey } from '../../src/data/survey.js';
import { type OpinionExperiment, opinionExperiment } from '../../src/reproduce/global-opinions.js';
import { expectSoundPage } from '../report/page.js';

/** The paper's experiment on an invented survey in the data set's own layout, and a model small enough for a test. */
const root = mkdtempSync(join(tmpdir(), 'opinions-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));
mkdirSync(join(root, 'survey'));
writeSurvey(join(root, 'survey'), { seed: 1, rows: 400 });

const folder = join(root, 'out');
const at = (...path: string[]) => join(folder, ...path);
const read = (...path: string[]) => readFileSync(at(...path), 'utf8');
const overrides = ['threads=1', 'epochs=0.5', 'evaluateEvery=4', 'checkpoint.every=4', 'optimizer.learningRate=1e-3'];
const experiment: OpinionExperiment = {
  model: 'random:tiny?layers=1',
  file: join(root, 'survey/survey.csv'),
  groups: ['Avaland', 'Bremia', 'Elmark'],
  seeds: [0],
  overrides,
  folder,
};

async function run(changes: Partial<OpinionExperiment> = {}) {
  const lines: string[] = [];
  const result = await opinionExperiment(
    { ...experiment, ...changes },
    { quiet: true, log: (text) => lines.push(text) },
  );
  return { ...result, text: lines.join('\n') };
}

it('trains SFT once and both methods for each seed, goes on where it was, and reports the paper’s panels', async () => {
  await run();
  const untouched = ['data/train.jsonl', 'sft/run.json', 'seed-0/gr-ipo/run.json'];
  const times = () => untouched.map((name) => statSync(at(name)).mtimeMs);
  const before = times();
  const seeds = await run({ seeds: [0, 1] });
  expect(times()).toEqual(before);
  expect(seeds.text.match(/done before/g)).toHaveLength(3);
  expect(seeds.runs).toEqual([0, 1].flatMap((seed) => ['ipo', 'gr-ipo'].map((method) => at(`seed-${seed}`, method))));

  // Both methods start at the SFT model, where every IPO loss is 1/(4β²), and see the same pairs.
  const firstLines = seeds.runs.map((name) =>
    JSON.parse(readFileSync(join(name, 'metrics.jsonl'), 'utf8').split('\n')[0]),
  );
  for (const line of firstLines) expect(line['eval_worst/loss']).toBeCloseTo(2500, 6);
  const records = seeds.runs.map((name) => JSON.parse(readFileSync(join(name, 'run.json'), 'utf8')));
  expect(new Set(records.map(({ dataHash }) => dataHash)).size).toBe(1);

  // The claims are those of the runs' own test scores.
  const worst = (method: string) =>
    [0, 1].map((seed) => JSON.parse(read(`seed-${seed}`, method, 'evaluation.json')).worst.loss as number);
  const [ipo, grIpo] = [worst('ipo'), worst('gr-ipo')];
  const mean = (grIpo[0] - ipo[0] + grIpo[1] - ipo[1]) / 2;
  expect(seeds.checks[0].holds).toBe(mean < 0);
  expect(seeds.checks[0].detail).toContain('over 2 seeds');

  const page = read('report.html');
  expectSoundPage(page);
  for (const panel of [
    'Worst-group IPO loss',
    'validation loss of each group over training',
    'Reward accuracy of each group on the test split',
    'Worst-group log-probability accuracy (validation) over training',
    'group weights α over training',
  ])
    expect(page).toContain(panel);
  expect(read('runs.csv').trim().split('\n').length).toBeGreaterThan(4 * 3);

  // A run that was killed before its report comes to the same bytes.
  const outcome = read('seed-1/gr-ipo/metrics.jsonl');
  rmSync(at('seed-1/gr-ipo/report.html'));
  const again = await run({ seeds: [0, 1] });
  expect(read('seed-1/gr-ipo/metrics.jsonl')).toBe(outcome);
  expect(again.checks).toEqual(seeds.checks);

  // Other settings would make another experiment.
  await expect(run({ authors: true })).rejects.toThrow(/field "sft: optimizer\.warmupSteps": is 150, and was 12/);
  await expect(run({ groups: ['Avaland', 'Bremia'] })).rejects.toThrow(/field "groups"/);

  // The command is the same, and tells by its exit code whether the claims hold.
  const command = ['--import', 'tsx', 'experiments/global-opinions/run.ts', '--json', '--quiet', '--seeds', '0-1'];
  const named = ['--model', experiment.model!, '--file', experiment.file, '--groups', experiment.groups.join(',')];
  const set = [...overrides.flatMap((override) => ['--set', override]), '--out', folder];
  const { status, stdout, stderr } = spawnSync(process.execPath, [...command, ...named, ...set], { encoding: 'utf8' });
  expect(JSON.parse(stdout).checks, stderr).toEqual(seeds.checks);
  expect(status).toBe(seeds.checks.every(({ holds }) => holds) ? 0 : 1);
});
