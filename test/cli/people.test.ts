import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { temporaryFolder } from '../temporary-folder.js';
import { groupRobust } from './run.js';

/** `data.people` and `--people`: what a table of people says of a person groups their pairs as a column of the pairs does. */
const folder = temporaryFolder();
const at = (...names: string[]) => join(folder, ...names);
const write = (name: string, lines: object[]) => {
  writeFileSync(at(name), lines.map((line) => JSON.stringify(line)).join('\n'));
  return at(name);
};
const region = { ann: 'Asia', bea: 'Europe', cem: 'Asia' };
const rows = Object.keys(region).map((user_id, i) => ({
  user_id,
  prompt: `Is it ${i}?\n`,
  chosen: 'A',
  rejected: 'B',
}));
const pairs = write('pairs.jsonl', rows);
const byHand = write(
  'by-hand.jsonl',
  rows.map((row) => ({ ...row, region: region[row.user_id as keyof typeof region] })),
);
const team = { ann: 1, bea: 1, cem: 2 };
const peopleRows = Object.entries(region).map(([user_id, region]) => ({
  user_id,
  location: { region },
  team: team[user_id as keyof typeof team],
}));
const people = { file: write('people.jsonl', peopleRows), key: 'user_id' };
const ofPeople = { train: pairs, test: pairs, people, groupBy: 'location.region' };

const train = (output: string, data: object, ...more: string[]) => {
  const config = { model: 'random:tiny?layers=1', output: at(output), data, lora: { rank: 2 }, steps: 2 };
  writeFileSync(at('config.yaml'), stringify({ ...config, objective: { loss: 'ipo', beta: 0.1 } }));
  return groupRobust(['train', at('config.yaml'), '--quiet', ...more]);
};
const command = (name: string, ...more: string[]) =>
  groupRobust([name, '--model', 'random:tiny?layers=1', '--pairs', pairs, '--quiet', '--json', ...more]);
const withPeople = ['--people', people.file, '--people-key', 'user_id'];
const byRegion = ['--group-by', 'location.region', ...withPeople];
const json = (file: string) => JSON.parse(readFileSync(file, 'utf8'));

beforeAll(() => {
  const { status, stderr } = train('run', ofPeople);
  expect(status, stderr).toBe(0);
});

it('a run by their fields is the run by such a column, and its hash is of the people too', () => {
  expect(train('by-hand', { train: byHand, test: byHand, groupBy: 'region' }).status).toBe(0);
  expect(json(at('run', 'evaluation.json'))).toEqual(json(at('by-hand', 'evaluation.json')));
  expect(json(at('run', 'evaluation.json')).group_order).toEqual(['Asia', 'Europe']);

  const longer = peopleRows.map((row) => ({ ...row, note: 'x' }));
  expect(train('noted', { ...ofPeople, people: { ...people, file: write('noted.jsonl', longer) } }).status).toBe(0);
  expect(json(at('noted', 'evaluation.json'))).toEqual(json(at('run', 'evaluation.json')));
  expect(json(at('noted', 'run.json')).dataHash).not.toBe(json(at('run', 'run.json')).dataHash);
});

it('--resume refuses other people', () => {
  const refused = (data: object, message: string) => {
    const { status, stderr } = train('run', data, '--resume');
    expect([status, stderr]).toEqual([2, expect.stringContaining(message)]);
    expect(stderr).toContain('cannot be continued');
  };
  write('people.jsonl', [...peopleRows, { user_id: 'dan', location: { region: 'Africa' } }]);
  refused(ofPeople, 'field "data.people.file": has changed since the run began');
  write('people.jsonl', peopleRows);
  refused({ ...ofPeople, people: undefined, groupBy: 'user_id' }, 'field "data.groupBy"');
  expect(train('run', ofPeople, '--resume').status).toBe(0);
});

it('eval, logprobs and sample group by them too', () => {
  const { status, stdout, stderr } = command('eval', ...byRegion);
  expect(status, stderr).toBe(0);
  expect(
    Object.entries(JSON.parse(stdout).groups).map(([name, group]) => [name, (group as { count: number }).count]),
  ).toEqual([
    ['Asia', 2],
    ['Europe', 1],
  ]);
  const sampled = command('sample', ...byRegion, '--max-tokens', '1', '--out', '-');
  expect(JSON.parse(sampled.stdout).samples.map(({ group }: { group: string }) => group)).toEqual(
    Object.values(region),
  );
  const template = ['--template', '{group}: {prompt}'];
  const scored = command('logprobs', ...byRegion, ...template, '--out', '-');
  const same = groupRobust(
    ['logprobs', '--model', 'random:tiny?layers=1', '--pairs', byHand, '--quiet', '--json', '--out', '-'].concat(
      template,
      ['--group-by', 'region'],
    ),
  );
  expect(JSON.parse(scored.stdout).logprobs).toEqual(JSON.parse(same.stdout).logprobs);
});

it('a run keeps people who group nothing for reports, and says so', () => {
  const { status, stdout, stderr } = train('kept', { train: byHand, test: byHand, people, groupBy: 'region' });
  expect(status, stderr).toBe(0);
  expect(`${stdout}${stderr}`).toMatch(
    /people\.jsonl: groups are by region, no field of it \(.*team\), so it serves only/,
  );
  const report = groupRobust(['report', at('kept'), '--cluster', 'team', '--out', at('kept.html')]);
  expect(report.status, report.stderr).toBe(0);
});

it('options that do nothing are refused', () => {
  for (const [name, message, ...more] of [
    ['eval', /field "--people-key": is needed with --people/, '--people', people.file],
    ['eval', /field "--people-key": does nothing without --people/, '--people-key', 'user_id'],
    ['eval', /people\.jsonl: does nothing: pairs are grouped by group, .*\(location\.region, team\)/s, ...withPeople],
    ['logprobs', /field "--people": does nothing where there are no groups/, ...withPeople, '--out', '-'],
    [
      'logprobs',
      /cannot be overwritten|is read/,
      ...byRegion,
      '--template',
      '{group}{prompt}',
      '--out',
      people.file,
      '--force',
    ],
  ] as [string, RegExp, ...string[]][]) {
    const { status, stderr } = command(name, ...more);
    expect(stderr).toMatch(message);
    expect(status).toBe(2);
  }
});

it('eval and report draw people as wholes with --cluster', () => {
  const two = write(
    'two.jsonl',
    rows.flatMap((row) => [row, row]).map((row, i) => ({ ...row, group: 'all', pair: i })),
  );
  const evaluate = (file: string, ...more: string[]) =>
    groupRobust(['eval', '--model', 'random:tiny?layers=1', '--pairs', file, '--objective', 'sft', '--quiet', ...more]);
  const over = (column: string) => JSON.parse(evaluate(two, '--json', '--cluster', column).stdout);
  const [people, single, plain] = [over('user_id'), over('pair'), JSON.parse(evaluate(two, '--json').stdout)];
  expect(people.clusters).toMatchObject({ column: 'user_id', count: 3, groups: { all: { clusters: 3 } } });
  expect(people.mean).toEqual(plain.mean);
  expect(single.groups.all.standard_error.loss).toBeCloseTo(plain.groups.all.standard_error.loss, 12);
  // Three values twice: Σ d²·4/36·(3/2) for Σ d²·2/36·(6/5).
  expect(people.groups.all.standard_error.loss / plain.groups.all.standard_error.loss).toBeCloseTo(Math.sqrt(2.5), 6);
  const [low, high] = people.clusters.worst.loss;
  expect(low < people.mean.loss && people.mean.loss < high).toBe(true);

  const { stdout, stderr } = evaluate(two, '--cluster', 'user_id');
  expect(`${stdout}${stderr}`).toMatch(/^all +6 +\d+\.\d{4} \(\d+\.\d{4} to \d+\.\d{4}\)/m);
  expect(`${stdout}${stderr}`).toContain('drawing 3 values of user_id anew as wholes');
  expect(evaluate(two, '--cluster', 'user').stderr).toMatch(/two\.jsonl:1, field "user": there is no such column/);
  expect(evaluate(two, '--cluster', 'user_id', '--survey').status).toBe(2);

  // A field of the people clusters as a column of the pairs with its values does, though the groups are of the pairs alone.
  const byTeam = write(
    'by-team.jsonl',
    rows
      .flatMap((row) => [row, row])
      .map((row) => ({ ...row, group: 'all', home: team[row.user_id as keyof typeof team] })),
  );
  const ofPeople = (cluster: string, ...more: string[]) => evaluate(two, '--cluster', cluster, ...withPeople, ...more);
  const { column, ...own } = JSON.parse(ofPeople('team', '--json').stdout).clusters;
  const byColumn = JSON.parse(evaluate(byTeam, '--json', '--cluster', 'home').stdout).clusters;
  expect({ ...own, column: 'home' }).toEqual(byColumn);
  expect([column, own.count]).toEqual(['team', 2]);
  expect(ofPeople('user_id').stderr).toContain(
    'pairs are grouped by group and clustered by user_id, which it does not',
  );
  expect(ofPeople('city').stderr).toMatch(
    /two\.jsonl:1, field "city": there is no such column.*cluster by a field of .*people\.jsonl \(location\.region, team\), or by another column/s,
  );

  const report = groupRobust(['report', at('run'), '--cluster', 'user_id', '--format', 'md', '--out', '-']);
  expect(report.stdout).toMatch(/over the clusters of pairs \(user\\?_id\) of the one seed/);
  const ofField = groupRobust(['report', at('run'), '--cluster', 'team', '--format', 'md', '--out', '-']);
  expect(ofField.stdout).toMatch(/over the clusters of pairs \(team\) of the one seed/);
});
