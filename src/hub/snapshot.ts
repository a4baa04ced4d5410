import { existsSync, readFileSync, renameSync, statSync, symlinkSync } from 'node:fs';
import { copyFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { InputError, type InputLocation } from '../errors.js';
import { makeFolder, writeFileWhole } from '../files/write.js';
import { warn } from '../terminal/output.js';
import { progress } from '../terminal/progress.js';
import { type Hub, hubOfEnvironment, type Repository } from './client.js';
import { downloadFile, isFileFault, lockOf } from './download.js';
import { commitPattern, type RemoteFile, remoteFiles } from './listing.js';
import type { Tell } from './patience.js';

/** Which files of a repository are needed. */
export interface Selection {
  /** The paths to have, of all there are. @throws InputError at `at` where something needed is missing */
  choose(paths: readonly string[], at: InputLocation): string[];
  /** Whether a snapshot folder has the files that are indispensable. */
  usable(folder: string): boolean;
  /** Paths of files that nearly every repository has; a snapshot without one is looked up, unless it is known that the commit has none. */
  optional: readonly string[];
}

export interface Snapshot {
  folder: string;
  commit: string;
}

/**
 * The needed files of a repository, in the hub's own cache with the layout of huggingface_hub: content in blobs/ by its digest,
 * snapshots/COMMIT/ with links to it, refs/ with the commits of branches, .no_exist/COMMIT/ with empty files for those that a commit has
 * not. Downloads what is missing. No network is needed for a commit of which all that is known, or with HF_HUB_OFFLINE; where the hub fails, the files of the last time are used, with a warning.
 * @param quiet show no progress, and do not mention waits
 * @throws InputError that says what to do
 */
export async function hubSnapshot(repository: Repository, selection: Selection, quiet: boolean): Promise<Snapshot> {
  const hub = hubOfEnvironment();
  const { type, name, revision } = repository;
  const storage = join(hub.cache, [`${type}s`, ...name.split('/')].join('--'));
  const folderOf = (commit: string) => join(storage, 'snapshots', commit);
  const cached = cachedCommit(storage, revision);
  const usable = cached !== undefined && selection.usable(folderOf(cached));
  const absent = (commit: string, path: string) => join(storage, '.no_exist', commit, path);
  const isKnown = (commit: string) =>
    selection.optional.every((path) => existsSync(join(folderOf(commit), path)) || existsSync(absent(commit, path)));
  if (usable && (hub.offline || (cached === revision && isKnown(cached))))
    return { folder: folderOf(cached), commit: cached };
  if (hub.offline)
    throw new InputError(
      `is not a local folder or file, ${cached ? 'not whole' : 'not'} in the cache (${storage}), and HF_HUB_OFFLINE is set`,
      { at: { file: name }, fix: 'unset HF_HUB_OFFLINE to download it, or name a local one' },
    );
  const tell: Tell = (text) => quiet || process.stderr.write(`${name}: ${text}\n`);
  let commit: string;
  let files: RemoteFile[];
  try {
    ({ commit, files } = await remoteFiles(hub, repository, tell));
  } catch (error) {
    if (!usable || !(error instanceof InputError)) throw error;
    warn(`${error.message.split('\n')[0]}; using the files of commit ${cached}`);
    return { folder: folderOf(cached), commit: cached };
  }
  const wanted = new Set(
    selection.choose(
      files.map(({ path }) => path),
      { file: name },
    ),
  );
  await fetchMissing(
    hub,
    storage,
    { ...repository, revision: commit },
    // The largest last: once the weights are there, everything is.
    files.filter(({ path }) => wanted.has(path)).sort((a, b) => a.size - b.size),
    { quiet, tell },
  ).catch((error) => {
    throw isFileFault(error) ? cacheFault(storage, error) : error;
  });
  for (const path of selection.optional)
    if (!wanted.has(path) && !existsSync(absent(commit, path))) noteAbsent(absent(commit, path));
  // Only now, so that every commit named in refs can be used.
  if (commit !== revision) writeFileWhole(join(storage, 'refs', revision), commit);
  return { folder: folderOf(commit), commit };
}

/** Only saves the next look, so a cache that cannot be written to does no harm. */
function noteAbsent(path: string): void {
  try {
    writeFileWhole(path, '');
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
  }
}

/** The commit of a revision as far as the cache knows. */
function cachedCommit(storage: string, revision: string): string | undefined {
  if (commitPattern.test(revision)) return revision;
  const ref = join(storage, 'refs', revision);
  const commit = existsSync(ref) && statSync(ref).isFile() ? readFileSync(ref, 'utf8').trim() : '';
  return commitPattern.test(commit) ? commit : undefined;
}

async function fetchMissing(
  hub: Hub,
  storage: string,
  repository: Repository,
  files: RemoteFile[],
  { quiet, tell }: { quiet: boolean; tell: Tell },
): Promise<void> {
  const pointerOf = (path: string) => join(storage, 'snapshots', repository.revision, path);
  const missing = files.filter(({ path }) => !existsSync(pointerOf(path)));
  const blobOf = ({ digest }: RemoteFile) => join(storage, 'blobs', digest.hex);
  // A file that is there may still have the lock of a process that was killed at the end of its download; taking it clears it away.
  const absent = missing.filter((file) => !existsSync(blobOf(file)) || existsSync(lockOf(blobOf(file))));
  const total = absent.reduce((sum, { size }) => sum + size, 0);
  const bar = progress(`downloading ${repository.name} (MB)`, megabytes(total), quiet || total === 0);
  let done = 0;
  try {
    for (const file of missing) {
      if (absent.includes(file)) {
        const onBytes = (bytes: number) => bar.update(megabytes(done + bytes), file.path);
        await downloadFile({ hub, repository, file }, blobOf(file), onBytes, tell);
        done += file.size;
      }
      await link(blobOf(file), pointerOf(file.path));
    }
  } finally {
    bar.stop();
  }
}

const megabytes = (bytes: number) => Math.ceil(bytes / 1e6);

/** A relative link, so that the cache may be moved; a copy where links are not allowed. */
async function link(blob: string, pointer: string): Promise<void> {
  makeFolder(dirname(pointer));
  try {
    symlinkSync(relative(dirname(pointer), blob), pointer);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return;
    // A file under its final name is whole.
    await copyFile(blob, `${pointer}.incomplete`);
    renameSync(`${pointer}.incomplete`, pointer);
  }
}

function cacheFault(storage: string, cause: NodeJS.ErrnoException): InputError {
  return new InputError(`cannot be written: ${cause.message}`, {
    at: { file: storage },
    fix: 'make room, or set HF_HOME to a folder with room that can be written to; what is there is kept',
    cause,
  });
}
