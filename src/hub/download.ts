import { createHash } from 'node:crypto';
import { existsSync, renameSync, rmSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { saveBody } from '../download.js';
import { InputError } from '../errors.js';
import { makeFolder } from '../files.js';
import { takeLock } from '../lock.js';
import { hashFile } from '../read-file.js';
import { attempts, delays, hubFetch, networkReason, type Repository, statusError } from './client.js';

/** A file as the hub's listing tells of it. */
export interface RemoteFile {
  /** Inside the repository. */
  path: string;
  size: number;
  /** What its content must give: SHA-256 for large files, git's SHA-1 for the others. */
  digest: { algorithm: 'sha256' | 'git'; hex: string };
}

/**
 * Downloads a file to `target`, which appears whole and checked or not at all. What an earlier attempt has left in
 * `target.incomplete` is gone on with; another process that downloads the same file is waited for.
 * @param onBytes is told how many bytes are there, also of earlier attempts
 * @throws InputError
 */
export async function downloadFile(
  url: string,
  file: RemoteFile,
  target: string,
  repository: Repository,
  onBytes: (bytes: number) => void,
): Promise<void> {
  makeFolder(dirname(target));
  const partial = `${target}.incomplete`;
  // Should another process take the lock from a stalled one, the checksum tells whether both wrote.
  await using _ = await takeLock(`${target}.lock`, () => {});
  if (existsSync(target)) return;
  let fresh = sizeOf(partial) === 0;
  for (;;) {
    await fill(partial, url, file, repository, onBytes);
    if ((await digestOf(partial, file)) === file.digest.hex) break;
    rmSync(partial);
    // Remains of an earlier attempt may be at fault, but not a second time.
    if (fresh) throw damaged(repository, file, 'its checksum is not the one the hub tells');
    fresh = true;
  }
  renameSync(partial, target);
}

/** Lengthens `partial` to the size of the file, over as many connections as need be. */
async function fill(
  partial: string,
  url: string,
  file: RemoteFile,
  repository: Repository,
  onBytes: (bytes: number) => void,
): Promise<void> {
  let failures = 0;
  for (;;) {
    const start = sizeOf(partial) > file.size ? 0 : sizeOf(partial);
    if (start === file.size && existsSync(partial)) return;
    try {
      await receive(partial, start, url, file, repository, onBytes);
      if (sizeOf(partial) < file.size)
        throw new Error(`the connection ended after ${sizeOf(partial)} of ${file.size} bytes`);
    } catch (error) {
      if (error instanceof InputError) throw error;
      if (isDiskError(error))
        throw new InputError(`cannot be written: ${(error as Error).message}`, {
          at: { file: partial },
          fix: 'make room, or set HF_HOME to a folder with room that can be written to; what is there is kept',
          cause: error,
        });
      // A connection that brought something is progress, however often connections are cut.
      failures = sizeOf(partial) > start ? 1 : failures + 1;
      if (failures === attempts)
        throw new InputError(`${file.path} cannot be downloaded: ${networkReason((error as Error).cause ?? error)}`, {
          at: { file: repository.name },
          fix: 'try again: it goes on where it stopped',
          cause: error,
        });
      await sleep(1000 * delays[failures - 1]);
    }
  }
}

/** One connection: writes what comes to `partial` from byte `start` on. */
async function receive(
  partial: string,
  start: number,
  url: string,
  file: RemoteFile,
  repository: Repository,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const response = await hubFetch(url, {
    headers: { 'accept-encoding': 'identity', ...(start > 0 && { range: `bytes=${start}-` }) },
  });
  if (response.status === 416) {
    rmSync(partial, { force: true });
    throw new Error('the server refuses to go on where an earlier download stopped');
  }
  if (!response.ok) throw statusError(response.status, repository);
  // A server may send all of the file although a part was asked for.
  const from = response.status === 206 ? start : 0;
  const told = totalOf(response, from);
  if (told !== undefined && told !== file.size) {
    await response.body?.cancel();
    throw damaged(repository, file, `the server sends ${told} bytes, the hub's listing has ${file.size}`);
  }
  await saveBody(
    response,
    partial,
    (received) => {
      if (received > file.size) throw damaged(repository, file, `more than its ${file.size} bytes come`);
      onBytes(received);
    },
    from,
  );
}

/** Bytes of the whole file, as far as the response tells. */
function totalOf({ headers }: Response, from: number): number | undefined {
  const range = /^bytes \d+-\d+\/(\d+)$/.exec(headers.get('content-range') ?? '');
  if (range) return Number(range[1]);
  const length = headers.get('content-length');
  return length === null ? undefined : from + Number(length);
}

async function digestOf(path: string, { digest: { algorithm }, size }: RemoteFile): Promise<string> {
  const hash = createHash(algorithm === 'git' ? 'sha1' : 'sha256');
  if (algorithm === 'git') hash.update(`blob ${size}\0`);
  return (await hashFile(path, hash)).digest('hex');
}

function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}

function isDiskError(error: unknown): boolean {
  return ['ENOSPC', 'EACCES', 'EROFS', 'EDQUOT', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? '');
}

function damaged(repository: Repository, file: RemoteFile, problem: string): InputError {
  return new InputError(`${file.path} is damaged on its way: ${problem}`, {
    at: { file: repository.name },
    fix: 'try again; behind a proxy or mirror, check that it passes files on whole',
  });
}
