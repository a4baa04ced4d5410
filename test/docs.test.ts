import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { ambiguityNames } from '../src/objective/ambiguity.js';
import { weightingNames } from '../src/objective/group-weights.js';
import { lossNames, marginLoss } from '../src/objective/losses.js';
import { pairLossNames } from '../src/objective/pairs.js';
import { convergenceConstants } from '../src/theory/constants.js';
import { objectiveKeys, objectiveSchema } from '../src/train/objective-config.js';
import { groupRobust } from './cli/run.js';
import { fencedBlocks, localLinks, runCommand, shellCommands } from './commands.js';
import { temporaryFolder } from './temporary-folder.js';

/** What docs/ says: its commands are run as written, its tables are held against the code and against a real run. */

const pages = readdirSync('docs')
  .filter((name) => name.endsWith('.md'))
  .map((name) => join('docs', name));

/**
 * Commands that test/readme.test.ts runs as they are written, and commands too heavy for a test, or whose data is not ours to
 * ship: of these only the spelling is checked, against --help, the resolved configuration, or the files.
 */
const elsewhere = new Set(shellCommands('README.md'));
const heavy = (command: string) =>
  elsewhere.has(command) ||
  /^npx (tsx|group-robust (reproduce|converge|bench|merge|sweep|data (global-opinions|prism)|train [^ ]+( --resume)?$))/.test(
    command,
  );

const folder = temporaryFolder();
const inFolder = (...path: string[]) => join(folder, 'runs/survey', ...path);

/** The run folders that getting-started.md makes, with a few steps instead of a few hundred. */
beforeAll(() => {
  symlinkSync(resolve('experiments'), join(folder, 'experiments'));
  const run = (...args: string[]) => {
    const { status, stderr } = groupRobust(args, folder);
    expect(status, stderr).toBe(0);
  };
  run('data', 'survey', '--rows', '400', '--out', 'runs/survey/data');
  const short = ['--set', 'epochs=null', '--set', 'steps=2', '--quiet'];
  run('train', 'experiments/survey/sft.yaml', ...short);
  run(
    'train',
    'experiments/survey/gr-ipo.yaml',
    ...short,
    '--set',
    'evaluateEvery=1',
    '--set',
    'nonFinite.action=skip',
    '--set',
    'optimizer.schedule=plateau',
  );
  run('train', 'experiments/survey/ipo.yaml', ...short, '--set', 'checkpoint.best=true');
  run('train', 'experiments/survey/gr-reward.yaml', ...short);
});

describe('commands in docs/', () => {
  const commands = [...new Set(pages.flatMap(shellCommands))];

  it.each(commands.filter((command) => !heavy(command)))('%s', (command) => {
    expect(runCommand(command, folder)).toBe('');
  });

  it.each(commands.filter(heavy))('spelling only: %s', (command) => {
    const [, tool, ...words] = command.split(' ');
    if (tool === 'tsx') return expect(existsSync(words[0])).toBe(true);
    // The one option that goes with no printing is looked for in the help, as those of other commands.
    if (words[0] === 'train') expect(runCommand(`${command.replace(' --resume', '')} --print-config`, folder)).toBe('');
    const named = words[0] === 'data' || words[0] === 'bench' ? 2 : 1;
    const { stdout, status } = groupRobust([...words.slice(0, named), '--help']);
    expect(status).toBe(0);
    for (const flag of words.filter((word) => word.startsWith('--'))) expect(stdout).toContain(`${flag} `);
  });
});

it.each(pages)('%s links only to files that exist', (page) => {
  for (const path of localLinks(page)) expect(existsSync(join(dirname(page), path)), path).toBe(true);
});

/** Rows of the table under this heading cell, each cell without its code marks. */
function table(page: string, heading: string): string[][] {
  const lines = readFileSync(join('docs', page), 'utf8').split('\n');
  const start = lines.findIndex((line) => line.startsWith(`| ${heading} |`));
  expect(start, `${page}: no table of ${heading}`).toBeGreaterThanOrEqual(0);
  const rest = lines.slice(start + 2);
  const end = rest.findIndex((line) => !line.startsWith('|'));
  return rest.slice(0, end < 0 ? rest.length : end).map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim().replaceAll('`', '')),
  );
}
const firstColumn = (page: string, heading: string) => table(page, heading).map(([first]) => first);

describe('losses-and-weights.md', () => {
  it('has every loss, its value and its slope', () => {
    const rows = table('losses-and-weights.md', '`loss`');
    expect(rows.map(([name]) => name)).toEqual([...pairLossNames]);
    for (const name of lossNames) {
      const loss = marginLoss({ loss: name, beta: 0.1 });
      const [, , value, slope] = rows.find(([first]) => first === name)!;
      expect(Number(value)).toBeCloseTo(loss.value(0), 8);
      expect(Number(slope)).toBeCloseTo(loss.derivative(0), 8);
    }
  });

  it('has every weighting, and the settings that the configuration takes with it', () => {
    const rows = table('losses-and-weights.md', '`weights`');
    expect(rows.map(([name]) => name)).toEqual([...weightingNames]);
    const values: Record<string, unknown> = {
      ambiguity: { set: 'simplex' },
      step: 0.01,
      schedule: 'adaptive',
      chi: 0.5,
      mixture: 'pairs',
      order: 'alternating',
      iterate: 'average',
      scaling: 'paper',
      pairWeights: [1],
    };
    const own = Object.keys(objectiveKeys.shape).filter(
      (key) => !['loss', 'beta', 'labelSmoothing', 'gamma', 'tilt', 'reduction', 'weights'].includes(key),
    );
    const accepts = (keys: object) => objectiveSchema.safeParse({ loss: 'ipo', beta: 1, ...keys }).success;
    for (const [weights, , , settings] of rows) {
      const base = { weights, ...(accepts({ weights }) ? {} : { step: 0.01 }) };
      const taken = own.filter((key) =>
        accepts({ ...base, ...(key === 'mixture' && { chi: 0.5 }), [key]: values[key] ?? 0.1 }),
      );
      expect(settings.split(', ').filter(Boolean)).toEqual(taken);
    }
  });

  it('has every ambiguity set', () =>
    expect(firstColumn('losses-and-weights.md', '`set`')).toEqual([...ambiguityNames]));

  it('has every key of objective', () =>
    expect(firstColumn('losses-and-weights.md', 'key')).toEqual(Object.keys(objectiveKeys.shape)));
});

it('metrics.md has every metric of a run and no other', () => {
  const { groups } = JSON.parse(readFileSync(inFolder('gr-ipo/run.json'), 'utf8')) as { groups: object };
  const lines = readFileSync(inFolder('gr-ipo/metrics.jsonl'), 'utf8').trim().split('\n');
  const keys = lines.flatMap((line) => Object.keys(JSON.parse(line)));
  const general = keys.map((key) => {
    const plain = key.replace(/^eval_/, '');
    return Object.keys(groups).reduce((name, group) => name.replace(`group/${group}/`, 'group/<name>/'), plain);
  });
  expect(firstColumn('metrics.md', 'metric').sort()).toEqual([...new Set(general)].sort());
});

it('data-formats.md names every file of a run folder', () => {
  const named = firstColumn('data-formats.md', 'file').map((name) => name.replace(/\/$/, ''));
  const found = readdirSync(inFolder('ipo')).map((name) => name.replace(/(?<=tfevents\.).*/, '*'));
  expect(named.sort()).toEqual(found.sort());
});

describe('theory.md', () => {
  it('states a problem that is solved as it is written', () => {
    const [problem] = fencedBlocks('docs/theory.md', 'json');
    writeFileSync(join(folder, 'problem.json'), problem);
    const { json, status, stderr } = groupRobust(['converge', '--problem', join(folder, 'problem.json')]);
    expect(status, stderr).toBe(0);
    expect(json.upper - json.lower).toBeLessThan(1e-6);
    expect(json.alpha).toHaveLength(2);
  });

  it('has the constants of the code', () => {
    const problem = {
      dimension: 1,
      groups: [{ count: 2, differences: Float64Array.of(3, 1), offsets: Float64Array.of(0.5, -2) }],
    };
    const [B_phi, beta, radius] = [3, 0.5, 4];
    const H = B_phi * radius + 2;
    const of = (loss: 'dpo' | 'ipo') => convergenceConstants(problem, marginLoss({ loss, beta }), radius, 1);
    expect(of('dpo')).toMatchObject({
      B_phi,
      B_grad: beta * B_phi,
      B_l: expect.closeTo(Math.log1p(Math.exp(beta * H)), 10),
      rho: 1,
    });
    expect(of('ipo')).toMatchObject({ B_phi, B_grad: 2 * B_phi * (H + 1), B_l: expect.closeTo((H + 1) ** 2, 10) });
  });
});

it('experiments/library.ts shows the library at work', () => {
  const args = ['--import', 'tsx', 'experiments/library.ts'];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  expect(status, stdout + stderr).toBe(0);
  expect(stdout).toMatch(/formal: loss .*\ncasual: loss .*\nα 0\.429, 0\.571/);
});

it('experiments/own-objective.ts trains by a loss and a weighting of its own', () => {
  const args = ['--import', 'tsx', 'experiments/own-objective.ts'];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  expect(status, stdout + stderr).toBe(0);
  expect(stdout).toMatch(/formal: loss 0\.\d+, weight 0\.\d+\ncasual: /);
});

describe('architecture.md', () => {
  const folders = readdirSync('src', { withFileTypes: true }).flatMap((entry) =>
    entry.isDirectory() ? [`src/${entry.name}`] : [],
  );

  it('has every folder of the source', () =>
    expect(firstColumn('architecture.md', 'folder').sort()).toEqual(['native', 'native/simulator', ...folders].sort()));

  it('shows every folder in its picture, and no other', () => {
    const picture = readFileSync('docs/architecture.svg', 'utf8');
    const shown = [...picture.matchAll(/font-weight="600">([^<]*)</g)].flatMap(([, names]) => names.split(', '));
    expect(shown.sort()).toEqual(['native', ...folders].sort());
  });
});
