import { existsSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { GroupRobustError } from '../errors.js';
import { filesBelow } from '../files/write.js';
import { PACKAGE_ROOT } from '../package.js';
import { PLATFORM } from './cache.js';
import { cudaTools, requireWorking, wantsCuda } from './cuda.js';
import { CUDA_CMAKE } from './gpu.js';
import { findLibTorch, type ResolvedLibTorch } from './libtorch.js';
import { downloadLibTorch } from './libtorch-download.js';
import { readStamp, updateStamp } from './stamp.js';
import { digest, log, runScript } from './steps.js';
import { findCmake, findCompiler, findMake, isAtLeast, pathOf, type Tool } from './tools.js';

const ADDON = join(PACKAGE_ROOT, 'build/Release/group_robust.node');
/** The simulator's, which the same build makes. */
const SIMULATOR = join(PACKAGE_ROOT, 'build/Release/group_robust_simulator.node');
const require = createRequire(import.meta.url);

function requireTools(cuda: boolean): { compiler: Tool; make: Tool } {
  const compiler = findCompiler();
  const cmake = findCmake();
  const make = findMake();
  const missing = [
    !compiler && 'a C++ compiler (Debian: g++)',
    !cmake && 'CMake (Debian: cmake)',
    cmake &&
      cuda &&
      !isAtLeast(cmake.version, CUDA_CMAKE) &&
      `CMake ${CUDA_CMAKE} for CUDA, and this is ${cmake.version} (pip install cmake)`,
    !make && 'make or ninja (Debian: make)',
  ].filter(Boolean);
  if (!compiler || !make || missing.length > 0)
    throw new GroupRobustError(
      'BUILD_TOOLS',
      `the build needs ${missing.join(', ')}\n  fix: apt-get install g++ cmake make python3 python3-pip, or what your system calls them`,
    );
  return { compiler, make };
}

/** Variables that CMake and its compilers read when they configure, and then no more. */
const variables = ['CXX', 'CXXFLAGS', 'LDFLAGS', 'CUDAHOSTCXX', 'CUDAARCHS', 'CUDAFLAGS'];

/**
 * Finds or fetches LibTorch and builds the addon, build/Release/group_robust.node of this package, and the simulator's beside it; passed
 * over where nothing that decides them has changed. Everything is said on stderr, so that `npm run --silent bench -- --json` stays clean.
 */
export async function buildAddon(): Promise<{ addon: string; libtorch: string; cuda: boolean }> {
  const stamp = readStamp();
  const cuda = wantsCuda(stamp);
  const { compiler, make } = requireTools(cuda);
  const torch: ResolvedLibTorch =
    findLibTorch({ earlier: stamp.libtorch, cuda, log }) ?? (await downloadLibTorch({ cuda, log }));
  log(`LibTorch ${torch.version} (${torch.origin}), for ${cuda ? 'CUDA' : 'the CPU'}: ${torch.folder}`);

  const result = { addon: ADDON, libtorch: torch.version, cuda };
  const sources = [...filesBelow(join(PACKAGE_ROOT, 'native')), join(PACKAGE_ROOT, 'CMakeLists.txt')];
  const versions = ['cmake-js', 'node-addon-api'].map(
    (name) => (require(`${name}/package.json`) as { version: string }).version,
  );
  const surroundings = [
    PLATFORM,
    `${compiler.command}: ${compiler.version}`,
    ...variables.map((name) => `${name}=${process.env[name] ?? ''}`),
  ];
  const addon = digest(sources, ...surroundings, ...versions, torch.folder, torch.version, String(cuda));
  if (stamp.addon === addon && existsSync(ADDON) && existsSync(SIMULATOR)) {
    log('addon is up to date');
    return result;
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
  // cmake-js takes ninja where it finds it, and CMake refuses to change from one to the other.
  const configured = digest([], ...settings, ...surroundings, pathOf(make.command));
  // Another LibTorch, compiler, nvcc or place of the checkout leaves its paths all over CMake's cache.
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
  // A file takes up to 2 GB to compile.
  const jobs = Math.max(1, Math.min(availableParallelism(), Math.floor(totalmem() / 2 ** 31)));
  log(`compiling the addon (${jobs} at a time)`);
  await runScript('compiling the addon', cmakeJs, ['build', ...shared, '--parallel', String(jobs)]);
  updateStamp({ addon, libtorch: torch.folder, cuda });
  return result;
}
