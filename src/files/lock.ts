import fs from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { lock } from 'proper-lockfile';
import { isGone, machine } from './owner.js';

/**
 * Locks between processes. A lock is a folder that its holder touches now and then, so on whatever machine the holder was, it
 * counts as left behind when that has ceased. In it lies an empty file named after the holder: on the same machine a lock
 * whose process has been killed is known at once.
 */

// The library takes locks away when a signal ends the process, and listens to this one too, which Node ignores, so that a write
// beyond a limit is an error. With a second listener the library leaves it alone.
process.on('SIGXFSZ', () => {});

/** Seconds without a sign of life after which a lock counts as left behind. */
export const staleSeconds = 30;

export interface LockHolder {
  host: string;
  pid: number;
}

/** A lock that this process has taken; disposing gives it back, where no other has it by now. */
export interface Lock extends AsyncDisposable {
  /** Whether the lock still bears this process's name: after a standstill another may have it before any timer here has run. */
  isOurs(): boolean;
}

/**
 * Takes the lock `folder` for this process, until it is disposed or the process ends.
 * @param onLost told when another process has taken it, which can only be after a standstill of {@link staleSeconds}
 * @param held makes the error to throw where another process has it; default: wait for that
 * @throws the file system's error where the folder cannot be made
 */
export async function takeLock(
  folder: string,
  onLost: () => void,
  held?: (holder: LockHolder | undefined) => Error,
): Promise<Lock> {
  for (;;) {
    try {
      const stale = 1000 * staleSeconds;
      const folders = new NamedFolders();
      const options = { lockfilePath: folder, realpath: false, stale, fs: folders, onCompromised: onLost };
      const release = await lock(folder, options);
      folders.taken = true;
      return { isOurs: () => isNamedAfterUs(folder), [Symbol.asyncDispose]: () => release().catch(() => {}) };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ELOCKED') throw error;
    }
    const names = fs.existsSync(folder) ? fs.readdirSync(folder) : [];
    const holder = names.map(parseName).find((name) => name !== undefined);
    if (holder && isGone(holder)) removeDead(folder, holder.name);
    else if (held) throw held(holder);
    else await sleep(500);
  }
}

function isNamedAfterUs(folder: string): boolean {
  return fs.existsSync(join(folder, ownName()));
}

/**
 * What the library does to its folders, but that they hold the name of this process, and that it removes, of locks that it has
 * taken, only those that still do.
 */
class NamedFolders {
  /** Until then it removes what others have left behind. */
  taken = false;
  readonly stat = fs.stat;
  readonly utimes = fs.utimes;

  readonly mkdir = (path: string, done: fs.NoParamCallback) =>
    fs.mkdir(path, (error) =>
      error
        ? done(error)
        : fs.writeFile(join(path, ownName()), '', (fault) =>
            fault ? fs.rm(path, { recursive: true }, () => done(fault)) : done(null),
          ),
    );

  readonly rmdir = (path: string, done: fs.NoParamCallback) => {
    if (this.taken && !isNamedAfterUs(path)) done(null);
    else fs.rm(path, { recursive: true }, done);
  };

  /** At the end of the process. */
  readonly rmdirSync = (path: string) => {
    if (isNamedAfterUs(path)) fs.rmSync(path, { recursive: true });
  };
}

/** Of several that find the same dead holder only one can remove its name, so no one removes a new holder's lock. */
function removeDead(folder: string, name: string): void {
  try {
    fs.rmSync(join(folder, name));
    fs.rmdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

function ownName(): string {
  return `${process.pid}.${machine()}.${encodeURIComponent(hostname())}`;
}

function parseName(name: string): (LockHolder & { name: string; machine: string }) | undefined {
  const [, pid, machine, host] = /^(\d+)\.([0-9a-f]{16})\.(.+)$/.exec(name) ?? [];
  if (machine === undefined || host === undefined) return undefined;
  return { name, pid: Number(pid), machine, host: decodeURIComponent(host) };
}
