import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { temporaryFolder } from '../temporary-folder.js';
import { groupRobust } from './run.js';

/** The command line on the golden fixture, made with transformers, PEFT and PyTorch (see test/fixtures/gemma-tiny). */
const model = resolve('test/fixtures/gemma-tiny');
const golden = JSON.parse(readFileSync(join(model, 'golden.json'), 'utf8')) as {
  pairs: { group: number; prompt: number[]; chosen: number[]; rejected: number[] }[];
  reference: [number, number][];
  policy: [number, number][];
  after_training: [number, number][];
  losses: Record<string, { per_pair: number[] }>;
  training: { trace: { group_losses: number[]; alpha: number[]; weighted: number; grad_norm: number }[] };
};
const folder = temporaryFolder();
const at = (name: string) => join(folder, name);

const pairs = at('pairs.jsonl');
writeFileSync(
  pairs,
  golden.pairs
    .map(({ group, prompt, chosen, rejected }) =>
      JSON.stringify({ group: `g${group}`, prompt_ids: prompt, chosen_ids: chosen, rejected_ids: rejected }),
    )
    .join('\n'),
);
const scoring = ['--model', model, '--adapter', join(model, 'adapter'), '--pairs', pairs];

const config = {
  model,
  adapter: join(model, 'adapter'),
  reference: 'base',
  output: at('run'),
  data: { train: pairs, groups: ['g0', 'g1', 'g2'] },
  objective: { loss: 'ipo', beta: 0.1, weights: 'mirror-ascent', step: 0.01 },
  optimizer: { learningRate: 0.005, weightDecay: 0.01, maxGradNorm: 10 },
  batch: { size: 9, micro: 4 },
  steps: 5,
};
writeFileSync(at('config.yaml'), stringify(config));

/** Compares lines of `logprobs` with [chosen, rejected] rows. */
function expectScores(lines: Record<string, number>[], prefix: string, rows: [number, number][], tolerance: number) {
  expect(lines).toHaveLength(rows.length);
  lines.forEach((line, i) => {
    expect(Math.abs(line[`${prefix}chosen`] - rows[i][0])).toBeLessThan(tolerance);
    expect(Math.abs(line[`${prefix}rejected`] - rows[i][1])).toBeLessThan(tolerance);
  });
}

const linesOf = (text: string) =>
  text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, number>);

describe('logprobs', () => {
  it('agrees with transformers and PEFT, with the adapter and without', () => {
    const { status, stdout } = groupRobust(['logprobs', ...scoring, '--out', at('logprobs.jsonl'), '--batch', '4']);
    expect(stdout).toMatch(/logprobs\.jsonl: \d+ pairs\n$/);
    expect(status).toBe(0);
    const lines = linesOf(readFileSync(at('logprobs.jsonl'), 'utf8'));
    expectScores(lines, '', golden.policy, 1e-5);
    expectScores(lines, 'reference_', golden.reference, 1e-5);
  });

  it('writes the lines to stdout for --out -', () => {
    const { stdout } = groupRobust(['logprobs', ...scoring, '--out', '-']);
    expectScores(linesOf(stdout), '', golden.policy, 1e-5);
  });
});

describe('the program', () => {
  it('tells its version, and ends quietly when its reader has seen enough', () => {
    expect(groupRobust(['--version']).stdout.trim()).toMatch(/^\d+\.\d+\.\d+$/);
    const { status, stderr } = spawnSync(
      'bash',
      ['-c', `set -o pipefail; '${process.execPath}' dist/cli/main.js converge --help | head -c 1`],
      {
        encoding: 'utf8',
      },
    );
    expect([status, stderr]).toEqual([0, '']);
  });
});

describe('eval', () => {
  it.each([
    ['dpo,beta=0.1', 'dpo-beta0.1-eps0.0'],
    ['dpo,beta=0.1,labelSmoothing=0.2', 'dpo-beta0.1-eps0.2'],
    ['ipo,beta=0.1', 'ipo-beta0.1-eps0.0'],
    ['hinge,beta=0.5', 'hinge-beta0.5-eps0.0'],
  ])('%s gives the exact mean of every group', (objective, name) => {
    const { json, status } = groupRobust(['eval', ...scoring, '--objective', objective, '--json']);
    expect(status).toBe(0);
    for (const g of [0, 1, 2]) {
      const own = golden.losses[name].per_pair.filter((_, i) => golden.pairs[i].group === g);
      const mean = own.reduce((sum, loss) => sum + loss, 0) / own.length;
      expect(json.groups[`g${g}`].count).toBe(own.length);
      expect(Math.abs(json.groups[`g${g}`].loss / mean - 1)).toBeLessThan(1e-5);
    }
    expect(json.worst.loss).toBe(Math.max(...[0, 1, 2].map((g) => json.groups[`g${g}`].loss)));
  });
});

describe('train', () => {
  it('follows the golden trace: losses, α, gradient norms, and the log-probs after it', () => {
    const { json, status, stderr } = groupRobust(['train', at('config.yaml'), '--json']);
    expect(stderr).not.toContain('error');
    // With reference: base the trained adapter is meant to differ from the reference.
    expect(stderr).not.toContain('differ before training');
    expect(status).toBe(0);
    expect(json).toMatchObject({ method: 'gr-ipo', steps: 5 });
    const lines = linesOf(readFileSync(at('run/metrics.jsonl'), 'utf8'));
    expect(lines.map((line) => line.step)).toEqual([0, 1, 2, 3, 4, 5]);
    golden.training.trace.forEach((step, t) => {
      const line = lines[t + 1];
      const near = (actual: number, expected: number) => expect(Math.abs(actual / expected - 1)).toBeLessThan(1e-3);
      step.group_losses.forEach((loss, g) => {
        near(line[`group/g${g}/loss`], loss);
        near(line[`group/g${g}/alpha`], step.alpha[g]);
      });
      near(line.loss, step.weighted);
      near(line.grad_norm, step.grad_norm);
    });
    const after = ['--model', model, '--adapter', at('run/adapter'), '--pairs', pairs];
    const { stdout } = groupRobust(['logprobs', ...after, '--out', '-']);
    expectScores(linesOf(stdout), '', golden.after_training, 1e-3);
    expect(readFileSync(at('run/alpha.csv'), 'utf8').trim().split('\n')).toHaveLength(1 + 6);
  });

  it('refuses to write over a run', () => {
    const { status, stderr } = groupRobust(['train', at('config.yaml')]);
    expect(status).toBe(2);
    expect(stderr).toContain('already exists');
  });

  it('starts an adapter’s own reference from it: every margin is 0 at first', () => {
    const settings = [`output=${at('start')}`, 'reference=start', 'steps=1', `data.validation=${pairs}`];
    const { status, stderr } = groupRobust([
      'train',
      at('config.yaml'),
      ...settings.flatMap((value) => ['--set', value]),
    ]);
    expect(status).toBe(0);
    expect(stderr).not.toContain('differ before training');
    const [start, first] = linesOf(readFileSync(at('start/metrics.jsonl'), 'utf8'));
    // Evaluation scores in the reference's own batches, so nothing is rounded otherwise; training batches are others.
    expect([start['eval_rewards/margins'], start['eval_rewards/accuracies'], start.eval_loss]).toEqual([0, 0, 25]);
    expect(Math.abs(first['rewards/margins'])).toBeLessThan(1e-7);
    expect(Math.abs(first.loss - 25)).toBeLessThan(1e-5);
  });

  it.each([
    ['dpo', ['objective={loss: dpo, beta: 0.1}']],
    ['is-ipo', ['objective={loss: ipo, beta: 0.1, weights: importance}']],
    ['gr-dpo', ['objective={loss: dpo, beta: 0.1, weights: mirror-ascent, step: 0.1}']],
    ['sft', ['objective={loss: sft}', 'reference=null']],
  ])('runs %s, and its loss falls', (method, overrides) => {
    const settings = [`output=${at(method)}`, 'steps=15', ...overrides].flatMap((setting) => ['--set', setting]);
    const { json, status } = groupRobust(['train', at('config.yaml'), ...settings, '--json']);
    expect(status).toBe(0);
    expect(json.method).toBe(method);
    const lines = linesOf(readFileSync(at(`${method}/metrics.jsonl`), 'utf8'));
    expect(lines[15].mean_loss).toBeLessThan(0.9 * lines[1].mean_loss);
  });
});

describe('bad input', () => {
  const bad = (name: string, text: string) => {
    writeFileSync(at(name), text);
    return at(name);
  };
  const good = { group: 'g0', prompt_ids: [2, 5], chosen_ids: [7, 1], rejected_ids: [8, 1] };
  const file = (name: string, ...rows: object[]) => bad(name, rows.map((row) => JSON.stringify(row)).join('\n'));

  const trainOn = (pairsFile: string, ...settings: string[]) => [
    'train',
    at('config.yaml'),
    ...[`data={train: ${pairsFile}}`, `output=${at('none')}`, ...settings].flatMap((setting) => ['--set', setting]),
  ];

  it.each<[string, () => string[], RegExp]>([
    ['no model', () => ['logprobs', '--model', at('absent'), '--pairs', pairs, '--out', at('none')], /config\.json/],
    ['no configuration', () => ['train', at('absent.yaml')], /absent\.yaml: cannot be read/],
    ['an unknown key', () => trainOn(pairs, 'batch.sizes=3'), /"batch\.sizes".*unknown key/],
    ['an unknown flag', () => ['eval', ...scoring, '--colour', 'red'], /unknown option/],
    ['an unknown loss', () => ['eval', ...scoring, '--objective', 'kto,beta=1'], /--objective loss/],
    [
      'an empty answer',
      () => trainOn(file('empty.jsonl', good, { ...good, chosen_ids: [] })),
      /empty\.jsonl:2, field "chosen_ids"/,
    ],
    [
      'an answer that is too long',
      () => [...trainOn(file('long.jsonl', good)), '--set', 'data.maxLength=3'],
      /long\.jsonl:1.*too long/,
    ],
    [
      'an id outside the vocabulary',
      () => trainOn(file('ids.jsonl', { ...good, rejected_ids: [192] })),
      /ids\.jsonl:1, field "rejected_ids"/,
    ],
    [
      'NaN in the data',
      () => trainOn(bad('nan.jsonl', `${JSON.stringify(good).slice(0, -1)},"weight":NaN}`)),
      /nan\.jsonl:1/,
    ],
    [
      'a missing field',
      () => trainOn(file('field.jsonl', { group: 'g0', prompt_ids: [2], chosen_ids: [1] })),
      /rejected/,
    ],
    [
      'text without a tokenizer',
      () => trainOn(file('text.jsonl', { group: 'a', prompt: 'b', chosen: 'c', rejected: 'd' })),
      /tokenizer/,
    ],
    [
      'targets that do not exist',
      () => trainOn(pairs, 'adapter=null', 'reference=null', 'lora={targets: [q_prj]}'),
      /q_prj/,
    ],
    ['a floor above 1/K', () => trainOn(pairs, 'objective.floor=0.5'), /floor/],
    ['numbers for other groups', () => trainOn(pairs, 'objective.adjustment=[1, 2]'), /adjustment has 2/],
    ['batches too small for all groups', () => trainOn(pairs, 'batch={size: 2, sampler: stratified}'), /batch of 2/],
  ])('%s: exit 2, a message, and nothing left behind', (_, args, message) => {
    const before = readdirSync(folder).sort();
    const { status, stderr, stdout } = groupRobust(args());
    expect(stderr).toMatch(message);
    expect(status).toBe(2);
    expect(stdout).toBe('');
    expect(existsSync(at('none'))).toBe(false);
    const made = readdirSync(folder).filter((name) => !before.includes(name) && !name.endsWith('.jsonl'));
    expect(made).toEqual([]);
  });

  it.each<[string, (bytes: Buffer) => Buffer]>([
    ['truncated', (bytes) => bytes.subarray(0, bytes.length - 100)],
    ['cut inside the header', (bytes) => bytes.subarray(0, 500)],
    ['of another shape', (bytes) => Buffer.from(bytes.toString('latin1').replace('[192,48]', '[48,192]'), 'latin1')],
    ['of another name', (bytes) => Buffer.from(bytes.toString('latin1').replace('model.norm', 'model.form'), 'latin1')],
    ['with NaN', (bytes) => Buffer.concat([bytes.subarray(0, bytes.length - 4), Buffer.from([0, 0, 0xc0, 0x7f])])],
  ])('weights %s are named', (name, spoil) => {
    const copy = mkdtempSync(join(folder, 'model-'));
    writeFileSync(join(copy, 'config.json'), readFileSync(join(model, 'config.json')));
    writeFileSync(join(copy, 'model.safetensors'), spoil(readFileSync(join(model, 'model.safetensors'))));
    const { status, stderr } = groupRobust(['logprobs', '--model', copy, '--pairs', pairs, '--out', at('none')]);
    expect(stderr, name).toContain('model.safetensors');
    expect(status).toBe(2);
    expect(existsSync(at('none'))).toBe(false);
  });
});
