import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { expect, it } from 'vitest';
import { readStamp } from '../../src/install/stamp.js';
import { temporaryFolder } from '../temporary-folder.js';

const project = temporaryFolder();

/** Runs a command in another folder, as somebody who knows nothing of this checkout but its LibTorch. */
function run(cwd: string, command: string, ...args: string[]) {
  const env = { ...process.env, LIBTORCH: readStamp().libtorch };
  const { status, stdout, stderr } = spawnSync(command, args, { cwd, env, encoding: 'utf8', maxBuffer: 2 ** 28 });
  return { status, stdout, said: `${stdout}\n${stderr}` };
}

function succeed(...command: [string, ...string[]]): string {
  const { status, stdout, said } = run(project, ...command);
  expect(status, `${command.join(' ')}: ${said}`).toBe(0);
  return stdout;
}

it('is of use in a project that npm has installed it in: it builds there, has types, trains and scores', {
  timeout: 1_200_000,
}, ({ skip }) => {
  // npm test has just compiled dist, and this process may run beside tests that use it.
  const packed = run('.', 'npm', 'pack', '--ignore-scripts', '--pack-destination', project);
  expect(packed.status, packed.said).toBe(0);
  const [archive] = readdirSync(project);

  writeFileSync(join(project, 'package.json'), JSON.stringify({ type: 'module', private: true }));
  const installed = run(project, 'npm', 'install', '--omit=dev', '--prefer-offline', '--no-audit', `./${archive}`);
  if (/ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENOTCACHED/.test(installed.said)) skip('npm reaches no registry');
  expect(installed.status, installed.said).toBe(0);
  expect(readdirSync(join(project, 'node_modules'))).not.toContain('tsx');

  const early = run(project, 'npx', 'group-robust', 'doctor');
  expect(early.status, early.said).toBe(1);
  expect(early.said).toMatch(/MISSING {2}addon .*\n *-> npx group-robust build/);

  const { addon, cuda } = JSON.parse(succeed('npx', 'group-robust', 'build', '--json'));
  expect(cuda).toBe(false);
  expect(addon).toBe(join(project, 'node_modules/group-robust-po/build/Release/group_robust.node'));
  expect(run(project, 'npx', 'group-robust', 'build').said).toMatch(/addon is up to date/);

  // The library's example in a project of one's own: what it prints is judged by itself, its types by the compiler.
  const example = readFileSync('experiments/library.ts', 'utf8').replace("'../src/index.js'", "'group-robust-po'");
  writeFileSync(join(project, 'library.ts'), example);
  succeed(
    process.execPath,
    resolve('node_modules/typescript/bin/tsc'),
    ...'--strict --skipLibCheck --target ES2022 --lib ES2023,ESNext.Disposable --module NodeNext --types node'.split(
      ' ',
    ),
    ...['--typeRoots', resolve('node_modules/@types'), 'library.ts'],
  );
  succeed(process.execPath, 'library.js');

  succeed('npx', 'group-robust', 'data', 'survey', '--rows', '200', '--out', 'runs/survey/data');
  const configuration = join('node_modules/group-robust-po', 'experiments/survey/ipo.yaml');
  const few = ['--set', 'epochs=null', '--set', 'steps=2', '--set', 'adapter=null'];
  succeed('npx', 'group-robust', 'train', configuration, ...few);
  const pairs = 'runs/survey/data/test.jsonl';
  const trained = ['--model', 'random:tiny', '--adapter', 'runs/survey/ipo/adapter', '--pairs', pairs];
  expect(
    JSON.parse(succeed('npx', 'group-robust', 'eval', ...trained, '--objective', 'ipo,beta=0.1', '--json')),
  ).toHaveProperty('mean.loss');
});
