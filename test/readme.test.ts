import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { resolveConfig } from '../src/train/config.js';

/** The README promises commands: each is run here as it is written, in order, in an empty folder beside experiments/. */
const readme = readFileSync('README.md', 'utf8');
const blocks = (language: string) =>
  [...readme.matchAll(new RegExp(`\`\`\`${language}\n(.*?)\`\`\``, 'gs'))].map((m) => m[1]);
const commands = blocks('sh').flatMap((block) => block.trim().split('\n'));

const program = resolve('dist/cli/main.js');
const folder = mkdtempSync(join(tmpdir(), 'readme-'));
symlinkSync(resolve('experiments'), join(folder, 'experiments'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('README', () => {
  it.each(commands)('%s', { timeout: 240_000 }, (command) => {
    const line = command.replace(/^npx group-robust /, `'${process.execPath}' '${program}' `);
    expect(line).not.toBe(command);
    const { status, stderr } = spawnSync('bash', ['-c', line], { cwd: folder, encoding: 'utf8' });
    expect(stderr + (status === 0 ? '' : `exit ${status}`)).not.toMatch(/error:|exit \d/);
  });

  it('has written what it says', () => {
    const files = [
      'config.yaml',
      'run.json',
      'metrics.jsonl',
      'alpha.csv',
      'adapter',
      'evaluation.json',
      'report.html',
    ];
    for (const file of files) expect(existsSync(join(folder, 'runs/survey/gr-ipo', file))).toBe(true);
    expect(existsSync(join(folder, 'runs/survey/ipo/comparison.html'))).toBe(true);
    expect(existsSync(join(folder, 'runs/survey/logprobs.jsonl'))).toBe(true);
  });

  it('shows a configuration that is valid', () => {
    const [config] = blocks('yaml');
    expect(() => resolveConfig(parse(config), 'README.md', () => undefined)).not.toThrow();
  });

  it('names only files that exist', () => {
    for (const [, path] of readme.matchAll(/\]\((?!https?:)([^)]+)\)/g)) expect(existsSync(path)).toBe(true);
  });
});
