import { existsSync, readFileSync, symlinkSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { resolveConfig } from '../src/train/config.js';
import { fencedBlocks, localLinks, runCommand, shellCommands } from './commands.js';
import { temporaryFolder } from './temporary-folder.js';

/** The README promises commands: each is run here as it is written, in order, in an empty folder beside experiments/. */
const folder = temporaryFolder();
symlinkSync(resolve('experiments'), join(folder, 'experiments'));

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

  it('names no command outside its blocks that CI does not run', () => {
    const text = readFileSync('README.md', 'utf8').replaceAll(/```.*?```/gs, '');
    const named = [...text.matchAll(/`([^`\n]*(?:npm|group-robust|tsx) [^`]*)`|^ {4}(npm .*)$/gm)];
    const commands = named.flatMap(([, inline, line]) => (inline ?? line).split(' && '));
    expect(commands.length).toBeGreaterThan(8);
    const ci = readFileSync('.ci/run', 'utf8').replaceAll(' --silent', '');
    // What cannot be run as it stands: a model that is not ours to ship, and names to fill in.
    const tested = new Map([
      ['npx tsx experiments/global-opinions/run.ts', 'test/reproduce/global-opinions.test.ts'],
      ['group-robust merge --model M --adapter A --out DIR', 'test/policy/merge.test.ts'],
    ]);
    const elsewhere = (command: string) => existsSync(tested.get(command) ?? '');
    expect(commands.filter((command) => !ci.includes(command) && !elsewhere(command))).toEqual([]);
  });

  it('and CONTRIBUTING name only scripts and tests that exist', () => {
    const { scripts } = JSON.parse(readFileSync('package.json', 'utf8'));
    const text = ['README.md', 'CONTRIBUTING.md'].map((file) => readFileSync(file, 'utf8')).join('\n');
    const named = [...text.matchAll(/npm run (?:--silent )?([\w:-]+)/g)].map(([, name]) => name);
    expect(new Set(named).size).toBeGreaterThan(5);
    expect(named.filter((name) => !(name in scripts))).toEqual([]);
    const tests = [...text.matchAll(/\btest\/[\w/.-]+\.ts\b/g)].map(([path]) => path);
    expect(tests.filter((path) => !existsSync(path))).toEqual([]);
  });

  it('shows a configuration that is valid', () => {
    const [config] = fencedBlocks('README.md', 'yaml');
    expect(() => resolveConfig(parse(config), () => ({}))).not.toThrow();
  });

  it('names only files that exist', () => {
    for (const path of localLinks('README.md')) expect(existsSync(path), path).toBe(true);
  });
});
