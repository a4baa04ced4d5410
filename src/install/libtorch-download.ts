import { mkdir, readdir, rename, stat, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { GroupRobustError } from '../errors.js';
import { fetchWithin, saveBody } from '../files/download.js';
import { filesBelow, writeFolderWhole } from '../files/write.js';
import { detectLibc } from '../native/libc.js';
import { BUILD_COMMAND } from '../package.js';
import { progress } from '../terminal/progress.js';
import { inWorkFolder } from './cache.js';
import {
  archiveFolder,
  type CacheManifest,
  faultOf,
  inspectLibTorch,
  type LibTorch,
  MANIFEST,
  missingParts,
  PINNED_CUDA,
  PINNED_VERSION,
  partRequirements,
  type ResolvedLibTorch,
  readCached,
  wheelFolder,
} from './libtorch.js';
import { pipInstall } from './pip.js';
import { run } from './tools.js';

/** Ways 4 and 5 of libtorch.ts: fetch LibTorch into the cache. All text goes to stderr. */

/** A host that cannot be reached must fail in seconds, in ms. */
const ANSWER_TIMEOUT = 10_000;

/** The official archive, or undefined where none is published for this platform. */
export function archiveUrl(
  variant: string,
  platform: string = process.platform,
  arch: string = process.arch,
): string | undefined {
  const base = 'https://download.pytorch.org/libtorch';
  if (platform === 'linux' && arch === 'x64')
    return `${base}/${variant}/libtorch-shared-with-deps-${PINNED_VERSION}%2B${variant}.zip`;
  if (platform === 'darwin' && arch === 'arm64') return `${base}/cpu/libtorch-macos-arm64-${PINNED_VERSION}.zip`;
  return undefined;
}

export interface DownloadOptions {
  env?: NodeJS.ProcessEnv;
  /** Whether the addon is to be built for CUDA. */
  cuda?: boolean;
  log: (text: string) => void;
  /** In place of the official archive; for tests. */
  archive?: string;
}

/**
 * Fetches LibTorch: the archive where its host can be reached, else through pip. What an earlier fetch has brought is not
 * fetched again.
 * @throws GroupRobustError with code LIBTORCH_UNAVAILABLE listing what was tried and what to do.
 */
export async function downloadLibTorch({
  env = process.env,
  cuda = false,
  log,
  archive,
}: DownloadOptions): Promise<ResolvedLibTorch> {
  if (detectLibc() === 'musl')
    throw unavailable(['LibTorch is published for glibc, and this system has musl: use a Debian or Ubuntu image']);
  const variant = cuda ? PINNED_CUDA : 'cpu';
  const url = archive ?? archiveUrl(variant);
  const wheel = `torch==${PINNED_VERSION}`;
  const ways: { name: string; fetch: () => Promise<ResolvedLibTorch> }[] = [
    ...(url ? [{ name: url, fetch: () => fetchArchive(url, archiveFolder(variant, env), env, log) }] : []),
    { name: `pip install ${wheel}`, fetch: () => fetchWheel(wheel, cuda, env, log) },
  ];
  // A wheel that is there is nearer than another archive, though it may lack parts.
  if (readCached(wheelFolder(env))) ways.reverse();
  const tried: string[] = [];
  for (const { name, fetch } of ways) {
    try {
      const torch = await fetch();
      const fault = faultOf(torch, cuda, env);
      if (!fault) return torch;
      throw new Error(fault.problem);
    } catch (error) {
      tried.push(`${name}: ${reason(error)}`);
      log(tried.at(-1)!);
    }
  }
  throw unavailable(tried);
}

function unavailable(tried: string[]): GroupRobustError {
  return new GroupRobustError(
    'LIBTORCH_UNAVAILABLE',
    [
      `no LibTorch ${PINNED_VERSION} could be found or fetched:`,
      ...tried.map((line) => `  - ${line}`),
      '  fix: set LIBTORCH to a LibTorch folder, install torch in the Python on PATH,',
      `       or configure pip for your mirror (PIP_INDEX_URL, PIP_FIND_LINKS) and run ${BUILD_COMMAND} again`,
    ].join('\n'),
  );
}

function reason(error: unknown): string {
  const { message, cause } = error as Error;
  return cause instanceof Error ? `${message} (${cause.message})` : message;
}

/** The archive's lib/, include/ and share/, at `target` in one rename. */
async function fetchArchive(
  url: string,
  target: string,
  env: NodeJS.ProcessEnv,
  log: (text: string) => void,
): Promise<ResolvedLibTorch> {
  if (!readCached(target))
    await inWorkFolder(env, async (work) => {
      const archive = join(work, 'libtorch.zip');
      await downloadFile(url, archive, log);
      log('unpacking');
      // CMake checks each entry's CRC.
      await run('cmake', ['-E', 'chdir', work, 'cmake', '-E', 'tar', 'xf', archive], process.env);
      await install(join(work, 'libtorch'), target, url);
    });
  return { ...inspectLibTorch(target), origin: `downloaded from ${new URL(url).host}` };
}

/** The torch wheel and, beside it, what its libraries need of other wheels; only what is not there yet is fetched. */
async function fetchWheel(
  wheel: string,
  cuda: boolean,
  env: NodeJS.ProcessEnv,
  log: (text: string) => void,
): Promise<ResolvedLibTorch> {
  const target = wheelFolder(env);
  if (!readCached(target))
    await inWorkFolder(env, async (work) => {
      log(`fetching ${wheel} with pip`);
      const site = await pipInstall(work, [wheel], env, ['--no-deps']);
      await moveFiles(site, dirname(target), (path) => /^torch-.*\.dist-info\//.test(path));
      await install(join(site, 'torch'), target, wheel);
    });
  const torch = inspectLibTorch(target);
  const parts = missingParts(torch, cuda, env).length > 0 ? partRequirements(torch, cuda) : [];
  if (parts.length > 0)
    await inWorkFolder(env, async (work) => {
      log(`fetching with pip what its libraries need: ${parts.join(', ')}`);
      const site = await pipInstall(work, parts, env);
      // Shared libraries alone are loaded; headers and compilers come with nvcc.
      await moveFiles(site, dirname(target), (path) => /^nvidia\/[^/]+\/lib\/.*\.so(\.\d+)*$/.test(path));
    });
  return { ...torch, origin: `pip install ${wheel}` };
}

/** Keeps what a build needs of an unpacked LibTorch, with a note of its files, at `target` in one rename. */
async function install(unpacked: string, target: string, source: string): Promise<LibTorch> {
  // Another build may have been quicker.
  const other = readCached(target);
  if (other) return other;
  await writeFolderWhole(
    target,
    async (folder) => {
      await moveFiles(unpacked, folder, (path) => /^((lib|include|share)\/|version\.py$|build-version$)/.test(path));
      inspectLibTorch(folder);
      const sizes: Record<string, number> = {};
      for (const entry of await readdir(join(folder, 'lib'), { withFileTypes: true }))
        if (entry.isFile()) sizes[entry.name] = (await stat(join(folder, 'lib', entry.name))).size;
      const manifest: CacheManifest = { version: PINNED_VERSION, source, sizes };
      await writeFile(join(folder, MANIFEST), JSON.stringify(manifest, null, 2));
    },
    { replace: true },
  );
  return inspectLibTorch(target);
}

/** Moves the files below `from` that are `wanted`, by their path there, to the same place below `to`, each in one rename. */
async function moveFiles(from: string, to: string, wanted: (path: string) => boolean): Promise<void> {
  for (const file of filesBelow(from)) {
    const path = relative(from, file);
    if (!wanted(path)) continue;
    await mkdir(dirname(join(to, path)), { recursive: true });
    await rename(file, join(to, path));
  }
}

/** Downloads `url` to `path`, checked against the announced size; gives up soon on a host that does not answer. */
async function downloadFile(url: string, path: string, log: (text: string) => void): Promise<void> {
  const response = await fetchWithin(url, {}, { answer: ANSWER_TIMEOUT });
  const announced = Number(response.headers.get('content-length'));
  if (!response.ok || !announced) {
    await response.body?.cancel();
    throw new Error(response.ok ? 'the server does not say how long the file is' : `HTTP ${response.status}`);
  }

  log(`fetching ${url} (${megabytes(announced)} MB)`);
  const bar = progress('LibTorch, MB', megabytes(announced));
  const received = await saveBody(response, path, (bytes) => bar.update(megabytes(bytes))).finally(() => bar.stop());
  if (received !== announced) throw new Error(`${received} bytes arrived, ${announced} were announced`);
}

const megabytes = (bytes: number) => Math.ceil(bytes / 1e6);
