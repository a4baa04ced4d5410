import { existsSync, readFileSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { InputError } from '../errors.js';
import { capture, findNvcc, findPython } from './tools.js';

/**
 * Which LibTorch the addon is built against. In this order:
 *
 * 1. the folder in the environment variable LIBTORCH;
 * 2. what an earlier build used or fetched: the one this checkout was built with, then this user's cache;
 * 3. a torch installed in the Python on PATH;
 * 4. the official LibTorch archive;
 * 5. `pip download torch`, whose wheel carries the same libraries, headers and CMake files.
 *
 * This file does 1 to 3, which need no network; libtorch-download.ts does 4 and 5.
 */

/** What downloads get. */
export const PINNED_VERSION = '2.13.0';
/** Inclusive range of minor versions of LibTorch 2 that the addon builds and passes its tests with. */
export const SUPPORTED_MINOR: readonly [number, number] = [11, 14];
export const SUPPORTED_TEXT = `2.${SUPPORTED_MINOR[0]} to 2.${SUPPORTED_MINOR[1]}`;

/** This package's own folder, from src/native as from dist/native. */
export const PACKAGE_ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '../..');

/** A folder with lib/, include/ and share/cmake/Torch. */
export interface LibTorch {
  folder: string;
  version: string;
  /** Built with CUDA (has libtorch_cuda). */
  cuda: boolean;
  /** _GLIBCXX_USE_CXX11_ABI of its libraries; the addon takes it over. */
  cxx11Abi: boolean;
}

export interface ResolvedLibTorch extends LibTorch {
  /** Which of the five ways found it, for people. */
  origin: string;
}

/** What a download leaves beside the files: enough to notice later that one is missing or cut short. */
export interface CacheManifest {
  version: string;
  source: string;
  /** Bytes of each file of lib/. */
  sizes: Record<string, number>;
}
export const MANIFEST = 'group-robust-libtorch.json';

const LIBRARY_SUFFIX = process.platform === 'darwin' ? 'dylib' : 'so';

/** Reads what `folder` is. @throws InputError when it is no LibTorch: says which part is missing. */
export function inspectLibTorch(folder: string): LibTorch {
  const missing = [
    `lib/libtorch_cpu.${LIBRARY_SUFFIX}`,
    'include/ATen/ATen.h',
    'share/cmake/Torch/TorchConfig.cmake',
  ].filter((part) => !existsSync(join(folder, part)));
  if (missing.length > 0)
    throw new InputError(`is no LibTorch folder: ${missing.join(', ')} missing`, {
      at: { file: folder },
      fix: 'name the folder that has lib/, include/ and share/cmake/Torch (of an unpacked LibTorch, or of the Python package torch)',
    });
  const cmake = (name: string) => {
    const file = join(folder, 'share/cmake/Torch', name);
    return existsSync(file) ? readFileSync(file, 'utf8') : '';
  };
  const version = /PACKAGE_VERSION "([^"]+)"/.exec(cmake('TorchConfigVersion.cmake'))?.[1] ?? 'unknown';
  return {
    folder,
    version,
    cuda: existsSync(join(folder, `lib/libtorch_cuda.${LIBRARY_SUFFIX}`)),
    cxx11Abi: !cmake('TorchConfig.cmake').includes('_GLIBCXX_USE_CXX11_ABI=0'),
  };
}

export function isSupported(version: string): boolean {
  const [major, minor] = version.split('.').map(Number);
  return major === 2 && minor >= SUPPORTED_MINOR[0] && minor <= SUPPORTED_MINOR[1];
}

/** Where LibTorch is kept for all checkouts of this user: GROUP_ROBUST_CACHE, else the XDG cache folder. */
export function cacheFolder(env: NodeJS.ProcessEnv = process.env): string {
  return resolve(env.GROUP_ROBUST_CACHE || join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'group-robust-po'));
}

/** "cpu", or "cu130" where nvcc of CUDA 13.0 is found. */
export function preferredVariant(env: NodeJS.ProcessEnv = process.env): string {
  const nvcc = process.platform === 'linux' ? findNvcc(env) : undefined;
  return nvcc ? `cu${nvcc.version.replace('.', '')}` : 'cpu';
}

export function cachedFolder(variant: string, env: NodeJS.ProcessEnv = process.env): string {
  return join(cacheFolder(env), `libtorch-${PINNED_VERSION}-${process.platform}-${process.arch}-${variant}`);
}

/** A whole LibTorch from an earlier download, or undefined. */
export function readCached(folder: string): LibTorch | undefined {
  try {
    const manifest = JSON.parse(readFileSync(join(folder, MANIFEST), 'utf8')) as CacheManifest;
    for (const [name, size] of Object.entries(manifest.sizes))
      if (statSync(join(folder, 'lib', name)).size !== size) return undefined;
    return inspectLibTorch(folder);
  } catch {
    return undefined;
  }
}

/** Where the torch of the Python on PATH lives, without importing it. */
export function pythonTorchFolder(env: NodeJS.ProcessEnv = process.env): string | undefined {
  const python = findPython(env);
  if (!python) return undefined;
  const script =
    'import importlib.util as u; s = u.find_spec("torch"); print(s.submodule_search_locations[0] if s else "")';
  return capture(python.command, ['-c', script], env) || undefined;
}

export interface FindOptions {
  env?: NodeJS.ProcessEnv;
  /** The folder this checkout was last built with. */
  earlier?: string;
  /** Told why a candidate was passed over. */
  log?: (text: string) => void;
}

/**
 * Ways 1 to 3; undefined when none has a LibTorch.
 * @throws InputError when LIBTORCH names a folder that is none, or of a version that is not supported: what the user has
 * asked for is never replaced in silence.
 */
export function findLibTorch({
  env = process.env,
  earlier,
  log = () => {},
}: FindOptions = {}): ResolvedLibTorch | undefined {
  const variant = preferredVariant(env);
  // Its CMake files insist on a CUDA toolkit, and fail without.
  const needsNvcc = (torch: LibTorch) => torch.cuda && variant === 'cpu';

  if (env.LIBTORCH) {
    const torch = inspectLibTorch(resolve(env.LIBTORCH));
    if (!isSupported(torch.version))
      throw new InputError(`LibTorch ${torch.version} is not supported`, {
        at: { file: torch.folder, field: 'LIBTORCH' },
        fix: `use a version from ${SUPPORTED_TEXT}, or unset LIBTORCH`,
      });
    if (needsNvcc(torch))
      throw new InputError('this LibTorch is built with CUDA, and nvcc was not found', {
        at: { file: torch.folder, field: 'LIBTORCH' },
        fix: 'install the CUDA toolkit and put nvcc on PATH, or use a CPU build of LibTorch',
      });
    return { ...torch, origin: 'LIBTORCH' };
  }

  if (earlier && existsSync(earlier)) {
    try {
      const torch = inspectLibTorch(earlier);
      if (isSupported(torch.version) && !needsNvcc(torch)) return { ...torch, origin: 'an earlier build' };
    } catch (error) {
      log(`the LibTorch of the earlier build is damaged: ${(error as Error).message}`);
    }
  }
  for (const name of new Set([variant, 'cpu'])) {
    const folder = cachedFolder(name, env);
    if (!existsSync(folder)) continue;
    const torch = readCached(folder);
    if (torch) return { ...torch, origin: 'cache' };
    log(`passed over ${folder}: damaged`);
  }

  const folder = pythonTorchFolder(env);
  if (folder) {
    try {
      const torch = inspectLibTorch(folder);
      if (!isSupported(torch.version)) log(`passed over Python's torch ${torch.version}: not in ${SUPPORTED_TEXT}`);
      else if (needsNvcc(torch))
        log(`passed over Python's torch ${torch.version}: built with CUDA, and there is no nvcc`);
      else return { ...torch, origin: "Python's torch" };
    } catch (error) {
      log(`passed over Python's torch: ${(error as Error).message}`);
    }
  }
  return undefined;
}
