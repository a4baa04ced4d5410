import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { GroupRobustError, InputError } from '../errors.js';
import { writeFolderWhole } from '../files.js';
import { cacheFolder, findLibTorch, type LibTorch, wheelRequirements } from './libtorch.js';
import { pipInstall } from './pip.js';
import type { BuildStamp } from './stamp.js';
import { findNvcc, nvccAt, type Tool } from './tools.js';

/** Building for CUDA: whether to, and with which compiler. */

/**
 * Whether the addon is to be built for CUDA: as GROUP_ROBUST_CUDA says (1 or 0); without it as this checkout was built
 * before; the first time, where a LibTorch for CUDA and an nvcc for it are both here already.
 * @throws InputError where it is asked for and cannot be
 */
export function wantsCuda(stamp: BuildStamp, env: NodeJS.ProcessEnv = process.env): boolean {
  const wish = env.GROUP_ROBUST_CUDA ?? '';
  if (!['', '0', '1'].includes(wish))
    throw new InputError(`must be 1 or 0, not ${JSON.stringify(wish)}`, { at: { field: 'GROUP_ROBUST_CUDA' } });
  if (wish === '1' && process.platform !== 'linux')
    throw new InputError('CUDA is there for Linux only', { at: { field: 'GROUP_ROBUST_CUDA' }, fix: 'unset it' });
  if (wish !== '') return wish === '1';
  if (stamp.cuda !== undefined) return stamp.cuda;
  const nvcc = findNvcc(env);
  if (!nvcc || process.platform !== 'linux') return false;
  try {
    const torch = findLibTorch({ env, cuda: true });
    return torch !== undefined && isFor(nvcc, torch);
  } catch {
    // LIBTORCH names one that does not serve for CUDA.
    return false;
  }
}

export interface CudaTools {
  nvcc: Tool;
  /** The libcudart that LibTorch loads; the addon must share it. */
  runtime: string;
}

/**
 * nvcc for a LibTorch: the system's, where it is of the same major version; else that of an earlier fetch; else pip fetches
 * one into the cache.
 * @throws GroupRobustError where there is none and none can be had
 */
export async function cudaTools(
  torch: LibTorch,
  log: (text: string) => void,
  env: NodeJS.ProcessEnv = process.env,
): Promise<CudaTools> {
  const system = findNvcc(env);
  if (system && !isFor(system, torch))
    log(`passed over ${system.command}: CUDA ${system.version}, and LibTorch is built for ${torch.cuda}`);
  const nvcc = system && isFor(system, torch) ? system : await fetchedNvcc(torch, log, env);
  return { nvcc, runtime: runtimeOf(torch, nvcc) };
}

/**
 * Compiles an empty kernel: CMake says of an nvcc that does not work here only that it has found none.
 * @throws GroupRobustError with nvcc's own words
 */
export function requireWorking(nvcc: Tool): void {
  const work = mkdtempSync(join(tmpdir(), 'nvcc-'));
  try {
    const source = join(work, 'kernel.cu');
    writeFileSync(source, '__global__ void kernel() {}\n');
    const { status, error, stderr, stdout } = spawnSync(nvcc.command, ['-c', source, '-o', join(work, 'kernel.o')], {
      encoding: 'utf8',
    });
    if (status === 0) return;
    const words = error ? error.message : `${stdout}${stderr}`.trim();
    throw new GroupRobustError(
      'CUDA_UNAVAILABLE',
      `nvcc does not work here (${nvcc.command}):\n${words}\n  fix: mend what it names, or build for the CPU with GROUP_ROBUST_CUDA=0`,
    );
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** CUDA's minor versions are compatible with each other. */
function isFor(nvcc: Tool, torch: LibTorch): boolean {
  return nvcc.version.split('.')[0] === torch.cuda?.split('.')[0];
}

/** The version of the metapackage cuda-toolkit for a LibTorch: the wheel's own requirement, else any of its CUDA version. */
function toolkitVersion(torch: LibTorch): string {
  const required = wheelRequirements(torch.folder)
    .map((text) => /^cuda-toolkit\b.*?==\s*([\d.]+)/.exec(text)?.[1])
    .find((version) => version !== undefined);
  return required ?? `${torch.cuda}.*`;
}

/** Where the toolkit for a LibTorch is kept, fetched or not. */
function toolkitFolder(torch: LibTorch, env: NodeJS.ProcessEnv): string {
  const version = toolkitVersion(torch).replace('.*', '');
  return join(cacheFolder(env), `cuda-toolkit-${version}-${process.platform}-${process.arch}`);
}

/** nvcc of an earlier fetch for this LibTorch. */
export function cachedNvcc(torch: LibTorch, env: NodeJS.ProcessEnv = process.env): Tool | undefined {
  const root = cudaRoot(toolkitFolder(torch, env));
  return root === undefined ? undefined : nvccAt(join(root, 'bin/nvcc'), env);
}

async function fetchedNvcc(torch: LibTorch, log: (text: string) => void, env: NodeJS.ProcessEnv): Promise<Tool> {
  const cached = cachedNvcc(torch, env);
  if (cached) return cached;
  const major = Number(torch.cuda?.split('.')[0]);
  if (!(major >= 13))
    throw unavailable(
      `pip has a whole nvcc from CUDA 13 on only, and this LibTorch is built for CUDA ${torch.cuda}`,
      major,
    );
  const requirement = `cuda-toolkit[nvcc,cudart,crt,nvvm,cccl]==${toolkitVersion(torch)}`;
  log(`fetching nvcc with pip: ${requirement}`);
  const target = toolkitFolder(torch, env);
  try {
    await writeFolderWhole(
      target,
      async (folder) => {
        await pipInstall(folder, [requirement], env);
        const root = cudaRoot(folder);
        if (!root) throw new Error('pip has left no nvcc');
        // nvcc and CMake look for these names.
        symlinkSync('lib', join(root, 'lib64'));
        const runtime = readdirSync(join(root, 'lib')).find((name) => /^libcudart\.so\.\d+$/.test(name));
        if (runtime) symlinkSync(runtime, join(root, 'lib/libcudart.so'));
        if (!nvccAt(join(root, 'bin/nvcc'), env)) throw new Error('the nvcc that pip has brought does not run here');
      },
      { replace: true },
    );
  } catch (error) {
    throw unavailable(`${requirement}: ${(error as Error).message}`, major, error);
  }
  return cachedNvcc(torch, env)!;
}

/** The folder with bin/nvcc in what pip has installed. */
function cudaRoot(folder: string): string | undefined {
  const packages = join(folder, 'nvidia');
  if (!existsSync(packages)) return undefined;
  return readdirSync(packages)
    .map((name) => join(packages, name))
    .find((root) => existsSync(join(root, 'bin/nvcc')));
}

/** An archive has its own libcudart, a wheel that of the packages beside it, and some builds the system's. */
function runtimeOf(torch: LibTorch, nvcc: Tool): string {
  const packages = join(dirname(torch.folder), 'nvidia');
  const folders = [
    join(torch.folder, 'lib'),
    ...(existsSync(packages) ? readdirSync(packages).map((name) => join(packages, name, 'lib')) : []),
    ...['lib64', 'lib'].map((name) => join(dirname(dirname(nvcc.command)), name)),
  ];
  for (const folder of folders.filter((name) => existsSync(name))) {
    const name = readdirSync(folder).find((file) => /^libcudart(-\w+)?\.so(\.\d+)?/.test(file));
    if (name) return join(folder, name);
  }
  throw new GroupRobustError(
    'CUDA_UNAVAILABLE',
    `no libcudart was found for the LibTorch at ${torch.folder}; looked in ${folders.join(', ')}`,
  );
}

function unavailable(problem: string, major: number, cause?: unknown): GroupRobustError {
  return new GroupRobustError(
    'CUDA_UNAVAILABLE',
    `no nvcc could be found or fetched: ${problem}\n  fix: install ${major ? `a CUDA ${major} toolkit` : 'the CUDA toolkit'} and put its nvcc on PATH, or set GROUP_ROBUST_CUDA=0`,
    { cause },
  );
}
