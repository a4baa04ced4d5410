import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { counted } from '../../src/terminal/format.js';
import { plainText } from '../../src/terminal/output.js';
import { textTable } from '../../src/terminal/text-table.js';
import { groupRobust } from '../cli/run.js';
import { temporaryFolder } from '../temporary-folder.js';

const folder = temporaryFolder();
const at = (name: string) => join(folder, name);

describe('text for a terminal', () => {
  it('has its control characters written out, line breaks and tabs but for', () =>
    expect(plainText('a\x1b[2J\x07\x9b1m\r\u202eb\n\té')).toBe('a\\x1b[2J\\x07\\x9b1m\\r\\u202eb\n\té'));

  it('stays in its row and column of a table', () =>
    expect(textTable(['group', 'n'], [['a\nb\x1b[1m', '1']]).split('\n')).toEqual([
      'group        n',
      '───────────  ─',
      'a\\nb\\x1b[1m  1',
    ]));

  it('takes two columns where its characters are wide', () =>
    expect(
      textTable(
        ['group', 'n'],
        [
          ['日本', '1'],
          ['Japan', '2'],
          ['대한민국', '3'],
        ],
      ).split('\n'),
    ).toEqual(['group     n', '────────  ─', '日本      1', 'Japan     2', '대한민국  3']));
});

it('a table wider than the terminal is a list of its rows', () =>
  expect(
    textTable(
      ['group', 'count', 'loss', ''],
      [
        ['a', '1', '2.5', ''],
        ['b', '2', '3.5', 'ok'],
      ],
      12,
    ),
  ).toBe('a\n  count: 1\n  loss: 2.5\nb\n  count: 2\n  loss: 3.5\n  ok'));

it('one of a thing is no plural', () => {
  expect([0, 1, 2].map((count) => counted(count, 'step'))).toEqual(['0 steps', '1 step', '2 steps']);
  const { stdout } = groupRobust(['bandit', '--seeds', '1', '--methods', 'ipo', '--quiet']);
  expect(stdout).toContain(', 1 seed (');
});

describe('what data says is never obeyed', () => {
  const evil = 'a\x1b]0;owned\x07\x1b[31m\x9b2J';
  const row = { group: evil, prompt_ids: [2, 5], chosen_ids: [6, 1], rejected_ids: [7, 1] };
  writeFileSync(at('pairs.jsonl'), `${JSON.stringify(row)}\n`);
  const config = (more: string) => {
    writeFileSync(
      at('config.yaml'),
      `model: random:tiny?layers=1\noutput: ${at('run')}\ndata: { train: ${at('pairs.jsonl')}, test: ${at('pairs.jsonl')} }\n` +
        `objective: { loss: dpo, beta: 1 }\nsteps: 1\n${more}`,
    );
    return at('config.yaml');
  };
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  const commands = /[\x00-\x08\x0b-\x1f\x7f-\x9f]/;

  it.each<[string, () => string[], number]>([
    ['a group in a table', () => ['eval', '--model', 'random:tiny?layers=1', '--pairs', at('pairs.jsonl')], 0],
    ['a group in the log and progress of training', () => ['train', config('')], 0],
    ['a key of a configuration', () => ['train', config(`"${JSON.stringify(evil).slice(1, -1)}": 1\n`)], 2],
    ['a file in an error', () => ['report', at(evil)], 2],
    ['an option', () => ['doctor', `--${evil}`], 2],
    ['a command', () => [evil], 2],
  ])('%s', (_, args, code) => {
    const { status, stdout, stderr } = groupRobust(args());
    expect(status, stderr).toBe(code);
    expect(stdout + stderr).not.toMatch(commands);
    expect(stdout + stderr).toContain('\\x1b');
  });
});

describe('a stdout that takes no more', () => {
  const shell = (line: string) =>
    spawnSync(
      'bash',
      [
        '-c',
        `set -o pipefail; ${line.replace('group-robust', `'${process.execPath}' '${resolve('dist/cli/main.js')}'`)}`,
      ],
      {
        encoding: 'utf8',
        cwd: folder,
      },
    );
  const commands = [
    'bandit --seeds 1 --methods ipo --quiet',
    'data survey --rows 100 --out',
    'eval --help',
    'doctor --json',
  ];
  const spelt = (command: string, out: string) => (command.endsWith('--out') ? `${command} ${out}` : command);

  it.each(commands)('%s > /dev/full: one clear message, exit 1', (command) => {
    const { status, stderr } = shell(`group-robust ${spelt(command, 'full')} >/dev/full`);
    expect(stderr).toMatch(/(^|\n)error: stdout cannot be written: ENOSPC: [^\n]*\n {2}fix: make room[^\n]*\n$/);
    expect(status).toBe(1);
  });

  it.each(commands)('%s | head -c 1: no word, exit 0', (command) => {
    const { status, stderr } = shell(`group-robust ${spelt(command, 'piped')} | head -c 1`);
    expect(stderr).not.toContain('error');
    expect(status).toBe(0);
  });

  it('does not end work whose result goes to a file', () => {
    expect(shell('group-robust data survey --rows 100 --out whole | true').status).toBe(0);
    expect(readdirSync(at('whole'))).toContain('summary.json');
  });
});

it('a result of 8 MB comes whole to one who reads slowly, from a process with models that ends with 1', async () => {
  const program = `
    import { Command } from 'commander';
    import { defineAction, runProgram } from ${JSON.stringify(resolve('src/cli/command.ts'))};
    import { GemmaPolicy } from ${JSON.stringify(resolve('src/policy/gemma.ts'))};
    const command = new Command('big');
    defineAction(command, async () => {
      await GemmaPolicy.open('random:tiny?layers=1');
      process.exitCode = 1;
      return { text: 'x'.repeat(2 ** 23) };
    });
    await runProgram(command);`;
  const args = ['--import', 'tsx', '--input-type=module', '-e', program, '--', '--json'];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(child, 'close');
  await wait(1000);
  let text = '';
  for await (const chunk of child.stdout.setEncoding('utf8')) {
    text += chunk;
    await wait(2);
  }
  expect(JSON.parse(text).text).toHaveLength(2 ** 23);
  expect(await ended).toEqual([1, null]);
});
