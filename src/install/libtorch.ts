import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { InputError } from '../errors.js';
import { cacheFolder, PLATFORM } from './cache.js';
import { capture, findPython, neededLibraries } from './tools.js';

/**
 * Which LibTorch the addon is built against. In this order:
 *
 * 1. the folder in the environment variable LIBTORCH;
 * 2. what an earlier build used or fetched: the one this checkout was built with, then this user's cache;
 * 3. a torch installed in the Python on PATH;
 * 4. the official LibTorch archive;
 * 5. by pip, the torch wheel, which carries the same libraries and headers, and the packages that its libraries need.
 *
 * This file does 1 to 3, which need no network; libtorch-download.ts does 4 and 5. A build for CUDA serves for the CPU too:
 * the addon then links to none of its CUDA libraries.
 */

/** What downloads get. */
export const PINNED_VERSION = '2.13.0';
/** The archive's variant for CUDA: of the version that PyPI's wheel is built for. */
export const PINNED_CUDA = 'cu130';
/** Inclusive range of minor versions of LibTorch 2 that the addon builds and passes its tests with. */
const SUPPORTED_MINOR: readonly [number, number] = [11, 14];
export const SUPPORTED_TEXT = `2.${SUPPORTED_MINOR[0]} to 2.${SUPPORTED_MINOR[1]}`;

/** A folder with lib/, include/ and share/cmake/Torch. */
export interface LibTorch {
  folder: string;
  version: string;
  /** The version of CUDA that it was built for, like "13.0", or "unknown"; undefined for a CPU build. */
  cuda: string | undefined;
  /** _GLIBCXX_USE_CXX11_ABI of its libraries; the addon takes it over. */
  cxx11Abi: boolean;
}

export interface ResolvedLibTorch extends LibTorch {
  /** Which of the five ways found it, for people. */
  origin: string;
}

/** What a download leaves in the folder of a LibTorch: enough to notice later that a file is missing or cut short. */
export interface CacheManifest {
  version: string;
  source: string;
  /** Bytes of each file of lib/. */
  sizes: Record<string, number>;
}
export const MANIFEST = 'group-robust-libtorch.json';

const LIBRARY_SUFFIX = process.platform === 'darwin' ? 'dylib' : 'so';

/** The file of a LibTorch's library, such as "torch_cpu". */
export function libraryFile(folder: string, name: string): string {
  return join(folder, `lib/lib${name}.${LIBRARY_SUFFIX}`);
}

/** Reads what `folder` is. @throws InputError when it is no LibTorch: says which part is missing. */
export function inspectLibTorch(folder: string): LibTorch {
  const missing = [
    `lib/libtorch_cpu.${LIBRARY_SUFFIX}`,
    'include/ATen/ATen.h',
    'share/cmake/Torch/TorchConfig.cmake',
  ].filter((part) => !existsSync(join(folder, part)));
  if (missing.length > 0)
    throw new InputError(`is not a LibTorch folder: ${missing.join(', ')} missing`, {
      at: { file: folder },
      fix: 'name the folder that has lib/, include/ and share/cmake/Torch (of an unpacked LibTorch, or of the Python package torch)',
    });
  const text = (name: string) => {
    const file = join(folder, name);
    return existsSync(file) ? readFileSync(file, 'utf8') : '';
  };
  // A wheel says it in version.py, an archive in build-version ("2.13.0+cu130").
  const cuda =
    /^cuda\b.*'(\d+\.\d+)'/m.exec(text('version.py'))?.[1] ??
    /\+cu(\d+)(\d)\s*$/.exec(text('build-version'))?.slice(1).join('.') ??
    'unknown';
  return {
    folder,
    version: /PACKAGE_VERSION "([^"]+)"/.exec(text('share/cmake/Torch/TorchConfigVersion.cmake'))?.[1] ?? 'unknown',
    cuda: existsSync(libraryFile(folder, 'torch_cuda')) ? cuda : undefined,
    cxx11Abi: !text('share/cmake/Torch/TorchConfig.cmake').includes('_GLIBCXX_USE_CXX11_ABI=0'),
  };
}

export function isSupported(version: string): boolean {
  const [major, minor = Number.NaN] = version.split('.').map(Number);
  return major === 2 && minor >= SUPPORTED_MINOR[0] && minor <= SUPPORTED_MINOR[1];
}

/** What the dynamic loader would not find for LibTorch's libraries, with or without those for CUDA; the driver's own apart. */
export function missingParts({ folder }: LibTorch, cuda: boolean, env: NodeJS.ProcessEnv): string[] {
  const names = cuda ? ['torch_cpu', 'torch_cuda'] : ['torch_cpu'];
  const needed = names.flatMap((name) => [...neededLibraries(libraryFile(folder, name), env)]);
  const missing = needed.filter(([library, path]) => path === undefined && !library.startsWith('libcuda.so'));
  return [...new Set(missing.map(([library]) => library))];
}

/** The requirements in the metadata of the torch wheel that `folder` is of; none where there is no metadata. */
export function wheelRequirements(folder: string): string[] {
  const info = readdirSync(dirname(folder)).find((name) => /^torch-\d.*\.dist-info$/.test(name));
  const metadata = info && join(dirname(folder), info, 'METADATA');
  if (!metadata || !existsSync(metadata)) return [];
  return [...readFileSync(metadata, 'utf8').matchAll(/^Requires-Dist: (.*?)\s*$/gm)].map(([, text = '']) => text);
}

/** Where the archive of a variant, "cpu" or "cu130", is kept. */
export function archiveFolder(variant: string, env: NodeJS.ProcessEnv = process.env): string {
  return join(cacheFolder(env), `libtorch-${PINNED_VERSION}-${PLATFORM}-${variant}`);
}

/** Where the torch wheel is kept, as it lies in Python's site-packages: its libraries look for others beside it. */
export function wheelFolder(env: NodeJS.ProcessEnv = process.env): string {
  return join(cacheFolder(env), `torch-${PINNED_VERSION}-${PLATFORM}`, 'torch');
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
function pythonTorchFolder(env: NodeJS.ProcessEnv = process.env): string | undefined {
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
  /** Whether the addon is to be built for CUDA. */
  cuda?: boolean;
  /** Told why a candidate was passed over. */
  log?: (text: string) => void;
}

/**
 * Ways 1 to 3; undefined when none has a LibTorch that serves.
 * @throws InputError when LIBTORCH names a folder that is none, or one that does not serve: what the user has asked for is
 * never replaced in silence.
 */
export function findLibTorch({
  env = process.env,
  earlier,
  cuda = false,
  log = () => {},
}: FindOptions = {}): ResolvedLibTorch | undefined {
  for (const torch of candidates(env, earlier, log)) {
    const fault = faultOf(torch, cuda, env);
    if (!fault) return torch;
    if (torch.origin === 'LIBTORCH')
      throw new InputError(fault.problem, { at: { file: torch.folder, field: 'LIBTORCH' }, fix: fault.fix });
    // What our own downloads lack is fetched.
    const fix = torch.origin === "Python's torch" ? `\n  fix: ${fault.fix}` : '';
    log(`passed over ${torch.folder} (${torch.origin}): ${fault.problem}${fix}`);
  }
  return undefined;
}

/** What is here, in the order of ways 1 to 3. LIBTORCH leaves no other choice. */
function* candidates(
  env: NodeJS.ProcessEnv,
  earlier: string | undefined,
  log: (text: string) => void,
): Generator<ResolvedLibTorch> {
  if (env.LIBTORCH) {
    yield { ...inspectLibTorch(resolve(env.LIBTORCH)), origin: 'LIBTORCH' };
    return;
  }
  const cached = [wheelFolder(env), archiveFolder('cpu', env), archiveFolder(PINNED_CUDA, env)];
  const places: [origin: string, find: () => string | undefined, read: (folder: string) => LibTorch | undefined][] = [
    ['an earlier build', () => earlier, inspectLibTorch],
    ...cached.map((folder): (typeof places)[number] => ['cache', () => folder, readCached]),
    ["Python's torch", () => pythonTorchFolder(env), inspectLibTorch],
  ];
  for (const [origin, find, read] of places) {
    const folder = find();
    if (!folder || !existsSync(folder)) continue;
    try {
      const torch = read(folder);
      if (torch) yield { ...torch, origin };
      else log(`passed over ${folder} (${origin}): damaged`);
    } catch (error) {
      log(`passed over ${folder} (${origin}): ${(error as Error).message}`);
    }
  }
}

/** Why the addon cannot be built against this LibTorch, and what to do; undefined where it can. */
export function faultOf(
  torch: LibTorch,
  cuda: boolean,
  env: NodeJS.ProcessEnv,
): { problem: string; fix: string } | undefined {
  if (!isSupported(torch.version))
    return { problem: `LibTorch ${torch.version} is not supported`, fix: `use a version from ${SUPPORTED_TEXT}` };
  if (cuda && torch.cuda === undefined)
    return {
      problem: 'this LibTorch is built for the CPU only, and one for CUDA is wanted',
      fix: 'name one that was built with CUDA, or set GROUP_ROBUST_CUDA=0',
    };
  const missing = missingParts(torch, cuda, env);
  if (missing.length === 0) return undefined;
  const requirements = partRequirements(torch, cuda).map((text) => `'${text}'`);
  return {
    problem: `its libraries need ${missing.join(', ')}, which ${missing.length > 1 ? 'are' : 'is'} not here`,
    fix:
      requirements.length > 0
        ? `install beside it: pip install ${requirements.join(' ')}`
        : 'install the packages that have them, or name their folders in LD_LIBRARY_PATH',
  };
}

/**
 * The packages whose libraries those of a torch wheel need: for the CPU two small ones, as libtorch_cpu is linked with
 * CUDA's runtime and profiler; for CUDA all of CUDA.
 */
export function partRequirements({ folder }: LibTorch, cuda: boolean): string[] {
  // Their conditions all ask for Linux, which has CUDA builds alone.
  const all = wheelRequirements(folder)
    .filter((text) => /^(cuda-toolkit\b|nvidia-)/.test(text))
    .map((text) => text.replace(/;.*/s, '').trim());
  if (cuda) return all;
  return all.flatMap((text) => {
    const version = /^cuda-toolkit\[.*?\]\s*(==[\d.]+)/.exec(text)?.[1];
    return version ? [`cuda-toolkit[cudart,cupti]${version}`] : [];
  });
}
