import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { InputError } from './errors.js';

/** Outputs appear whole or not at all: they are written beside their place and renamed into it. */

function staged(path: string): string {
  return join(dirname(path), `.${basename(path)}.${randomBytes(4).toString('hex')}.partial`);
}

/** Writes `contents` to `path` by way of a temporary file in the same folder, which is made if need be. */
export function writeFileWhole(path: string, contents: string | Uint8Array): void {
  mkdirSync(dirname(path), { recursive: true });
  const partial = staged(path);
  try {
    writeFileSync(partial, contents);
    renameSync(partial, path);
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
  mkdirSync(partial, { recursive: true });
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
    throw new InputError('already exists', { at: { file: path }, fix: 'name another folder with --out, or remove it' });
}
