import { existsSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { resolveConfig } from '../src/train/config.js';
import { fencedBlocks, localLinks, runCommand, shellCommands } from './commands.js';

/** The README promises commands: each is run here as it is written, in order, in an empty folder beside experiments/. */
const folder = mkdtempSync(join(tmpdir(), 'readme-'));
symlinkSync(resolve('experiments'), join(folder, 'experiments'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('README', () => {
  it.each(shellCommands('README.md'))('%s', { timeout: 240_000 }, (command) => {
    expect(runCommand(command, folder)).toBe('');
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
    const [config] = fencedBlocks('README.md', 'yaml');
    expect(() => resolveConfig(parse(config), () => ({}))).not.toThrow();
  });

  it('names only files that exist', () => {
    for (const path of localLinks('README.md')) expect(existsSync(path), path).toBe(true);
  });
});
