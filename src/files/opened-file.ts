import { type BigIntStats, closeSync, createReadStream, fstatSync, statSync } from 'node:fs';
import { InputError } from '../errors.js';
import { openRegular } from './read.js';

/**
 * Files whose content counts for longer than it takes to read them: a model in use, the data of a run. What they were is
 * noted when they are opened, so that a change in the meantime is an error, and not another result.
 */

/** What a file was when it was opened. */
export interface FileState {
  path: string;
  /** Device, inode, size and times: every write renews the change time, which no program can set. */
  id: string;
}

/** A regular file that is open. Declare it with `using`. */
export class OpenedFile implements Disposable {
  readonly descriptor: number;
  readonly state: FileState;
  /** When it was last changed, in ms since 1970. */
  readonly changed: number;

  /** @throws InputError where it cannot be opened, or is no regular file */
  constructor(readonly path: string) {
    this.descriptor = openRegular(path);
    const stats = fstatSync(this.descriptor, { bigint: true });
    this.state = { path, id: idOf(stats) };
    this.changed = Number(stats.ctimeNs / 1_000_000n);
  }

  /** Its bytes in chunks, of the very file that is open, whatever its path leads to by now. */
  bytes(): AsyncIterable<Uint8Array> {
    return createReadStream(this.path, { fd: this.descriptor, autoClose: false, start: 0, highWaterMark: 2 ** 18 });
  }

  [Symbol.dispose](): void {
    closeSync(this.descriptor);
  }
}

/** What a regular file is now; undefined of anything else, and where there is nothing. */
export function stateOf(path: string): FileState | undefined {
  const stats = statsOf(path);
  return stats?.isFile() ? { path, id: idOf(stats) } : undefined;
}

/** @throws InputError naming the first file that is no longer what it was when it was opened */
export function checkUnchanged(files: Iterable<FileState>): void {
  for (const { path, id } of files) {
    const stats = statsOf(path);
    if (stats && idOf(stats) === id) continue;
    throw new InputError(
      stats ? 'was changed or replaced while it was in use' : 'was removed or moved away while it was in use',
      {
        at: { file: path },
        code: 'INPUT_CHANGED',
        fix: 'put it back as it was and run the command again, with --resume where a run is to continue; leave it alone until the end',
      },
    );
  }
}

function statsOf(path: string): BigIntStats | undefined {
  try {
    return statSync(path, { bigint: true });
  } catch {
    return undefined;
  }
}

function idOf({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return [dev, ino, size, mtimeNs, ctimeNs].join(' ');
}
