import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { temporaryFolder } from '../temporary-folder.js';
import { groupRobust } from './run.js';

/** Other people's files through the built program. */
const folder = temporaryFolder();
const parquet = resolve('test/fixtures/preferences/texts.parquet');
const csv = resolve('test/fixtures/preferences/texts.csv');

describe('preference files', () => {
  it('trains on Parquet, grouped by a column of numbers, and keeps the counts of pairs left out', () => {
    const output = join(folder, 'run');
    const config = {
      model: 'random:tiny',
      output,
      // The second prompt is the longest.
      data: { train: parquet, groupBy: 'sex', maxLength: 28, unusable: 'drop' },
      objective: { loss: 'dpo', beta: 0.1 },
      steps: 1,
    };
    const file = join(folder, 'config.yaml');
    writeFileSync(file, stringify(config));
    const { status, stdout } = groupRobust(['train', file, '--quiet']);
    expect(stdout).toContain('left out 0 pairs with an empty text, 0 with equal responses and 1 that are too long');
    expect(status).toBe(0);
    const run = JSON.parse(readFileSync(join(output, 'run.json'), 'utf8'));
    expect(run.dropped).toEqual({ train: { empty: 0, degenerate: 0, tooLong: 1 } });
    expect(run.groups).toMatchObject({ 1: { train: 1 }, 2: { train: 1 } });
    // Rather than losing a group in silence.
    const crossed = groupRobust(['train', file, '--set', 'data.groupBy=[country, sex]', '--set', `output=${output}-2`]);
    expect(crossed.status).toBe(2);
    expect(crossed.stderr).toMatch(/no usable pair of group "country=Egypt\/sex=2"\n.*left out/);
  });

  it('evaluates CSV, and names line and column of what it cannot use', () => {
    const scoring = ['--model', 'random:tiny', '--pairs', csv];
    const { json } = groupRobust(['eval', ...scoring, '--group-by', 'country,sex', '--json']);
    expect(Object.keys(json.groups)).toEqual(['country=Nigeria/sex=1', 'country=Egypt/sex=2', 'country=Nigeria/sex=2']);
    const dropped = groupRobust([
      'eval',
      ...scoring,
      '--group-by',
      'sex',
      '--max-length',
      '28',
      '--drop-unusable',
      '--json',
    ]);
    expect(dropped.json.groups).toMatchObject({ 1: { count: 1 }, 2: { count: 1 } });
    const { status, stderr } = groupRobust(['eval', ...scoring, '--group-by', 'region']);
    expect(status).toBe(2);
    expect(stderr).toContain('texts.csv:1, field "region"');
  });
});
