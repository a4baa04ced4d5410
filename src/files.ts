import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { InputError } from './errors.js';

/** Outputs appear whole or not at all: they are written beside their place and renamed into it. */

function staged(path: string): string {
  return join(dirname(path), `.${basename(path)}.${randomBytes(4).toString('hex')}.partial`);
}

/** Faults of a path, as opposed to those of the machine, such as a full disk. */
const pathFaults = ['EACCES', 'EEXIST', 'EISDIR', 'ENAMETOOLONG', 'ENOENT', 'ENOTDIR', 'EPERM', 'EROFS'];

function writeError(path: string, error: unknown): unknown {
  if (!pathFaults.includes((error as NodeJS.ErrnoException).code ?? '')) return error;
  return new InputError(`cannot be written: ${(error as Error).message}`, {
    at: { file: path },
    fix: 'name a place that can be written to',
    cause: error,
  });
}

/**
 * Makes a folder and those above it, where they are missing.
 * @param wanted what the user asked for, where that is another path
 * @throws InputError where that is impossible
 */
export function makeFolder(path: string, wanted = path): void {
  try {
    mkdirSync(path, { recursive: true });
  } catch (error) {
    throw writeError(wanted, error);
  }
}

/**
 * Writes `contents` to `path` by way of a temporary file in the same folder, which is made if need be.
 * @throws InputError where `path` cannot be written
 */
export function writeFileWhole(path: string, contents: string | Uint8Array): void {
  makeFolder(dirname(path), path);
  const partial = staged(path);
  try {
    writeFileSync(partial, contents);
    renameSync(partial, path);
  } catch (error) {
    throw writeError(path, error);
  } finally {
    rmSync(partial, { force: true });
  }
}

/**
 * Runs `write` on a fresh folder beside `path` and renames that to `path` once it has succeeded.
 * @throws InputError when `path` exists already and holds something.
 */
export async function writeFolderWhole<T>(path: string, write: (folder: string) => Promise<T> | T): Promise<T> {
  const target = resolve(path);
  refuseExisting(target);
  const partial = staged(target);
  makeFolder(partial, path);
  try {
    const result = await write(partial);
    renameSync(partial, target);
    return result;
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
}

/** @throws InputError when `path` is a file or a folder that holds something: results are never overwritten. */
export function refuseExisting(path: string): void {
  if (existsSync(path) && !(statSync(path).isDirectory() && readdirSync(path).length === 0))
    throw new InputError('already exists', { at: { file: path }, fix: 'name another folder, or remove this one' });
}
