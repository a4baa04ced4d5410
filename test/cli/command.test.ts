import { spawnSync } from 'node:child_process';
import { existsSync, symlinkSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseList, parseNames, parseSeeds } from '../../src/cli/command.js';
import { temporaryFolder } from '../temporary-folder.js';
import { groupRobust } from './run.js';

describe('a list of values', () => {
  it.each<[string, string[]]>([
    ['dpo,ipo', ['dpo', 'ipo']],
    [' a , b c ', ['a', 'b c']],
    ['"Korea, Republic of",Chad', ['Korea, Republic of', 'Chad']],
    ['"a ""b"""', ['a "b"']],
  ])('%s', (text, items) => expect(parseList('--groups', text)).toEqual(items));

  it.each(['', 'a,,b', 'a,', 'a\nb', '"a', 'a "b"'])('%j is refused', (text) =>
    expect(() => parseList('--groups', text)).toThrow(/--groups.*\n {2}fix: separate the values with single commas/),
  );

  it('with a value that is not among the allowed ones is refused', () =>
    expect(() => parseNames('--methods', 'dpo,dop', ['dpo', 'ipo'])).toThrow(
      /"dop" is not allowed\n {2}fix: use dpo, ipo/,
    ));
});

describe('seeds', () => {
  it('are numbers and ranges, each once', () =>
    expect(parseSeeds('--seeds', '2021-2023,2030,2022')).toEqual([2021, 2022, 2023, 2030]));

  // Beyond 2^53 the run would have another seed than the one that was asked for.
  it.each(['9007199254740993', '9007199254740990-9007199254740993', '3-1', '-1', '1.5', 'x'])('%s is refused', (text) =>
    expect(() => parseSeeds('--seeds', text)).toThrow(/is not a seed or a range of seeds/),
  );
});

describe('a usage error exits with 2 and makes nothing, help with 0:', () => {
  const folder = temporaryFolder();
  symlinkSync(resolve('node_modules'), join(folder, 'node_modules'));
  const experiment = (file: string, ...args: string[]) =>
    spawnSync(process.execPath, ['--import', 'tsx', resolve('experiments', file), ...args], {
      cwd: folder,
      encoding: 'utf8',
    });

  it.each([
    ['global-opinions/run.ts', ['--sedes', '0'], 2],
    ['global-opinions/run.ts', ['folder'], 2],
    ['global-opinions/run.ts', ['--seeds', 'x'], 2],
    ['global-opinions/run.ts', ['--groups', 'Nigeria,,Egypt'], 2],
    ['global-opinions/run.ts', ['--file', 'none.csv'], 2],
    ['global-opinions/run.ts', ['--device', 'gpu'], 2],
    ['paper-figure.ts', ['2', '--out', 'node_modules'], 2],
    ['paper-figure.ts', [], 2],
    ['paper-figure.ts', ['3'], 2],
    ['paper-figure.ts', ['2', 'folder'], 2],
    ['paper-figure.ts', ['--help'], 0],
  ])('%s %j', (file, args, status) => {
    const run = experiment(file, ...args);
    expect(run.status, run.stderr).toBe(status);
    expect(run.stderr).not.toMatch(/\n\s+at /);
    expect(existsSync(join(folder, 'runs/figure-02'))).toBe(false);
  });

  it.each<[string[], number]>([
    [['bandit', '--sedes', '1'], 2],
    [['data', 'survey', '--sedes', '1'], 2],
    [['data', 'survey', '--help'], 0],
    [['--version'], 0],
    [['nothing'], 2],
  ])('group-robust %j', (args, status) => expect(groupRobust(args, folder).status).toBe(status));
});
