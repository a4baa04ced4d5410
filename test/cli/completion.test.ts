import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { completionScript } from '../../src/cli/completion.js';
import { groupRobust as makeProgram } from '../../src/cli/program.js';
import { groupRobust } from './run.js';

const has = (shell: string) => spawnSync(shell, ['-c', 'true']).status === 0;

describe('completion', () => {
  /** What bash offers for the last of these words. */
  const offered = (...words: string[]) => {
    const script = `${completionScript(makeProgram(), 'bash')}
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _group_robust; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const { stdout, stderr } = spawnSync('bash', ['-c', script, '-', 'group-robust', ...words], { encoding: 'utf8' });
    expect(stderr).toBe('');
    return stdout.trim().split('\n');
  };

  it.each<[string[], string[]]>([
    [['da'], ['data']],
    [
      ['data', ''],
      ['global-opinions', 'survey', 'prism', '--help'],
    ],
    [['data', 'survey', '--r'], ['--rows']],
    [
      ['report', 'run', '--format', ''],
      ['html', 'md', 'latex', 'csv', 'svg'],
    ],
    [['bandit', '--out', 'x', '--fea'], ['--features']],
    // A file of the name of a command is none.
    [['eval', '--pairs', 'x', '--ref'], ['--reference-adapter']],
    [['train', ''], expect.arrayContaining(['--set', '--resume'])],
  ])('%j', (words, expected) => expect(offered(...words)).toEqual(expected));

  it.each(['zsh', 'fish'] as const)('%s takes the script (where it is installed)', (shell) => {
    const script = completionScript(makeProgram(), shell);
    for (const word of ['survey', 'reference-adapter', 'latex']) expect(script).toContain(word);
    if (has(shell)) expect(spawnSync(shell, ['--no-execute', '-c', script]).stderr.toString()).toBe('');
  });

  it('is printed by the command, which knows three shells', () => {
    expect(groupRobust(['completion', 'bash']).stdout).toBe(completionScript(makeProgram(), 'bash'));
    const { status, stderr } = groupRobust(['completion', 'tcsh']);
    expect(stderr).toMatch(/field "shell": "tcsh" is not allowed\n {2}fix: use bash, zsh, fish/);
    expect(status).toBe(2);
  });
});

describe('a misspelt word is told, with what was meant', () => {
  it.each([
    [['evla'], 'eval'],
    [['bandit', '--sedes', '1'], '--seeds'],
    // Not that --model is missing.
    [['eval', '--modle', 'x', '--pairs', 'y'], '--model'],
    [['logprobs', '--model', 'x', '--pairs', 'y', '--uot=z'], '--out'],
    [['data', 'survey', '--otu', 'x'], '--out'],
  ])('%j', (args, meant) => {
    const { status, stderr } = groupRobust(args);
    expect(stderr).toMatch(/^error: unknown (option|command)/);
    expect(stderr).toContain(`(Did you mean ${meant}?)`);
    expect(status).toBe(2);
  });

  it('an option that is merely missing is named', () =>
    expect(groupRobust(['eval', '--model', 'x']).stderr).toContain("required option '--pairs <file>' not specified"));
});
