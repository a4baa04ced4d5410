import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, extname, join, relative } from 'node:path';
import { GroupRobustError, reportError } from '../errors.js';
import { findLibTorch, PACKAGE_ROOT, type ResolvedLibTorch } from './libtorch.js';
import { downloadLibTorch } from './libtorch-download.js';
import { readStamp, updateStamp } from './stamp.js';
import { findCmake, findCompiler, findMake } from './tools.js';

/**
 * `npm run build`: LibTorch, the addon (build/Release/group_robust.node) and the JavaScript (dist/). Steps whose inputs
 * have not changed are passed over. Everything is said on stderr, so that `npm run --silent bench -- --json` stays clean.
 */

const ADDON = join(PACKAGE_ROOT, 'build/Release/group_robust.node');
const require = createRequire(import.meta.url);

function log(text: string): void {
  process.stderr.write(`build: ${text}\n`);
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}

/** SHA-256 of names and contents of files, and of anything else that decides the outcome. */
function digest(files: string[], ...rest: string[]): string {
  const hash = createHash('sha256').update(JSON.stringify(rest));
  for (const file of files) hash.update(`\0${relative(PACKAGE_ROOT, file)}\0`).update(readFileSync(file));
  return hash.digest('hex');
}

function run(what: string, script: string, args: string[]): void {
  const { status, error } = spawnSync(process.execPath, [script, ...args], {
    cwd: PACKAGE_ROOT,
    stdio: ['ignore', 2, 2],
  });
  if (status !== 0)
    throw new GroupRobustError('BUILD', `${what} failed${error ? `: ${error.message}` : '; its messages are above'}`);
}

function requireTools(): string {
  const compiler = findCompiler();
  const missing = [
    !compiler && 'a C++ compiler (Debian: g++)',
    !findCmake() && 'CMake (Debian: cmake)',
    !findMake() && 'make or ninja (Debian: make)',
  ].filter((name) => name !== false);
  if (missing.length > 0)
    throw new GroupRobustError(
      'BUILD_TOOLS',
      `the build needs ${missing.join(', ')}\n  fix: apt-get install g++ cmake make python3 python3-pip, or what your system calls them`,
    );
  return compiler!.version;
}

async function buildAddon(): Promise<void> {
  const compiler = requireTools();
  const torch: ResolvedLibTorch =
    findLibTorch({ earlier: readStamp().libtorch, log }) ?? (await downloadLibTorch({ log }));
  log(`LibTorch ${torch.version}${torch.cuda ? ' with CUDA' : ''} (${torch.origin}): ${torch.folder}`);

  const sources = [...filesBelow(join(PACKAGE_ROOT, 'native')), join(PACKAGE_ROOT, 'CMakeLists.txt')];
  const versions = ['cmake-js', 'node-addon-api'].map(
    (name) => (require(`${name}/package.json`) as { version: string }).version,
  );
  const addon = digest(sources, torch.folder, torch.version, compiler, ...versions);
  if (readStamp().addon === addon && existsSync(ADDON)) {
    log('addon is up to date');
    return;
  }

  const work = join(PACKAGE_ROOT, 'build/cmake');
  // Another LibTorch leaves its paths all over CMake's cache.
  if (readStamp().libtorch !== torch.folder) rmSync(work, { recursive: true, force: true });
  const cmakeJs = join(dirname(require.resolve('cmake-js/package.json')), 'bin/cmake-js');
  const shared = ['--directory', PACKAGE_ROOT, '--out', work, '--log-level', 'warn'];
  log('configuring the addon');
  run('CMake', cmakeJs, [
    'configure',
    ...shared,
    `--CDCMAKE_PREFIX_PATH=${torch.folder}`,
    `--CDCMAKE_LIBRARY_OUTPUT_DIRECTORY=${dirname(ADDON)}`,
  ]);
  const jobs = Math.min(2, availableParallelism());
  log(`compiling the addon (${jobs} at a time)`);
  run('compiling the addon', cmakeJs, ['build', ...shared, '--parallel', String(jobs)]);
  updateStamp({ addon, libtorch: torch.folder });
}

function buildDist(): void {
  const source = join(PACKAGE_ROOT, 'src');
  const target = join(PACKAGE_ROOT, 'dist');
  const program = join(target, 'cli/main.js');
  const files = filesBelow(source);
  const dist = digest([...files, join(PACKAGE_ROOT, 'tsconfig.json'), join(PACKAGE_ROOT, 'tsconfig.build.json')]);
  if (readStamp().dist === dist && existsSync(program)) {
    log('JavaScript is up to date');
    return;
  }

  log('compiling TypeScript');
  // TypeScript's own notes would make it believe that files somebody removed are still there.
  if (!existsSync(program)) rmSync(target, { recursive: true, force: true });
  run('TypeScript', join(dirname(require.resolve('typescript/package.json')), 'bin/tsc'), [
    '-p',
    'tsconfig.build.json',
  ]);
  for (const file of files.filter((name) => extname(name) !== '.ts')) {
    const copy = join(target, relative(source, file));
    mkdirSync(dirname(copy), { recursive: true });
    copyFileSync(file, copy);
  }
  chmodSync(program, 0o755);
  updateStamp({ dist });
}

try {
  await buildAddon();
  buildDist();
} catch (error) {
  reportError(error);
}
