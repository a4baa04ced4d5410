import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, extname, join, relative } from 'node:path';
import { GroupRobustError, reportError } from '../errors.js';
import { filesBelow } from '../files.js';
import { type CudaTools, cudaTools, requireWorking, wantsCuda } from './cuda.js';
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

/** SHA-256 of names and contents of files, and of anything else that decides the outcome. */
function digest(files: string[], ...rest: string[]): string {
  const hash = createHash('sha256').update(JSON.stringify(rest));
  for (const file of files) hash.update(`\0${relative(PACKAGE_ROOT, file)}\0`).update(readFileSync(file));
  return hash.digest('hex');
}

function run(what: string, script: string, args: string[], fix = ''): void {
  const { status, error } = spawnSync(process.execPath, [script, ...args], {
    cwd: PACKAGE_ROOT,
    stdio: ['ignore', 2, 2],
  });
  if (status !== 0)
    throw new GroupRobustError(
      'BUILD',
      `${what} failed${error ? `: ${error.message}` : '; its messages are above'}${fix}`,
    );
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
  const stamp = readStamp();
  const cuda = wantsCuda(stamp);
  const torch: ResolvedLibTorch =
    findLibTorch({ earlier: stamp.libtorch, cuda, log }) ?? (await downloadLibTorch({ cuda, log }));
  const tools = cuda ? await cudaTools(torch, log) : undefined;
  log(`LibTorch ${torch.version} (${torch.origin}): ${torch.folder}`);
  log(tools ? `for CUDA, by nvcc ${tools.nvcc.version}: ${tools.nvcc.command}` : 'for the CPU');

  const sources = [...filesBelow(join(PACKAGE_ROOT, 'native')), join(PACKAGE_ROOT, 'CMakeLists.txt')];
  const versions = ['cmake-js', 'node-addon-api'].map(
    (name) => (require(`${name}/package.json`) as { version: string }).version,
  );
  const addon = digest(sources, compiler, ...versions, ...settings(torch, tools));
  if (stamp.addon === addon && existsSync(ADDON)) {
    log('addon is up to date');
    return;
  }

  if (tools) requireWorking(tools.nvcc);
  const work = join(PACKAGE_ROOT, 'build/cmake');
  // Another LibTorch or nvcc leaves its paths all over CMake's cache.
  if (stamp.libtorch !== torch.folder || stamp.cuda !== cuda) rmSync(work, { recursive: true, force: true });
  const cmakeJs = join(dirname(require.resolve('cmake-js/package.json')), 'bin/cmake-js');
  const shared = ['--directory', PACKAGE_ROOT, '--out', work, '--log-level', 'warn'];
  const wayOut = cuda ? '\n  fix: mend what they name, or build for the CPU with GROUP_ROBUST_CUDA=0' : '';
  log('configuring the addon');
  const values = [`CMAKE_LIBRARY_OUTPUT_DIRECTORY=${dirname(ADDON)}`, ...settings(torch, tools)];
  run('CMake', cmakeJs, ['configure', ...shared, ...values.map((value) => `--CD${value}`)], wayOut);
  const jobs = Math.min(2, availableParallelism());
  log(`compiling the addon (${jobs} at a time)`);
  run('compiling the addon', cmakeJs, ['build', ...shared, '--parallel', String(jobs)], wayOut);
  updateStamp({ addon, libtorch: torch.folder, cuda });
}

/** What CMakeLists.txt wants to know, and the addon depends on. */
function settings(torch: ResolvedLibTorch, tools: CudaTools | undefined): string[] {
  return [
    `LIBTORCH=${torch.folder}`,
    `LIBTORCH_VERSION=${torch.version}`,
    `LIBTORCH_CXX11_ABI=${torch.cxx11Abi ? 1 : 0}`,
    `ADDON_CUDA=${tools ? 'ON' : 'OFF'}`,
    ...(tools ? [`CMAKE_CUDA_COMPILER=${tools.nvcc.command}`, `CUDA_RUNTIME=${tools.runtime}`] : []),
  ];
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
