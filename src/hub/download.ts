import { createHash } from 'node:crypto';
import { existsSync, renameSync, rmSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { InputError } from '../errors.js';
import { saveBody } from '../files/download.js';
import { takeLock } from '../files/lock.js';
import { hashFile } from '../files/read.js';
import { makeFolder } from '../files/write.js';
import { discard, type Hub, hubFetch, type Repository, refusal } from './client.js';
import type { RemoteFile } from './listing.js';
import { Budget, Passing, patience, type Tell, tellIfLong } from './patience.js';

/** A file of the hub. */
export interface Source {
  hub: Hub;
  repository: Repository;
  file: RemoteFile;
}

/** What a download may cost: 10 kB/s on average at the slowest, and the bytes of failed attempts. */
const limitsOf = ({ size }: RemoteFile) => ({
  seconds: 600 + size / 1e4,
  bytes: (patience.delays.length + 1) * size + 1e6,
});

/** Lies beside a file while a process downloads it. */
export const lockOf = (target: string) => `${target}.lock`;

/**
 * Downloads a file to `target`, which appears whole and checked or not at all. Continues what an earlier attempt has left in
 * `target.incomplete`, and waits for another process that is downloading the same file.
 * @param onBytes is told how many bytes are there, those of earlier attempts included
 * @throws InputError; the file system's errors as they are
 */
export async function downloadFile(
  source: Source,
  target: string,
  onBytes: (bytes: number) => void,
  tell: Tell,
): Promise<void> {
  const { file } = source;
  makeFolder(dirname(target));
  const partial = `${target}.incomplete`;
  // If another process takes the lock from a stalled one and both write, the checksum shows it.
  const lock = takeLock(lockOf(target), () => {});
  await using _ = await tellIfLong(`waiting for another process that is downloading ${file.path}`, tell, lock);
  if (existsSync(target)) return;
  let fresh = sizeOf(partial) === 0;
  for (;;) {
    await fill(partial, source, onBytes, tell);
    if ((await digestOf(partial, file)) === file.digest.hex) break;
    rmSync(partial);
    // The remains of an earlier attempt may have been at fault, but only once.
    if (fresh) throw damaged(source, 'its checksum is not the one that the hub gives');
    fresh = true;
  }
  renameSync(partial, target);
}

/** Fills `partial` up to the size of the file, over as many connections as it takes. */
async function fill(partial: string, source: Source, onBytes: (bytes: number) => void, tell: Tell): Promise<void> {
  const { file, repository } = source;
  const budget = new Budget(
    limitsOf(file),
    (reason, cause) =>
      new InputError(`${file.path} cannot be downloaded: ${reason}`, {
        at: { file: repository.name },
        fix: 'try again: the download goes on where it stopped',
        cause,
      }),
    tell,
  );
  if (sizeOf(partial) > file.size) rmSync(partial);
  // Bytes received before are no progress: a server may start over each time.
  let furthest = sizeOf(partial);
  await budget.run(async () => {
    const start = sizeOf(partial);
    if (start === file.size && existsSync(partial)) return;
    await receive(partial, start, source, tell, (received, piece) => {
      budget.spend(piece);
      if (received > furthest) budget.progressed();
      furthest = Math.max(furthest, received);
      onBytes(received);
    });
    const there = sizeOf(partial);
    if (there < file.size) throw new Passing(`the connection ended after ${there} of ${file.size} bytes`);
  });
}

/**
 * One connection: writes what it receives to `partial`, from byte `start` on.
 * @param onPiece is told how many bytes are there, and how many of them are new
 * @throws Passing where another connection may bring the rest
 */
async function receive(
  partial: string,
  start: number,
  source: Source,
  tell: Tell,
  onPiece: (bytes: number, piece: number) => void,
): Promise<void> {
  const { hub, repository, file } = source;
  const headers = { 'accept-encoding': 'identity', ...(start > 0 && { range: `bytes=${start}-` }) };
  const response = await hubFetch(hub, pathOf(source), headers, tell);
  if (response.status === 416) {
    await discard(response);
    rmSync(partial, { force: true });
    throw new Passing('the server refuses to continue an earlier download');
  }
  if (!response.ok) throw await refusal(response, hub, repository, file.path);
  // A server may send the whole file although only a part was asked for.
  const from = response.status === 206 ? start : 0;
  const told = totalOf(response, from);
  if (told !== undefined && told !== file.size) {
    await discard(response);
    throw damaged(source, `the server sends ${told} bytes, the hub's listing has ${file.size}`);
  }
  let before = from;
  const onBytes = (received: number) => {
    if (received > file.size) throw damaged(source, `more than its ${file.size} bytes come`);
    onPiece(received, received - before);
    before = received;
  };
  await saveBody(response, partial, onBytes, from).catch((error) => {
    throw error instanceof InputError || isFileFault(error) ? error : Passing.of(error);
  });
}

function pathOf({ repository: { type, name, revision }, file }: Source): string {
  const path = file.path.split('/').map(encodeURIComponent).join('/');
  return `/${type === 'dataset' ? 'datasets/' : ''}${name}/resolve/${revision}/${path}`;
}

/** Bytes of the whole file, if the response says. */
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

/** Whether an error is the file system's; fetch wraps those of the network in its own. */
export function isFileFault(error: unknown): error is NodeJS.ErrnoException {
  return (error as NodeJS.ErrnoException).syscall !== undefined;
}

function damaged({ repository, file }: Source, problem: string): InputError {
  return new InputError(`${file.path} was damaged on the way: ${problem}`, {
    at: { file: repository.name },
    fix: 'try again; behind a proxy or mirror, check that it passes on whole files',
  });
}
