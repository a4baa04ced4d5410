import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { loadPairs } from '../../src/data/pairs/dataset.js';
import { openTokenizer } from '../../src/data/text/tokenizer.js';
import { temporaryFolder } from '../temporary-folder.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const folder = temporaryFolder();

function data(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      ['--import', 'tsx', 'src/cli/main.ts', 'data', ...args],
      { cwd: root },
      (error, stdout, stderr) => resolve({ code: error ? Number(error.code) : 0, stdout, stderr }),
    );
  });
}

const HEADER = 'question,selections,options,source\n';
const good = `"q","{'A': [1.0, 0.0], 'B, C': [0.25, 0.75]}","['x', 'y']",GAS\n`;

function csv(name: string, ...rows: string[]): string {
  const file = join(folder, name);
  writeFileSync(file, HEADER + rows.join(''));
  return file;
}

describe('group-robust data', () => {
  it('makes an invented survey whose pairs load', async () => {
    const out = join(folder, 'survey');
    const { code, stdout } = await data('survey', '--out', out, '--seed', '7', '--rows', '200', '--json');
    expect(code).toBe(0);
    const summary = JSON.parse(stdout);
    expect(summary).toMatchObject({ out, seed: 7, totals: { rows: 200, filtered: 0 } });
    expect(readdirSync(out).sort()).toEqual(
      ['summary.json', 'survey.csv', 'test.jsonl', 'train.jsonl', 'truth.json', 'validation.jsonl'].sort(),
    );
    const tokenizer = () => openTokenizer('random:tiny');
    const train = await loadPairs(join(out, 'train.jsonl'), { tokenizer, maxLength: 64 });
    expect(train.pairs.length).toBe(summary.totals.pairs.train);
    expect(train.report.warnings).toEqual([]);

    const again = await data('survey', '--out', out, '--rows', '200');
    expect(again.code).toBe(2);
    expect(again.stderr).toContain('already exists');

    // The CSV it wrote gives the same pairs through the other command.
    const second = join(folder, 'second');
    const groups = train.groups.join(',');
    const through = await data(
      'global-opinions',
      '--file',
      join(out, 'survey.csv'),
      '--groups',
      groups,
      '--seed',
      '7',
      '--out',
      second,
    );
    expect(through.code).toBe(0);
    for (const split of ['train', 'validation', 'test'])
      expect(readFileSync(join(second, `${split}.jsonl`), 'utf8')).toBe(
        readFileSync(join(out, `${split}.jsonl`), 'utf8'),
      );
  });

  it('takes a quoted group name that holds a comma', async () => {
    const out = join(folder, 'comma');
    const { code, stdout } = await data(
      'global-opinions',
      '--file',
      csv('comma.csv', good),
      '--groups',
      '"B, C", A',
      '--out',
      out,
      '--json',
    );
    expect(code).toBe(0);
    expect(Object.keys(JSON.parse(stdout).groups)).toEqual(['B, C', 'A']);
    expect(readFileSync(join(out, 'train.jsonl'), 'utf8').split('\n')[0]).toBe(
      '{"group":"B, C","prompt":"Opinion of people in B, C on: q\\nSelect the best response:\\nA. x\\nB. y","chosen":"B","rejected":"A","row":0,"question":0,"shares":[0.25,0.75]}',
    );
  });

  it('stops at a broken literal with file, line and field, exit 2 and nothing written; or skips and counts it', async () => {
    const file = csv('broken.csv', good, `"q2","{'A': [0.5, 0.5","['x', 'y']",GAS\n`);
    const out = join(folder, 'broken');
    const before = readdirSync(folder);
    const stopped = await data('global-opinions', '--file', file, '--groups', 'A', '--out', out);
    expect(stopped.code).toBe(2);
    expect(stopped.stderr).toContain(`${file}:3, field "selections"`);
    expect(readdirSync(folder)).toEqual(before);
    const skipped = await data(
      'global-opinions',
      '--file',
      file,
      '--groups',
      'A',
      '--out',
      out,
      '--skip-bad-rows',
      '--json',
    );
    expect(skipped.code).toBe(0);
    expect(JSON.parse(skipped.stdout).badRows).toMatchObject([{ line: 3, field: 'selections' }]);
  });

  it.each([
    ['an unknown country', ['--groups', 'a'], 'did you mean "A"?'],
    ['an empty name', ['--groups', 'A,,B'], 'empty name'],
    ['a broken quote', ['--groups', '"A'], '--groups'],
    ['a seed that is no number', ['--groups', 'A', '--seed', 'x'], '--seed'],
    ['no groups', [], '--groups'],
    ['both groups and regions', ['--groups', 'A', '--regions'], '--regions'],
    ['a country without a region', ['--regions', '--fold', '1/3'], 'the region of'],
    ['regions in random tenths', ['--regions'], '--fold'],
    ['a fold beyond the last', ['--groups', 'A', '--fold', '6/5'], '--fold'],
    ['two folds', ['--groups', 'A', '--fold', '1/2'], 'three or more'],
    ['up to four of all pairs', ['--groups', 'A', '--pairs', 'all', '--multi-pair'], 'does nothing with --pairs all'],
    ['half a fold', ['--groups', 'A', '--fold', '1.5/5'], '--fold'],
  ])('exits 2 on %s and leaves nothing', async (name, args, message) => {
    const out = join(folder, name.replaceAll(' ', '-'));
    const { code, stderr } = await data('global-opinions', '--file', csv('ok.csv', good), '--out', out, ...args);
    expect(code).toBe(2);
    expect(stderr).toContain(message);
    expect(existsSync(out)).toBe(false);
  });
});
