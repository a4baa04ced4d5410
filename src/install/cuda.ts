import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GroupRobustError, InputError } from '../errors.js';
import { cacheFolder, inWorkFolder, PLATFORM } from './cache.js';
import { findLibTorch, type LibTorch, libraryFile, wheelRequirements } from './libtorch.js';
import { pipInstall } from './pip.js';
import type { BuildStamp } from './stamp.js';
import { findNvccs, neededLibraries, nvccAt, type Tool } from './tools.js';

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
    throw new InputError('CUDA is supported on Linux only', { at: { field: 'GROUP_ROBUST_CUDA' }, fix: 'unset it' });
  if (wish !== '') return wish === '1';
  if (stamp.cuda !== undefined) return stamp.cuda;
  if (process.platform !== 'linux' || findNvccs(env).length === 0) return false;
  try {
    const torch = findLibTorch({ env, cuda: true });
    return torch !== undefined && systemNvcc(torch, env) !== undefined;
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
  const others = findNvccs(env).filter((nvcc) => !isFor(nvcc, torch));
  for (const { command, version } of others)
    log(`passed over ${command}: CUDA ${version}, and LibTorch is built for ${torch.cuda}`);
  const nvcc = systemNvcc(torch, env) ?? (await fetchedNvcc(torch, log, env));
  const needed = neededLibraries(libraryFile(torch.folder, 'torch_cuda'), env);
  const runtime = [...needed].find(([name]) => name.startsWith('libcudart'))?.[1];
  if (runtime === undefined)
    throw new GroupRobustError(
      'CUDA_UNAVAILABLE',
      `the libraries of the LibTorch at ${torch.folder} do not load libcudart`,
    );
  return { nvcc, runtime };
}

/** The first of the system's that fits. */
export function systemNvcc(torch: LibTorch, env: NodeJS.ProcessEnv = process.env): Tool | undefined {
  return findNvccs(env).find((nvcc) => isFor(nvcc, torch));
}

/** CUDA's minor versions are compatible with each other. */
function isFor(nvcc: Tool, torch: LibTorch): boolean {
  return torch.cuda === 'unknown' || nvcc.version.split('.')[0] === torch.cuda?.split('.')[0];
}

/**
 * Compiles an empty kernel as CMake would, which says of an nvcc that does not work only that it has found none.
 * @throws GroupRobustError with nvcc's own words
 */
export function requireWorking(nvcc: Tool, env: NodeJS.ProcessEnv = process.env): void {
  const work = mkdtempSync(join(tmpdir(), 'nvcc-'));
  try {
    const source = join(work, 'kernel.cu');
    writeFileSync(source, '__global__ void kernel() {}\n');
    const args = [
      ...(env.CUDAHOSTCXX ? ['-ccbin', env.CUDAHOSTCXX] : []),
      ...(env.CUDAFLAGS ?? '').split(' ').filter(Boolean),
      ...['-c', source, '-o', join(work, 'kernel.o')],
    ];
    const { status, error, stderr, stdout } = spawnSync(nvcc.command, args, { encoding: 'utf8', env });
    if (status === 0) return;
    const words = error ? error.message : `${stdout}${stderr}`.trim();
    throw new GroupRobustError(
      'CUDA_UNAVAILABLE',
      `nvcc does not work here (${nvcc.command}):\n${words}\n  fix: fix what it names, or build for the CPU with GROUP_ROBUST_CUDA=0`,
    );
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
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
  return join(cacheFolder(env), `cuda-toolkit-${version}-${PLATFORM}`);
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
      `pip has a complete nvcc only from CUDA 13 on, and this LibTorch is built for CUDA ${torch.cuda}`,
      major,
    );
  const requirement = `cuda-toolkit[nvcc,cudart,crt,nvvm,cccl]==${toolkitVersion(torch)}`;
  log(`fetching nvcc with pip: ${requirement}`);
  try {
    await inWorkFolder(env, async (work) => {
      const site = await pipInstall(work, [requirement], env);
      const root = cudaRoot(site);
      if (!root) throw new Error('pip has left no nvcc');
      // nvcc and CMake look for these names.
      symlinkSync('lib', join(root, 'lib64'));
      const runtime = readdirSync(join(root, 'lib')).find((name) => /^libcudart\.so\.\d+$/.test(name));
      if (runtime) symlinkSync(runtime, join(root, 'lib/libcudart.so'));
      if (!nvccAt(join(root, 'bin/nvcc'), env)) throw new Error('the nvcc that pip installed does not run here');
      // Another build may have been quicker, and be compiling with its own.
      if (cachedNvcc(torch, env)) return;
      rmSync(toolkitFolder(torch, env), { recursive: true, force: true });
      renameSync(site, toolkitFolder(torch, env));
    });
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

function unavailable(problem: string, major: number, cause?: unknown): GroupRobustError {
  return new GroupRobustError(
    'CUDA_UNAVAILABLE',
    `no nvcc could be found or fetched: ${problem}\n  fix: install ${major ? `a CUDA ${major} toolkit` : 'the CUDA toolkit'} and put its nvcc on PATH, or set GROUP_ROBUST_CUDA=0`,
    { cause },
  );
}
