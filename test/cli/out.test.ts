import { spawn } from 'node:child_process';
import {
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import type { CommandUnknownOpts } from '@commander-js/extra-typings';
import { describe, expect, it } from 'vitest';
import { groupRobust as makeProgram } from '../../src/cli/program.js';
import { filesBelow } from '../../src/files/write.js';
import { writeFakeRuns } from '../report/fake-runs.js';
import { temporaryFolder } from '../temporary-folder.js';
import { groupRobust } from './run.js';

/** One rule for every `--out`: what exists is refused unless `--force` is given, and an input always is. */
const base = temporaryFolder();
const [run] = writeFakeRuns(temporaryFolder(), [0], ['ipo']);
const at = (...names: string[]) => join(base, ...names);

const ids = { group: 'a', prompt_ids: [2, 5], chosen_ids: [6, 1], rejected_ids: [7, 1] };
writeFileSync(at('pairs.jsonl'), `${JSON.stringify(ids)}\n`);
const options = Array.from({ length: 4 }, (_, i) => `{'N': [0.${i + 1}, 0.${9 - i}]}`);
writeFileSync(
  at('survey.csv'),
  `question,selections,options,source\n${options.map((one, i) => `q${i},"${one}","['x', 'y']",GAS`).join('\n')}\n`,
);
mkdirSync(at('prism'));
writeFileSync(at('prism', 'survey.jsonl'), '{"user_id": "u", "age": "18-24"}');
const answers = [1, 90].map((score) => ({ turn: 0, role: 'model', content: `${score}`, score, if_chosen: score > 1 }));
const conversation = {
  user_id: 'u',
  conversation_id: 'c',
  conversation_history: [{ turn: 0, role: 'user', content: 'Hi' }, ...answers],
};
writeFileSync(at('prism', 'conversations.jsonl'), JSON.stringify(conversation));
cpSync('test/fixtures/gemma-tiny', at('model'), { recursive: true });

interface Case {
  args: string[];
  /** What is written; default: a folder. */
  file?: boolean;
  /** An input, which `--force` does not give up either. */
  input?: string;
  /** Too slow to be run to its end here. */
  slow?: boolean;
}

const cases: Record<string, Case> = {
  reproduce: { args: ['reproduce', '--quick', '--quiet'], slow: true },
  bandit: { args: ['bandit', '--seeds', '1', '--methods', 'ipo', '--quiet'] },
  converge: { args: ['converge', '--loss', 'dpo', '--horizons', '10,100', '--runs', '2', '--quiet'] },
  'data global-opinions': {
    args: ['data', 'global-opinions', '--file', at('survey.csv'), '--groups', 'N'],
    input: at('survey.csv'),
  },
  'data survey': { args: ['data', 'survey', '--rows', '100'] },
  'data prism': {
    args: ['data', 'prism', '--from', at('prism'), '--group-by', 'age'],
    input: at('prism', 'survey.jsonl'),
  },
  logprobs: {
    args: ['logprobs', '--model', 'random:tiny?layers=1', '--pairs', at('pairs.jsonl'), '--quiet'],
    file: true,
    input: at('pairs.jsonl'),
  },
  merge: {
    args: ['merge', '--model', at('model'), '--adapter', at('model', 'adapter'), '--quiet'],
    input: at('model'),
  },
  sample: {
    args: ['sample', '--model', 'random:tiny?layers=1', '--prompts', at('pairs.jsonl'), '--max-tokens', '2', '--quiet'],
    file: true,
    input: at('pairs.jsonl'),
  },
  report: { args: ['report', run], file: true, input: join(run, 'metrics.jsonl') },
};

function leaves(command: CommandUnknownOpts, name = ''): { name: string; flags: string[] }[] {
  const own = command.options.map(({ long }) => long as string);
  return command.commands.length === 0
    ? [{ name, flags: own }]
    : command.commands.flatMap((child) => leaves(child, `${name} ${child.name()}`.trim()));
}

it('every command that writes is tried here, and has --force', () => {
  const writing = leaves(makeProgram()).filter(({ flags }) => flags.includes('--out'));
  expect(writing.map(({ name }) => name).sort()).toEqual(Object.keys(cases).sort());
  for (const { name, flags } of writing) expect(flags, name).toContain('--force');
});

/** Every file below a place with its bytes, as one text. */
function contents(path: string): string {
  const files = statSync(path).isDirectory() ? filesBelow(path) : [path];
  return files.map((file) => `${file}\n${readFileSync(file, 'latin1')}`).join('\n');
}

describe.each(Object.entries(cases))('%s', (name, { args, file = false, input, slow }) => {
  const out = at(`${name.replace(' ', '-')}${file ? '.txt' : ''}`);

  it('refuses what exists, with the way to replace it, and leaves it as it was', () => {
    if (!file) mkdirSync(out);
    const mine = file ? out : join(out, 'mine.txt');
    writeFileSync(mine, 'mine');
    const refused = groupRobust([...args, '--out', out]);
    expect(refused.stderr).toMatch(/field "--out": already exists.*\n {2}fix: .*--force/);
    expect(refused.status).toBe(2);
    expect(readFileSync(mine, 'utf8')).toBe('mine');
    if (file) return;
    // Nor does --force take away what no call of this command has left.
    expect(groupRobust([...args, '--out', out, '--force']).stderr).toContain('holds mine.txt');
    expect(readFileSync(mine, 'utf8')).toBe('mine');
    rmSync(mine);
  });

  it.skipIf(slow)('replaces it with --force by what a first call writes', () => {
    const fresh = groupRobust([...args, '--out', `${out}.new`]);
    expect(fresh.status, fresh.stderr).toBe(0);
    if (!file) groupRobust([...args, '--out', out]);
    const forced = groupRobust([...args, '--out', out, '--force']);
    expect(forced.status, forced.stderr).toBe(0);
    expect(contents(out).replaceAll(out, '')).toBe(contents(`${out}.new`).replaceAll(`${out}.new`, ''));
    expect(readdirSync(base).filter((left) => left.endsWith('.partial'))).toEqual([]);
  });

  it.runIf(input)('is never written over an input, under no name', () => {
    const before = contents(input as string);
    const names = [input as string, at(`link-${args[0]}`), at(`hard-link-${args[0]}`)];
    symlinkSync(input as string, names[1]);
    if (statSync(input as string).isFile()) linkSync(input as string, names[2]);
    else names.pop();
    for (const place of names)
      for (const force of [[], ['--force']]) {
        const refused = groupRobust([...args, '--out', place, ...force]);
        expect(refused.stderr).toMatch(/is read by this command\n {2}fix: name another place/);
        expect(refused.status).toBe(2);
      }
    expect(contents(input as string)).toBe(before);
    for (const link of names.slice(1)) rmSync(link);
  });
});

it('a folder above an input is not replaced', () => {
  const { status, stderr } = groupRobust([...cases['data global-opinions'].args, '--out', base, '--force']);
  expect(stderr).toMatch(/contains .*survey\.csv, which is read by this command/);
  expect(status).toBe(2);
});

it.each([
  ['a device', ['--out', '/dev/null', '--force'], /is neither a file nor a folder\n.*--out -/],
  ['nothing', ['--out', ''], /is empty/],
  ['--force with stdout', ['--out', '-', '--force'], /leave --force out/],
])('logprobs refuses %s', (_, args, message) => {
  const { status, stderr } = groupRobust([...cases.logprobs.args, ...args]);
  expect(stderr).toMatch(message);
  expect(status).toBe(2);
  expect(statSync('/dev/null').isCharacterDevice()).toBe(true);
});

it('--out - is stdout where one file is written, and refused where several are', () => {
  const csv = groupRobust(['report', run, '--format', 'csv', '--out', '-']);
  expect(csv.stdout).toMatch(/^run,method,/);
  const json = groupRobust(['report', run, '--format', 'csv', '--out', '-', '--json']).json;
  expect(json).toMatchObject({ report: '-', text: csv.stdout });
  const { status, stderr } = groupRobust(['data', 'survey', '--out', '-']);
  expect(stderr).toMatch(/is stdout, and several files are written\n {2}fix: name a folder/);
  expect(status).toBe(2);
  expect(existsSync('-')).toBe(false);
});

it('a figures folder holds those of the last call only', () => {
  const figures = at('figures');
  expect(groupRobust(['report', run, '--format', 'svg', '--out', figures]).status).toBe(0);
  const names = readdirSync(figures);
  writeFileSync(join(figures, 'stale.svg'), '<svg/>');
  expect(groupRobust(['report', run, '--format', 'svg', '--out', figures]).status).toBe(2);
  expect(groupRobust(['report', run, '--format', 'svg', '--out', figures, '--force']).status).toBe(0);
  expect(readdirSync(figures)).toEqual(names);
});

it('logprobs finds a place that cannot be written before it reads anything, and leaves no half', () => {
  const blocked = groupRobust([...cases.logprobs.args, '--model', at('absent'), '--out', at('pairs.jsonl', 'x')]);
  expect(blocked.stderr).toContain(`${at('pairs.jsonl', 'x')}: cannot be written`);
  const failed = groupRobust([...cases.logprobs.args, '--model', at('absent'), '--out', at('deep', 'er', 'x')]);
  expect([blocked.status, failed.status]).toEqual([2, 2]);
  expect(existsSync(at('deep'))).toBe(false);
});

it('logprobs refuses a file named as a folder, and a link to nothing, before it reads anything', () => {
  symlinkSync(at('nothing'), at('dangling'));
  for (const [out, problem] of [
    [`${at('new')}/`, 'ends as a folder does'],
    [at('dangling'), 'is a link to nothing'],
  ] as const) {
    const refused = groupRobust([...cases.logprobs.args, '--model', at('absent'), '--out', out]);
    expect(refused.stderr).toContain(`${out}, field "--out": ${problem}`);
    expect(refused.status).toBe(2);
  }
});

it('of two calls with one --out one is refused, and the other whole', async () => {
  const out = at('twice');
  const one = () =>
    new Promise<{ code: number | null; stderr: string }>((done) => {
      const child = spawn(process.execPath, ['dist/cli/main.js', 'data', 'survey', '--out', out]);
      let stderr = '';
      child.stderr.on('data', (text) => {
        stderr += text;
      });
      child.on('close', (code) => done({ code, stderr }));
    });
  const both = await Promise.all([one(), one(), one()]);
  for (const { code, stderr } of both)
    if (code !== 0) expect(stderr).toMatch(/^error: .*twice.*: already exists\n {2}fix: [^\n]*\n$/);
  expect(both.map(({ code }) => code).sort()).toEqual([0, 2, 2]);
  expect(readdirSync(out)).toHaveLength(6);
});
