import { createHash } from 'node:crypto';
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, extname, join, relative } from 'node:path';
import { GroupRobustError, reportError } from '../errors.js';
import { takeLock } from '../files/lock.js';
import { filesBelow } from '../files/write.js';
import { CUDA_CMAKE, cudaTools, requireWorking, wantsCuda } from './cuda.js';
import { findLibTorch, PACKAGE_ROOT, type ResolvedLibTorch } from './libtorch.js';
import { downloadLibTorch } from './libtorch-download.js';
import { readStamp, updateStamp } from './stamp.js';
import { findCmake, findCompiler, findMake, isAtLeast, run } from './tools.js';

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

/** Runs a program of node_modules. */
async function runScript(what: string, script: string, args: string[]): Promise<void> {
  await run(process.execPath, [script, ...args], process.env).catch((error) => {
    throw new GroupRobustError('BUILD', `${what} failed (${error.message}); its messages are above`);
  });
}

/** @returns what of the tools decides what the addon becomes */
function requireTools(cuda: boolean): string {
  const compiler = findCompiler();
  const cmake = findCmake();
  const missing = [
    !compiler && 'a C++ compiler (Debian: g++)',
    !cmake && 'CMake (Debian: cmake)',
    cmake &&
      cuda &&
      !isAtLeast(cmake.version, CUDA_CMAKE) &&
      `CMake ${CUDA_CMAKE} for CUDA, and this is ${cmake.version} (pip install cmake)`,
    !findMake() && 'make or ninja (Debian: make)',
  ].filter(Boolean);
  if (missing.length > 0)
    throw new GroupRobustError(
      'BUILD_TOOLS',
      `the build needs ${missing.join(', ')}\n  fix: apt-get install g++ cmake make python3 python3-pip, or what your system calls them`,
    );
  return compiler!.version;
}

async function buildAddon(): Promise<void> {
  const stamp = readStamp();
  const cuda = wantsCuda(stamp);
  const compiler = requireTools(cuda);
  const torch: ResolvedLibTorch =
    findLibTorch({ earlier: stamp.libtorch, cuda, log }) ?? (await downloadLibTorch({ cuda, log }));
  log(`LibTorch ${torch.version} (${torch.origin}), for ${cuda ? 'CUDA' : 'the CPU'}: ${torch.folder}`);

  const sources = [...filesBelow(join(PACKAGE_ROOT, 'native')), join(PACKAGE_ROOT, 'CMakeLists.txt')];
  const versions = ['cmake-js', 'node-addon-api'].map(
    (name) => (require(`${name}/package.json`) as { version: string }).version,
  );
  const addon = digest(sources, compiler, ...versions, torch.folder, torch.version, String(cuda));
  if (stamp.addon === addon && existsSync(ADDON)) {
    log('addon is up to date');
    return;
  }

  // Only now: where the addon is built, nvcc may be gone.
  const tools = cuda ? await cudaTools(torch, log) : undefined;
  if (tools) log(`nvcc ${tools.nvcc.version}: ${tools.nvcc.command}`);
  const settings = [
    `CMAKE_LIBRARY_OUTPUT_DIRECTORY=${dirname(ADDON)}`,
    `LIBTORCH=${torch.folder}`,
    `LIBTORCH_VERSION=${torch.version}`,
    `LIBTORCH_CXX11_ABI=${torch.cxx11Abi ? 1 : 0}`,
    `ADDON_CUDA=${tools ? 'ON' : 'OFF'}`,
    ...(tools ? [`CMAKE_CUDA_COMPILER=${tools.nvcc.command}`, `CUDA_RUNTIME=${tools.runtime}`] : []),
  ];
  const work = join(PACKAGE_ROOT, 'build/cmake');
  const configured = digest([], ...settings);
  // Another LibTorch, nvcc or place of the checkout leaves its paths all over CMake's cache.
  if (stamp.configured !== configured) rmSync(work, { recursive: true, force: true });
  updateStamp({ configured });
  const cmakeJs = join(dirname(require.resolve('cmake-js/package.json')), 'bin/cmake-js');
  const shared = ['--directory', PACKAGE_ROOT, '--out', work, '--log-level', 'warn'];
  log('configuring the addon');
  await runScript('CMake', cmakeJs, ['configure', ...shared, ...settings.map((text) => `--CD${text}`)]).catch(
    (error) => {
      if (tools) requireWorking(tools.nvcc);
      throw error;
    },
  );
  const jobs = Math.min(2, availableParallelism());
  log(`compiling the addon (${jobs} at a time)`);
  await runScript('compiling the addon', cmakeJs, ['build', ...shared, '--parallel', String(jobs)]);
  updateStamp({ addon, libtorch: torch.folder, cuda });
}

async function buildDist(): Promise<void> {
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
  await runScript('TypeScript', join(dirname(require.resolve('typescript/package.json')), 'bin/tsc'), [
    '-p',
    join(PACKAGE_ROOT, 'tsconfig.build.json'),
  ]);
  for (const file of files.filter((name) => extname(name) !== '.ts')) {
    const copy = join(target, relative(source, file));
    mkdirSync(dirname(copy), { recursive: true });
    copyFileSync(file, copy);
  }
  chmodSync(program, 0o755);
  updateStamp({ dist });
}

/** Two builds of one checkout would write the same files. */
async function build(): Promise<void> {
  mkdirSync(join(PACKAGE_ROOT, 'build'), { recursive: true });
  const waiting = setTimeout(() => log('waiting for another build of this checkout'), 2000);
  await using _ = await takeLock(join(PACKAGE_ROOT, 'build/lock'), () => {});
  clearTimeout(waiting);
  await buildAddon();
  await buildDist();
}

await build().catch(reportError);
