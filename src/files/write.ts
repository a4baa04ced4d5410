import { randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fstatSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { GroupRobustError, InputError } from '../errors.js';
import { isGone, machine } from './owner.js';

/**
 * Outputs appear whole or not at all: they are written beside their place, flushed to the disk, and renamed into it, so
 * that neither a killed process nor a power cut leaves half of one.
 */

function staged(path: string): string {
  const owner = `${process.pid}.${machine()}`;
  return join(dirname(path), `.${basename(path)}.${owner}.${randomBytes(4).toString('hex')}.partial`);
}

const stagedName = /^\..+\.[0-9a-f]{8}\.partial$/;

/** Removes what killed processes have left of outputs in `folder`. No other process may be writing there. */
export function removePartials(folder: string): void {
  for (const name of readdirSync(folder))
    if (stagedName.test(name)) rmSync(join(folder, name), { recursive: true, force: true });
}

/** Removes what killed processes of this machine have left of `path`; others may be writing it now. */
function removeAbandoned(path: string): void {
  const prefix = `.${basename(path)}.`;
  for (const name of readdirSync(dirname(path))) {
    if (!name.startsWith(prefix)) continue;
    const [, pid, machine] = /^(\d+)\.([0-9a-f]{16})\.[0-9a-f]{8}\.partial$/.exec(name.slice(prefix.length)) ?? [];
    if (pid !== undefined && machine !== undefined && isGone({ pid: Number(pid), machine }))
      rmSync(join(dirname(path), name), { recursive: true, force: true });
  }
}

/** Faults of a path. */
const pathFaults = ['EACCES', 'EEXIST', 'EISDIR', 'ENAMETOOLONG', 'ENOENT', 'ENOTDIR', 'EPERM', 'EROFS'];
/** Faults of the machine: no room, or a limit on it. */
const roomFaults = ['EDQUOT', 'EFBIG', 'ENOSPC'];

/** The error to throw where writing `path` has failed with `error`; exit code 2 where the path is at fault, else 1. */
export function writeFault(path: string, error: unknown): unknown {
  const { code = '', message } = error as NodeJS.ErrnoException;
  if (pathFaults.includes(code))
    return new InputError(`cannot be written: ${message}`, {
      at: { file: path },
      fix: 'name a place that can be written to',
      cause: error,
    });
  if (roomFaults.includes(code))
    return new GroupRobustError('NO_ROOM', `${path}: cannot be written: ${message}\n  fix: make room on that disk`, {
      cause: error,
    });
  return error;
}

/**
 * Makes a folder and those above it, where they are missing.
 * @param wanted what the user asked for, where that is another path
 * @returns the folders that were made, innermost first
 * @throws InputError where that is impossible
 */
export function makeFolder(path: string, wanted = path): string[] {
  try {
    const first = mkdirSync(resolve(path), { recursive: true });
    const made: string[] = [];
    for (let name = resolve(path); first !== undefined && name.length >= first.length; name = dirname(name))
      made.push(name);
    // Each new name has to reach the disk in the folder above it.
    for (const name of made) flushFolder(dirname(name));
    return made;
  } catch (error) {
    throw writeFault(wanted, error);
  }
}

/**
 * Writes `contents` to `path` by way of a temporary file in the same folder, which is made if need be.
 * @throws InputError where `path` cannot be written
 */
export function writeFileWhole(
  path: string,
  contents: string | Uint8Array,
  { replace = true }: { replace?: boolean } = {},
): void {
  using file = openWhole(path, { replace });
  file.append(contents);
  file.finish();
}

/** A file that is written piece by piece and appears at its place, whole, with {@link finish}; or never. */
export interface WholeFile extends Disposable {
  append(contents: string | Uint8Array): void;
  finish(): void;
}

/**
 * Opens a file beside `path`, so that a place that cannot be written is known at once.
 * @param replace whether a file that is there at the end gives way
 * @throws InputError where `path` cannot be written
 */
export function openWhole(path: string, { replace = true }: { replace?: boolean } = {}): WholeFile {
  const folders = makeFolder(dirname(path), path);
  const partial = staged(path);
  let finished = false;
  const guarded = (act: () => void) => {
    try {
      act();
    } catch (error) {
      throw writeFault(path, error);
    }
  };
  let descriptor: number | undefined;
  guarded(() => {
    removeAbandoned(path);
    descriptor = openSync(partial, 'wx');
  });
  const close = () => {
    if (descriptor !== undefined) closeSync(descriptor);
    descriptor = undefined;
  };
  return {
    append: (contents) =>
      guarded(() => {
        const bytes = typeof contents === 'string' ? Buffer.from(contents) : contents;
        for (let done = 0; done < bytes.length; ) done += writeSync(descriptor as number, bytes, done);
      }),
    finish() {
      guarded(() => {
        fsyncSync(descriptor as number);
        close();
        if (replace) renameSync(partial, path);
        else putInEmptyPlace(partial, path);
        finished = true;
        flushFolder(dirname(path));
      });
    },
    [Symbol.dispose]() {
      close();
      rmSync(partial, { force: true });
      if (!finished) removeEmpty(folders);
    },
  };
}

/** Removes the folders that were made for an output that failed, except those that others use by now. */
function removeEmpty(folders: readonly string[]): void {
  for (const folder of folders)
    try {
      rmdirSync(folder);
    } catch {
      return;
    }
}

/** Unlike a renamed file, a link never takes the place of what another process has put there in the meantime. */
function putInEmptyPlace(partial: string, path: string): void {
  try {
    linkSync(partial, path);
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') throw alreadyExists(path);
    // File systems without hard links.
    if (!['ENOSYS', 'ENOTSUP', 'EPERM'].includes(code)) throw error;
    refuseExisting(path);
    renameSync(partial, path);
  }
}

/**
 * Runs `write` on a fresh folder beside `path` and renames that to `path` once it has succeeded.
 * @param replace whether a folder that is there gives way at the end
 * @throws InputError when `path` exists already and holds something that is not to be replaced
 */
export async function writeFolderWhole<T>(
  path: string,
  write: (folder: string) => Promise<T> | T,
  { replace = false }: { replace?: boolean } = {},
): Promise<T> {
  const target = resolve(path);
  if (!replace) refuseExisting(target);
  const [partial, old] = [staged(target), staged(target)];
  const folders = makeFolder(partial, path).slice(1);
  let finished = false;
  // While it is open, no other folder can have its inode.
  const opened = openSync(partial, 'r');
  try {
    removeAbandoned(target);
    const result = await write(partial);
    flushBelow(partial);
    // After a standstill another process may have removed it, and `write` made one of that name with the rest of the files.
    if (statSync(partial).ino !== fstatSync(opened).ino)
      throw new GroupRobustError('REMOVED', `${partial}: was removed while it was being written`);
    // Aside first: to remove a folder takes longer than to rename it, and until the end one of the two has to be there.
    if (replace && existsSync(target)) renameSync(target, old);
    try {
      renameSync(partial, target);
    } catch (error) {
      if (existsSync(old)) renameSync(old, target);
      // Another process was faster.
      const code = (error as NodeJS.ErrnoException).code ?? '';
      throw ['EEXIST', 'ENOTEMPTY', 'ENOTDIR'].includes(code) ? alreadyExists(path) : error;
    }
    finished = true;
    rmSync(old, { recursive: true, force: true });
    flushFolder(dirname(target));
    return result;
  } catch (error) {
    // Other faults may be those of something that `write` reads.
    throw roomFaults.includes((error as NodeJS.ErrnoException).code ?? '') ? writeFault(path, error) : error;
  } finally {
    closeSync(opened);
    rmSync(partial, { recursive: true, force: true });
    if (!finished) removeEmpty(folders);
  }
}

/**
 * @param but a name that the folder may hold
 * @param otherwise what may be done instead of naming another place or removing this one
 * @throws InputError when `path` is a file or a folder that holds something: results are never overwritten.
 */
export function refuseExisting(path: string, but?: string, otherwise?: string): void {
  if (existsSync(path) && !(statSync(path).isDirectory() && readdirSync(path).every((name) => name === but)))
    throw alreadyExists(path, otherwise);
}

function alreadyExists(path: string, otherwise = ''): InputError {
  const kind = existsSync(path) && statSync(path).isDirectory() ? 'folder' : 'file';
  return new InputError('already exists', {
    at: { file: path },
    fix: `${otherwise}name another ${kind}, or remove this one`,
  });
}

/** Waits until a folder's list of names is on the disk, where the file system has that and the folder may be opened. */
function flushFolder(path: string): void {
  try {
    flush(path);
  } catch (error) {
    if (!['EACCES', 'EINVAL', 'EISDIR', 'ENOTSUP', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? ''))
      throw error;
  }
}

/** Waits until what was written is on the disk. */
function flush(path: string): void {
  const descriptor = openSync(path, 'r');
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

function flushBelow(folder: string): void {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) flushBelow(path);
    else if (entry.isFile()) flush(path);
  }
  flushFolder(folder);
}

/** Every file below a folder, in the order of their names. */
export function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}
