import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, it, vi } from 'vitest';
import { writeSurvey } from '../../src/data/surveys/invented-survey.js';
import { Random } from '../../src/numbers/random.js';
import { GroupTotals, robustStep } from '../../src/objective/aggregate.js';
import { groupWeights } from '../../src/objective/group-weights.js';
import { type OpinionExperiment, opinionExperiment } from '../../src/reproduce/global-opinions.js';
import { comparedMethods, experimentFolder, placeSettings, stageConfig } from '../../src/reproduce/stages.js';
import { loadConfig } from '../../src/train/config-file.js';
import { runCommand } from '../commands.js';
import { pretendCards } from '../policy/pretend-cards.js';
import { expectSoundPage } from '../report/page.js';
import { temporaryFolder } from '../temporary-folder.js';

/** The paper's experiment on an invented survey in the data set's own layout, and a model small enough for a test. */
const root = temporaryFolder();
mkdirSync(join(root, 'survey'));
await writeSurvey(join(root, 'survey'), { seed: 1, rows: 400 });

afterEach(() => {
  vi.restoreAllMocks();
});

const folder = join(root, 'out');
const at = (...path: string[]) => join(folder, ...path);
const read = (...path: string[]) => readFileSync(at(...path), 'utf8');
const overrides = ['threads=1', 'epochs=0.5', 'evaluateEvery=4', 'checkpoint.every=4', 'optimizer.learningRate=1e-3'];
const experiment = {
  model: 'random:tiny?layers=1',
  file: join(root, 'survey/survey.csv'),
  groups: ['Avaland', 'Bremia', 'Elmark'],
  seeds: [0],
  methods: comparedMethods,
  overrides,
  folder,
} satisfies OpinionExperiment;

/** What a user types for the same. */
function commandLine(...args: string[]): string[] {
  const named = ['--model', experiment.model!, '--file', experiment.file, '--groups', experiment.groups.join(',')];
  const set = overrides.flatMap((override) => ['--set', override]);
  const command = ['--import', 'tsx', 'experiments/global-opinions/run.ts', '--quiet'];
  return [...command, ...named, ...set, '--out', folder, ...args];
}

async function run(changes: Partial<OpinionExperiment> = {}) {
  const lines: string[] = [];
  const result = await opinionExperiment(
    { ...experiment, ...changes },
    { quiet: true, log: (text) => lines.push(text) },
  );
  return { ...result, text: lines.join('\n') };
}

it('draws pairs and trains SFT and both methods for each seed, goes on where it was, and reports the paper’s panels', async () => {
  await run();
  const untouched = ['seed-0/data/train.jsonl', 'seed-0/sft/run.json', 'seed-0/gr-ipo/run.json'];
  const times = () => untouched.map((name) => statSync(at(name)).mtimeMs);
  const before = times();
  const seeds = await run({ seeds: [0, 1] });
  expect(times()).toEqual(before);
  expect(seeds.text.match(/already done/g)).toHaveLength(3);
  expect(seeds.runs).toEqual([0, 1].flatMap((seed) => ['ipo', 'gr-ipo'].map((method) => at(`seed-${seed}`, method))));

  // Both methods start at the SFT model of their seed, where every IPO loss is 1/(4β²), and see the same pairs, which each seed redraws.
  const firstLines = seeds.runs.map((name) =>
    JSON.parse(readFileSync(join(name, 'metrics.jsonl'), 'utf8').split('\n')[0]),
  );
  for (const line of firstLines) expect(line['eval_worst/loss']).toBeCloseTo(2500, 6);
  const hashes = seeds.runs.map((name) => JSON.parse(readFileSync(join(name, 'run.json'), 'utf8')).dataHash);
  expect([hashes[1], hashes[3]]).toEqual([hashes[0], hashes[2]]);
  const pairs = (seed: number, split: string) =>
    read(`seed-${seed}/data/${split}.jsonl`)
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { prompt: string; chosen: string; rejected: string });
  for (const split of ['train', 'test']) {
    const [one, two] = [0, 1].map((seed) => new Map(pairs(seed, split).map((pair) => [pair.prompt, pair])));
    const both = [...one.values()].filter(({ prompt }) => two.has(prompt));
    expect(both.length).toBeLessThan(one.size);
    for (const { prompt, chosen } of both) expect(two.get(prompt)!.chosen).toBe(chosen);
    if (split === 'train')
      expect(both.filter(({ prompt, rejected }) => two.get(prompt)!.rejected !== rejected).length).toBeGreaterThan(0);
  }

  // The claims are those of the runs' own test scores.
  const worst = (method: string) =>
    [0, 1].map((seed) => JSON.parse(read(`seed-${seed}`, method, 'evaluation.json')).worst.loss as number);
  const [ipo, grIpo] = [worst('ipo'), worst('gr-ipo')];
  const differences = [grIpo[0] - ipo[0], grIpo[1] - ipo[1]];
  const mean = (differences[0] + differences[1]) / 2;
  const error = Math.abs(differences[0] - differences[1]) / 2;
  expect(seeds.checks[0].difference?.mean).toBeCloseTo(mean, 9);
  expect(seeds.checks[0].difference?.standard_error).toBeCloseTo(error, 9);
  expect(seeds.checks[0].outcome).toBe(mean >= 0 ? 'fails' : mean < -12.706 * error ? 'holds' : 'unclear');
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
  await expect(run({ authors: true })).rejects.toThrow(/field "sft: optimizer\.warmupSteps": is 150, but was 12/);
  await expect(run({ groups: ['Avaland', 'Bremia'] })).rejects.toThrow(/field "groups"/);

  // The command is the same, and tells by its exit code whether the claims hold.
  const command = commandLine('--json', '--seeds', '0-1');
  const { status, stdout, stderr } = spawnSync(process.execPath, command, { encoding: 'utf8' });
  expect(JSON.parse(stdout).checks, stderr).toEqual(seeds.checks);
  expect(status).toBe(seeds.checks.some(({ outcome }) => outcome === 'fails') ? 1 : 0);
  // One outcome for the terminal, the exit code and the page.
  for (const { outcome, claim, detail } of seeds.checks) {
    expect(seeds.text).toContain(` ${outcome}: ${claim} (${detail})`);
    expect(page).toContain(`${outcome}</span> ${claim} (${detail})</li>`);
  }
});

it('goes on on another device with the types of numbers that it began with, new methods too', async () => {
  const opened = pretendCards(1);
  const { text } = await run({ methods: [...comparedMethods, 'dpo'], device: 'cuda' });
  expect(text.match(/already done/g)).toHaveLength(3);
  expect(opened.map(({ device, dtype }) => [device, dtype])).toEqual([['cuda:0', 'float32']]);
  const { 'sft: dtype': sft, 'dpo: dtype': dpo, ...others } = JSON.parse(read('experiment.json'));
  expect([sft, dpo]).toEqual(['float32', 'float32']);
  expect(Object.keys(others).filter((key) => key.includes('device'))).toEqual([]);
});

it('tests every question once in folds, adds methods to what is done, and judges the folds together', async () => {
  const target = join(root, 'folds');
  const changes = { folder: target, folds: 3, groups: ['Avaland', 'Elmark'], overrides: [...overrides, 'epochs=0.25'] };
  const first = await run({ ...changes, methods: ['ipo'] });
  expect(first.runs).toEqual([1, 2, 3].map((fold) => join(target, 'seed-0', `fold-${fold}`, 'ipo')));
  const two = await run({ ...changes, methods: ['is-ipo', 'ipo', 'gr-ipo'] });
  expect(two.text.match(/already done/g)).toHaveLength(6);
  const pooled = JSON.parse(readFileSync(join(target, 'pooled.json'), 'utf8'));
  const lines = (file: string) =>
    readFileSync(join(target, 'seed-0', file), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
  const tested = [1, 2, 3].flatMap((fold) => lines(`fold-${fold}/data/test.jsonl`));
  expect(pooled.questions).toBe(new Set(tested.map(({ question }) => question)).size);
  const scores = [1, 2, 3].flatMap((fold) => lines(`fold-${fold}/gr-ipo/evaluation-best-pairs.jsonl`));
  expect(scores).toHaveLength(tested.length);
  const worst = Math.max(
    ...changes.groups.map((name) => {
      const losses = scores.filter(({ group }) => group === name).map(({ loss }) => loss);
      return losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
    }),
  );
  expect(pooled.methods['gr-ipo'].measures['worst-group loss'].mean).toBeCloseTo(worst, 9);
  const pool = ['--import', 'tsx', 'experiments/global-opinions/pool.ts', join(target, 'tested.csv')];
  const again = spawnSync(process.execPath, [...pool, '--json'], { encoding: 'utf8' });
  expect(JSON.parse(again.stdout), again.stderr).toEqual(pooled);
  const text = spawnSync(process.execPath, pool, { encoding: 'utf8' }).stdout;
  expect(text).toContain('## All folds together');
  expect(text).toContain(`${pooled.checks[0].outcome} ${pooled.checks[0].claim}`);
  const some = spawnSync(process.execPath, [...pool, '--methods', 'gr-ipo,is-ipo', '--json'], { encoding: 'utf8' });
  expect(JSON.parse(some.stdout).methods['gr-ipo'], some.stderr).toEqual(pooled.methods['gr-ipo']);
  expect(Object.keys(JSON.parse(some.stdout).methods).sort()).toEqual(['gr-ipo', 'is-ipo']);
  const none = spawnSync(process.execPath, [...pool, '--seeds', '0-1'], { encoding: 'utf8' });
  expect([none.status, none.stderr]).toEqual([2, expect.stringContaining('field "--seeds": 1: no pair was tested so')]);
  expect(two.checks.map(({ claim }) => claim)).toContain('GR-IPO lowers the worst group’s test loss against IS-IPO');
  const page = readFileSync(join(target, 'report.html'), 'utf8');
  expectSoundPage(page);
  expect(page).toContain('All folds together');
  await expect(run({ ...changes, folds: 4 })).rejects.toThrow(/field "folds": is 4, (and|but) was 3/);
});

it('lists its runs as a line of commands for each fold, and reports what they have made', async () => {
  const target = join(root, 'listed');
  const flags = ['--seeds', '0', '--folds', '3', '--set', 'epochs=0.25', '--out', target];
  const command = commandLine(...flags).filter((word) => word !== '--quiet');
  const list = () => {
    const { stdout, stderr } = spawnSync(process.execPath, [...command, '--list'], { encoding: 'utf8' });
    expect(stderr).not.toContain('error');
    return stdout.split('\n').slice(0, -1);
  };
  const lines = list();
  expect(lines.map((line) => line.match(/node bin\/group-robust\.js train /g)?.length)).toEqual([3, 3, 3]);
  expect(existsSync(join(target, 'seed-0/fold-3/data/test.jsonl'))).toBe(true);
  expect(runCommand(lines[1], '.')).toBe('');
  expect(list()).toEqual([lines[0], lines[2]]);
  const { text, runs } = await run({ folder: target, folds: 3, overrides: [...overrides, 'epochs=0.25'] });
  expect(text.match(/already done/g)).toHaveLength(3);
  expect(runs).toHaveLength(6);
  expect(list()).toEqual([]);
});

it('a mistake in what it reads leaves nothing behind that stands in the way of the right command', async () => {
  const target = join(root, 'mistaken');
  const mistake = (changes: Partial<OpinionExperiment>, message: RegExp) =>
    expect(run({ folder: target, ...changes })).rejects.toThrow(message);
  await mistake({ file: join(root, 'none.csv') }, /none\.csv/);
  await mistake({ groups: ['Avaland', 'Nowhere'] }, /Nowhere/);
  expect(existsSync(target)).toBe(false);
  await mistake({ model: join(root, 'no-model') }, /no-model/);
  await mistake({ groups: ['Avaland', 'Bremia'] }, /field "groups"/);
  writeFileSync(join(root, 'plain-file'), '');
  await mistake({ model: join(root, 'plain-file') }, /plain-file/);
});

/** Runs the command in a new process; the first output that matches `at` is answered by `signal`. */
function signalled(at: RegExp, signal: NodeJS.Signals): Promise<{ code: number | null; output: string }> {
  const child = spawn(process.execPath, commandLine('--seeds', '0'), { stdio: ['ignore', 'pipe', 'pipe'] });
  return new Promise((done) => {
    let output = '';
    let sent = false;
    const hear = (text: Buffer) => {
      output += text;
      if (sent || !at.test(output)) return;
      sent = child.kill(signal);
    };
    child.stdout.on('data', hear);
    child.stderr.on('data', hear);
    child.on('close', (code) => done({ code, output }));
  });
}

/** SHA-256 of all files that hold no times. */
function contents(): Record<string, string> {
  const timed = /(^|\/)(run\.json|report\.html|events\..*)$/;
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) =>
    statSync(at(name)).isFile(),
  );
  const sum = (name: string) =>
    createHash('sha256')
      .update(readFileSync(at(name)))
      .digest('hex');
  return Object.fromEntries(files.filter((name) => !timed.test(name)).map((name) => [name, sum(name)]));
}

it('stopped by signals, the same command goes on and ends in the same bytes', async () => {
  const fresh = () => rmSync(folder, { recursive: true, force: true });
  fresh();
  const straight = await run();
  const expected = contents();
  fresh();
  // Once in each run.
  for (const [moment, signal, status] of [
    [/sft: \d+ steps of/, 'SIGINT', 130],
    [/ipo: \d+ steps of/, 'SIGTERM', 143],
    [/gr-ipo: \d+ steps of/, 'SIGINT', 130],
  ] as const) {
    const { code, output } = await signalled(moment, signal);
    expect(output).toMatch(new RegExp(`error: stopped by ${signal} .*\\n {2}fix: run the same command to go on`));
    expect(code, output).toBe(status);
    expect(existsSync(at('report.html'))).toBe(false);
  }
  const again = await run();
  expect(again.checks).toEqual(straight.checks);
  expect(contents()).toEqual(expected);
  expect(Object.keys(expected)).toContain('seed-0/gr-ipo/adapter/adapter_model.safetensors');
});

it('places its runs whatever the path holds', () => {
  const output = "runs: #1, [it's] {50 %}";
  const place = { seed: 3, output, data: 'a: b', sft: '- c' };
  const config = loadConfig(stageConfig(experimentFolder('survey'), 'gr-ipo').file, placeSettings('gr-ipo', place));
  expect(config.output).toBe(output);
  expect(config.data).toMatchObject({ train: 'a: b/train.jsonl', test: 'a: b/test.jsonl' });
  expect([config.seed, config.adapter]).toEqual([3, '- c/adapter']);
});

it('has steps on α, with and without --authors, that take it where the authors’ two micro-batches of 8 do', () => {
  const sizes = [458, 456, 301, 247, 570];
  const pairs = sizes.reduce((sum, size) => sum + size);
  const random = Random.stream(0, 'losses');
  const batches = Array.from({ length: 50 }, () =>
    Array.from({ length: 16 }, () => ({ group: random.integer(5), loss: 2500 * random.uniform() })),
  );
  // Their code: α_g exp(5e-7 · (N / N_g) · sum of the micro-batch's losses of g), after each micro-batch.
  let theirs = sizes.map(() => 1 / 5);
  for (const half of batches.flatMap((batch) => [batch.slice(0, 8), batch.slice(8)])) {
    const sums = sizes.map((_, g) => half.reduce((sum, { group, loss }) => sum + (group === g ? loss : 0), 0));
    const grown = theirs.map((alpha, g) => alpha * Math.exp((5e-7 * pairs * sums[g]) / sizes[g]));
    theirs = grown.map((alpha) => alpha / grown.reduce((sum, each) => sum + each));
  }
  expect(Math.max(...theirs) - Math.min(...theirs)).toBeGreaterThan(0.02);
  for (const settings of [[], ['objective.scaling=paper', 'objective.step=5e-7']]) {
    const { objective } = loadConfig(stageConfig(experimentFolder('global-opinions'), 'gr-ipo').file, settings);
    if (objective.weights !== 'mirror-ascent') throw new Error(`weights: ${objective.weights}`);
    const weighting = groupWeights({ weights: 'mirror-ascent', step: objective.step }, sizes);
    for (const batch of batches) {
      const totals = new GroupTotals(5);
      for (const { group, loss } of batch) totals.add(group, loss);
      const probabilities = sizes.map((size) => size / pairs);
      robustStep(totals, weighting, probabilities, objective.scaling);
    }
    for (const [g, alpha] of weighting.alpha.entries()) expect(alpha).toBeCloseTo(theirs[g], 12);
  }
});
