import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';

const folder = mkdtempSync(join(tmpdir(), 'bandit-'));
afterAll(() => rmSync(folder, { recursive: true }));

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

test.each([
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
