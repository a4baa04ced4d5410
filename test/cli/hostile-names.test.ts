import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse as parseCsv } from 'csv-parse/sync';
import { beforeAll, describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { pythonRepr } from '../../src/data/tables/python-literal.js';
import { temporaryFolder } from '../temporary-folder.js';
import { writeIdPairs } from '../train/id-pairs.js';
import { hostileNames } from './hostile-names.js';
import { groupRobust } from './run.js';

const folder = temporaryFolder();
const file = (name: string) => join(folder, name);
const tiny = 'random:tiny?layers=1&hidden=8&heads=1&head=8&mlp=8';

/** The order of keys as they stand in the text, which JSON.parse does not keep. */
function keysIn(text: string, after: string): string[] {
  const seen: string[] = [];
  const body = text.slice(text.indexOf(after) + after.length);
  for (const [, key] of body.matchAll(/("(?:[^"\\]|\\.)*"):\s*\{/g)) seen.push(JSON.parse(key));
  return seen.filter((key) => key !== 'standard_error');
}

/** As CSV has a name, so that no spreadsheet takes it for a formula. */
const inCsv = (name: string) => (/^[=+\-@]/.test(name) ? `'${name}` : name);

function train(pairs: string, output: string, data: object = {}) {
  const config = {
    model: tiny,
    output,
    data: { train: pairs, validation: pairs, test: pairs, ...data },
    objective: { loss: 'ipo', beta: 0.1, weights: 'mirror-ascent', step: 0.01 },
    lora: { rank: 1, alpha: 1, targets: ['q_proj'] },
    steps: 2,
    batch: { size: 256 },
    threads: 1,
  };
  writeFileSync(`${output}.yaml`, stringify(config));
  return groupRobust(['train', `${output}.yaml`, '--quiet', '--json']);
}

describe('groups of hostile names', () => {
  const pairs = file('pairs.jsonl');
  const run = file('run');
  beforeAll(() => {
    // The last is first, so that no order is that of an object's keys.
    const names = [...hostileNames].reverse();
    writeIdPairs(pairs, 2 * names.length, (i) => ({ group: names[i % names.length] }));
  });
  const expected = [...hostileNames].reverse();

  it('train, with all that a run leaves', () => {
    const { status, stderr, json } = train(pairs, run);
    expect(stderr).not.toMatch(/^error:|could not be drawn/im);
    expect(status).toBe(0);
    expect(Object.keys(json.alpha).sort()).toEqual([...hostileNames].sort());
    const evaluation = readFileSync(join(run, 'evaluation.json'), 'utf8');
    expect(JSON.parse(evaluation).group_order).toEqual(expected);
    expect(keysIn(evaluation, '"groups"').slice(0, expected.length)).toEqual(expected);
    for (const name of expected) expect(JSON.parse(evaluation).groups[name].count).toBe(2);
    const [header] = parseCsv(readFileSync(join(run, 'alpha.csv'))) as string[][];
    expect(header).toEqual(['step', ...expected.map(inCsv), ...expected.map((name) => `weight/${name}`)]);
    const page = readFileSync(join(run, 'report.html'), 'utf8');
    expect(page).not.toContain('could not be drawn');
    expect(page).not.toContain('<script>alert');
  });

  it.each(['html', 'md', 'latex', 'csv', 'svg'])('report as %s', (format) => {
    const out = file(`report.${format}`);
    const { status, stderr } = groupRobust(['report', run, '--format', format, '--out', out]);
    expect(stderr).toBe('');
    expect(status).toBe(0);
    if (format !== 'csv') return;
    const rows = parseCsv(readFileSync(out), { columns: true }) as Record<string, string>[];
    for (const split of ['test', 'validation'])
      expect(rows.filter((row) => row.split === split).map(({ group }) => group)).toEqual(expected.map(inCsv));
    expect(rows.every(({ alpha, loss }) => Number(alpha) > 0 && Number.isFinite(Number(loss)))).toBe(true);
  });

  it('eval and logprobs', () => {
    const scoring = ['--model', tiny, '--pairs', pairs, '--quiet'];
    const { status, stdout, json } = groupRobust(['eval', ...scoring, '--json']);
    expect(status).toBe(0);
    expect(json.group_order).toEqual(expected);
    expect(keysIn(stdout, '"groups"').slice(0, expected.length)).toEqual(expected);
    const table = groupRobust(['eval', ...scoring]);
    expect(table.status).toBe(0);
    // The device, the reference, a row for each group, what ± means, the objective, and nothing that a terminal would obey.
    const rows = table.stdout.trimEnd().split('\n');
    expect(rows.length).toBe(1 + 1 + 2 + expected.length + 3 + 1 + 1);
    expect(table.stdout).not.toMatch(/[^\P{Cc}\n]|[\u2028\u2029\u202a-\u202e]/u);
    const logprobs = groupRobust(['logprobs', ...scoring, '--out', file('logprobs.jsonl')]);
    expect(logprobs.status).toBe(0);
    expect(logprobs.stdout).toContain(`${2 * expected.length} pairs`);
  });

  it('eval by columns of such names', () => {
    const columns = ['constructor', '__proto__', 'a.b', '0'];
    const rows = ['x', 'y'].map(
      (value): Record<string, unknown> => ({
        ...Object.fromEntries(columns.map((column) => [column, value])),
        prompt_ids: [2, 5],
        chosen_ids: [7, 1],
        rejected_ids: [8, 1],
      }),
    );
    writeFileSync(file('columns.jsonl'), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
    const header = [...columns, 'prompt_ids', 'chosen_ids', 'rejected_ids'];
    const lines = rows.map((row) => header.map((column) => `"${JSON.stringify(row[column]).replaceAll('"', '')}"`));
    writeFileSync(file('columns.csv'), `${[header, ...lines].map((cells) => cells.join(',')).join('\n')}\n`);
    for (const name of ['columns.jsonl', 'columns.csv']) {
      const scoring = ['--model', tiny, '--pairs', file(name), '--group-by', columns.join(','), '--json'];
      const { status, json } = groupRobust(['eval', ...scoring]);
      expect(status).toBe(0);
      expect(json.group_order).toEqual(
        ['x', 'y'].map((value) => columns.map((column) => `${column}=${value}`).join('/')),
      );
    }
  });

  it('data global-opinions', () => {
    const names = hostileNames.filter((name) => !name.includes('\r'));
    const selections = new Map(names.map((name) => [name, [0.75, 0.25]]));
    const quoted = (text: string) => `"${text.replaceAll('"', '""')}"`;
    const row = (question: string) =>
      [question, `defaultdict(<class 'list'>, ${pythonRepr(selections)})`, "['Yes', 'No']", 'X'].map(quoted).join(',');
    writeFileSync(
      file('survey.csv'),
      `question,selections,options,source\n${Array.from({ length: 10 }, (_, i) => row(`Question ${i}?`)).join('\n')}\n`,
    );
    const out = file('opinions');
    const { status, stdout, json } = groupRobust([
      ...['data', 'global-opinions', '--file', file('survey.csv'), '--json'],
      ...['--groups', names.map(quoted).join(','), '--out', out],
    ]);
    expect(status).toBe(0);
    expect(keysIn(stdout, '"groups"').filter((key) => names.includes(key))).toEqual(names);
    for (const name of names) expect(json.groups[name].pairs).toEqual({ train: 8, validation: 1, test: 1 });
    const written = readFileSync(join(out, 'train.jsonl'), 'utf8').trimEnd().split('\n');
    expect([...new Set(written.map((line) => JSON.parse(line).group))]).toEqual(names);
  });

  it('data.groups fixes their order', () => {
    const { status, json } = train(pairs, file('ordered'), { groups: hostileNames });
    expect(status).toBe(0);
    expect(json.test.group_order).toEqual(hostileNames);
  });
});

it('trains 5,000 groups, with few warnings and a report', { timeout: 300_000 }, () => {
  mkdirSync(file('many'));
  const groups = Array.from({ length: 5000 }, (_, i) => (i % 2 === 0 ? `g${i}` : `G${i - 1}`));
  const pairs = writeIdPairs(file('many/pairs.jsonl'), 5000, (i) => ({ group: groups[i] }));
  const few = writeIdPairs(file('many/few.jsonl'), 100, (i) => ({ group: groups[i] }));
  const { status, stderr } = train(pairs, file('many/run'), { validation: few, test: few });
  expect(stderr).not.toMatch(/^error:/m);
  expect(status).toBe(0);
  expect(stderr.split('\n').filter((line) => line.startsWith('warning:')).length).toBeLessThan(20);
  const page = readFileSync(file('many/run/report.html'), 'utf8');
  expect(page).not.toContain('could not be drawn');
  // A pair of a group that is not in the list: the message does not hold all 5,000.
  const other = train(pairs, file('many/other'), { groups: groups.slice(1) });
  expect(other.status).toBe(2);
  expect(other.stderr.length).toBeLessThan(1000);
});
