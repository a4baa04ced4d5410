import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { parsedOutput } from '../cli/run.js';
import { temporaryFolder } from '../temporary-folder.js';

const root = temporaryFolder();

const command = (...args: string[]) =>
  spawnSync(process.execPath, ['--import', 'tsx', 'experiments/survey/run.ts', ...args], { encoding: 'utf8' });

it('compares IPO and GR-IPO over the seeds it is given', { timeout: 600_000 }, () => {
  const out = join(root, 'out');
  const run = command('--seeds', '3-4', '--set', 'epochs=0.1', '--quiet', '--json', '--out', out);
  const { report, checks, runs } = parsedOutput(run);
  expect(runs).toEqual([3, 4].flatMap((seed) => ['ipo', 'gr-ipo'].map((name) => join(out, `seed-${seed}`, name))));

  const worst = runs.map(
    (folder: string) => JSON.parse(readFileSync(join(folder, 'evaluation.json'), 'utf8')).worst.loss,
  );
  const mean = (worst[1] - worst[0] + worst[3] - worst[2]) / 2;
  const [check] = checks.filter(({ claim }: { claim: string }) => claim.includes('worst group'));
  expect(check.difference.mean).toBeCloseTo(mean, 9);
  expect(run.status, run.stderr).toBe(checks.some(({ outcome }: { outcome: string }) => outcome === 'fails') ? 1 : 0);
  // Seeds on which settings were chosen are named as such, on the terminal and on the page.
  const note = 'judged on seeds from 100 on; of these 2, 2 are lower';
  expect(run.stderr).toContain(note);
  expect(readFileSync(report, 'utf8')).toContain(note);
  expect(readFileSync(join(out, 'runs.csv'), 'utf8')).toContain('seed-4');

  // Nothing is written over.
  expect(command('--out', out).status).toBe(2);
});
