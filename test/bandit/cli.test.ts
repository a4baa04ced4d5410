import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { temporaryFolder } from '../temporary-folder.js';

const folder = temporaryFolder();

function bandit(...flags: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, ['--import', 'tsx', 'src/cli/main.ts', 'bandit', ...flags], (error, stdout, stderr) =>
      resolve({ code: Number(error?.code ?? 0), stdout, stderr }),
    );
  });
}

test('--json prints one object, --out writes the same and a CSV', async () => {
  const out = join(folder, 'run');
  const flags = ['--features', 'same', '--methods', 'gr-ipo,ipo', '--seeds', '1-2,5', '--chi', '0.5', '--out', out];
  const { code, stdout, stderr } = await bandit(...flags, '--json');
  expect(code).toBe(0);
  const report = JSON.parse(stdout);
  expect(report.setting).toEqual({ features: 'same', responses: 'uneven', data: 'imbalanced' });
  expect(report.seeds).toEqual([1, 2, 5]);
  expect(Object.keys(report.methods)).toEqual(['gr-ipo', 'ipo']);
  const robust = report.methods['gr-ipo'];
  expect(robust.settings.weights.chi).toBe(0.5);
  expect(robust.max_validation_loss.standard_error).toBeGreaterThan(0);
  expect(robust.relative_max_reward_error.mean).toBeGreaterThan(0);
  expect(robust.alpha).toHaveLength(2);
  expect(robust.theta.map((theta: number[]) => theta.length)).toEqual([4, 4, 4]);
  expect(JSON.parse(readFileSync(join(out, 'results.json'), 'utf8'))).toEqual(report);
  expect(readFileSync(join(out, 'results.csv'), 'utf8').trimEnd().split('\n')).toHaveLength(7);
  expect(stderr).toContain('gr-ipo');
});

test('every option is read, and shown in the result', async () => {
  const flags = [
    '--methods',
    'gr-dpo,gr-ipo',
    '--seeds',
    '1',
    '--iterations',
    '20',
    '--groups',
    '3',
    '--dimension',
    '2',
  ];
  flags.push('--deterministic-ratio', '0.8,1,0', '--reference-theta=-1,0.5');
  flags.push('--radius', '3', '--average');
  flags.push('--ridge', '0.1', '--adaptive-theta', '0.3', '--adaptive-alpha', '0.5');
  const { code, stdout } = await bandit(...flags, '--json');
  expect(code).toBe(0);
  const { setting, methods } = JSON.parse(stdout);
  expect(setting).toMatchObject({
    groups: 3,
    dimension: 2,
    deterministicRatio: [0.8, 1, 0],
    referenceTheta: [-1, 0.5],
  });
  expect(methods['gr-dpo'].settings).toMatchObject({ radius: 3, average: true });
  expect(methods['gr-ipo'].settings.radius).toBeUndefined();
  expect(methods['gr-dpo'].settings).toMatchObject({ ridge: 0.1, adaptive: { theta: 0.3, alpha: 0.5 } });
  expect(methods['gr-ipo'].settings.adaptive).toEqual({ alpha: 0.5 });
  expect(methods['gr-dpo'].alpha).toHaveLength(3);
  expect(methods['gr-dpo'].theta[0]).toHaveLength(2);
});

test('all losses, steps, adjustment, smoothing and batches are read too', async () => {
  const flags = [
    '--methods',
    'gr-dpo,gr-hinge,ipo',
    '--seeds',
    '1',
    '--iterations',
    '20',
    '--beta',
    '0.5',
    '--batch',
    '50',
  ];
  flags.push('--theta-step', '0.3', '--alpha-step', '0.2', '--adjustment', '1,2', '--label-smoothing', '0.1');
  const { code, stdout, stderr } = await bandit(...flags, '--json');
  expect(code, stderr).toBe(0);
  const { methods } = JSON.parse(stdout);
  const steps = { solver: 'gradient', learningRate: 0.3, batch: 50, iterations: 20 };
  const weights = { step: 0.2, adjustment: [1, 2] };
  expect(methods['gr-dpo'].settings).toMatchObject({ ...steps, weights, loss: { beta: 0.5, labelSmoothing: 0.1 } });
  expect(methods['gr-hinge'].settings).toMatchObject({ ...steps, weights, loss: { loss: 'hinge', beta: 0.5 } });
  expect(methods.ipo.settings).toMatchObject({ ...steps, loss: { beta: 0.5 } });
});

test.each([
  { flags: ['--methods', 'ipo,hinge', '--label-smoothing', '0.1'], says: /--label-smoothing.*no effect on ipo, hinge/ },
  { flags: ['--label-smoothing', '0.5'], says: /--label-smoothing.*below 0.5/ },
  { flags: ['--methods', 'dpo', '--alpha-step', '1'], says: /--alpha-step.*no effect on dpo/ },
  { flags: ['--methods', 'dpo', '--adjustment', '1'], says: /--adjustment.*no effect on dpo/ },
  { flags: ['--methods', 'gr-dpo', '--adjustment', '1,2,3'], says: /adjustment has 3 entries for 2 groups/ },
  { flags: ['--batch', '0'], says: /--batch/ },
  { flags: ['--methods', 'dpo', '--batch', '301'], says: /batch.*\[1, 300\]/ },
  { flags: ['--methods', 'dpo', '--theta-step', '1', '--adaptive-theta', '1'], says: /--theta-step.*--adaptive-theta/ },
  { flags: ['--methods', 'ipo,gr-ipo', '--adaptive-theta', '1'], says: /--adaptive-theta.*no effect on ipo, gr-ipo/ },
  { flags: ['--methods', 'dpo', '--adaptive-alpha', '1'], says: /--adaptive-alpha.*no effect on dpo/ },
  { flags: ['--methods', 'ipo,gr-ipo', '--radius', '1'], says: /--radius.*no effect on ipo, gr-ipo/ },
  { flags: ['--methods', 'ipo,is-ipo', '--average'], says: /--average.*no effect on ipo, is-ipo/ },
  { flags: ['--radius', '0'], says: /--radius.*above zero/ },
  { flags: ['--adaptive-alpha', '0'], says: /--adaptive-alpha.*above zero/ },
  { flags: ['--dimension', '3'], says: /dimension must be 2, 4, 6/ },
  { flags: ['--deterministic-ratio', '1.5'], says: /--deterministic-ratio.*\[0, 1\]/ },
  { flags: ['--reference-theta', '1,2'], says: /referenceTheta must be 4 numbers/ },
  { flags: ['--features', 'foo'], says: /features/ },
  { flags: ['--methods', 'dpo,grpo'], says: /--methods.*"grpo"/ },
  { flags: ['--methods', 'dpo,ipo', '--chi', '0.5'], says: /--chi.*no effect on dpo, ipo/ },
  { flags: ['--methods', 'ipo,is-ipo', '--iterations', '5'], says: /--iterations.*no effect/ },
  { flags: ['--chi', '1.5'], says: /--chi.*\[0, 1\]/ },
  { flags: ['--seeds', '5-2'], says: /--seeds/ },
  { flags: ['--out', folder], says: /already exists/ },
])('$flags is refused with exit code 2 and nothing written', async ({ flags, says }) => {
  const before = readdirSync(folder);
  const { code, stdout, stderr } = await bandit(...flags);
  expect(code).toBe(2);
  expect(stdout).toBe('');
  expect(stderr).toMatch(says);
  expect(readdirSync(folder)).toEqual(before);
});

test('--weighting takes the keys of a configuration, for the methods whose weights move', async () => {
  const weighting = ['--weighting', '{weights: best-response, iterate: average, ambiguity: {set: cvar, level: 0.4}}'];
  const flags = ['--methods', 'ipo,gr-ipo', '--seeds', '1', '--iterations', '30', '--json'];
  const { code, stdout } = await bandit(...flags, ...weighting);
  expect(code).toBe(0);
  const { methods } = JSON.parse(stdout);
  expect(methods['gr-ipo'].settings.weights).toEqual({
    weights: 'best-response',
    iterate: 'average',
    ambiguity: { set: 'cvar', level: 0.4 },
  });
  expect(methods.ipo.settings.weights).toEqual({ weights: 'erm' });
  // No group counts more than its share, 60 and 240 of 300, over 0.4.
  expect(methods['gr-ipo'].alpha[0]).toBeCloseTo(0.5, 9);
});

test.each([
  [['--weighting', '{weights: optimistic}'], '--weighting step'],
  [['--weighting', '{weights: optimistic, step: 1, ambiguity: {set: ball}}'], '--weighting ambiguity set'],
  [['--weighting', '{weights: mirror-ascent, step: 1, scaling: paper}'], 'scaling'],
  [['--weighting', 'optimistic'], 'not a YAML mapping'],
  [['--weighting', '{weights: best-response}', '--chi', '0.5'], '"--chi": does nothing with --weighting'],
  [['--weighting', '{weights: best-response}', '--adaptive-alpha', '0.5'], 'no step size'],
  [['--weighting', '{weights: best-response}', '--methods', 'dpo'], '--weighting'],
  [['--weighting', '{weights: erm}'], 'erm weights do not move'],
])('%j is refused', async (flags, text) => {
  const { code, stderr } = await bandit('--seeds', '1', '--iterations', '1', '--quiet', ...flags);
  expect(stderr).toContain(text);
  expect(code).toBe(2);
});
