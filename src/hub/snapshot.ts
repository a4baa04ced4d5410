import { existsSync, readFileSync, symlinkSync } from 'node:fs';
import { copyFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { datasetInfo, getHFHubCachePath, getRepoFolderName, listFiles, modelInfo } from '@huggingface/hub';
import { InputError, type InputLocation } from '../errors.js';
import { makeFolder, writeFileWhole } from '../files.js';
import { progress } from '../progress.js';
import { warn } from '../terminal.js';
import { environment, hubError, hubFetch, notAHub, type Repository } from './client.js';
import { downloadFile, type RemoteFile } from './download.js';

/** Which files of a repository are needed. */
export interface Selection {
  /** Those to have, of the paths there are. @throws InputError at `at` where something needed is not among them */
  choose(paths: readonly string[], at: InputLocation): string[];
  /** Whether a snapshot folder holds what cannot be done without. */
  usable(folder: string): boolean;
}

export interface Snapshot {
  folder: string;
  commit: string;
}

/**
 * The needed files of a repository, in the hub's own cache, as huggingface_hub lays it out: content in blobs/ by its
 * digest, snapshots/COMMIT/ with links to it, refs/ with the commits of branches. What is there is used, what is missing
 * downloaded. A commit whose files are there needs no network, nor does HF_HUB_OFFLINE; where the hub fails, the files of
 * the last time are used with a warning.
 * @throws InputError that says what to do
 */
export async function hubSnapshot(repository: Repository, selection: Selection, quiet: boolean): Promise<Snapshot> {
  const storage = join(getHFHubCachePath(), getRepoFolderName(repository));
  const folderOf = (commit: string) => join(storage, 'snapshots', commit);
  const cached = cachedCommit(storage, repository.revision);
  const usable = cached !== undefined && selection.usable(folderOf(cached));
  if (usable && (cached === repository.revision || environment.offline()))
    return { folder: folderOf(cached), commit: cached };
  if (environment.offline())
    throw new InputError(
      `is no local folder or file, ${cached ? 'not whole' : 'not'} in the cache (${storage}), and HF_HUB_OFFLINE is set`,
      { at: { file: repository.name }, fix: 'unset HF_HUB_OFFLINE to download it, or name a local one' },
    );
  let commit: string;
  let files: RemoteFile[];
  try {
    ({ commit, files } = await remoteFiles(repository));
  } catch (cause) {
    const error = hubError(cause, repository);
    if (!usable || !(error instanceof InputError)) throw error;
    warn(`${error.message.split('\n')[0]}; using the files of commit ${cached}`);
    return { folder: folderOf(cached), commit: cached };
  }
  const wanted = new Set(
    selection.choose(
      files.map(({ path }) => path),
      { file: repository.name },
    ),
  );
  await fetchMissing(
    storage,
    { ...repository, revision: commit },
    // The largest last: weights that are there mean that all is.
    files.filter(({ path }) => wanted.has(path)).sort((a, b) => a.size - b.size),
    quiet,
  );
  // Only now: a commit that refs name is one that can be used.
  if (commit !== repository.revision) writeFileWhole(join(storage, 'refs', repository.revision), commit);
  return { folder: folderOf(commit), commit };
}

/** The commit of a revision as far as the cache knows. */
function cachedCommit(storage: string, revision: string): string | undefined {
  if (/^[0-9a-f]{40}$/.test(revision)) return revision;
  const ref = join(storage, 'refs', revision);
  return existsSync(ref) ? readFileSync(ref, 'utf8').trim() : undefined;
}

/** Asks the hub for the commit of a revision and the files of the commit. */
async function remoteFiles(repository: Repository): Promise<{ commit: string; files: RemoteFile[] }> {
  const { type, name, revision } = repository;
  const hub = { hubUrl: environment.endpoint(), fetch: hubFetch };
  const query = { name, revision, additionalFields: ['sha' as const], ...hub };
  const { sha: commit } = await (type === 'model' ? modelInfo(query) : datasetInfo(query));
  if (!/^[0-9a-f]{40}$/.test(commit)) throw notAHub(repository);
  const files: RemoteFile[] = [];
  for await (const { type: kind, path, size, oid, lfs } of listFiles({
    repo: { type, name },
    revision: commit,
    recursive: true,
    ...hub,
  }))
    if (kind === 'file' && isPlain(path))
      files.push({
        path,
        size,
        digest: lfs ? { algorithm: 'sha256', hex: lfs.oid } : { algorithm: 'git', hex: oid as string },
      });
  return { commit, files };
}

/** Paths come from the network and become paths here: none may leave the snapshot. */
function isPlain(path: string): boolean {
  return path.split('/').every((part) => part !== '' && part !== '.' && part !== '..' && !/[\\:\0]/.test(part));
}

async function fetchMissing(
  storage: string,
  repository: Repository,
  files: RemoteFile[],
  quiet: boolean,
): Promise<void> {
  const { type, name, revision: commit } = repository;
  const pointerOf = (path: string) => join(storage, 'snapshots', commit, path);
  const missing = files.filter(({ path }) => !existsSync(pointerOf(path)));
  const blobOf = ({ digest }: RemoteFile) => join(storage, 'blobs', digest.hex);
  const absent = missing.filter((file) => !existsSync(blobOf(file)));
  const total = absent.reduce((sum, { size }) => sum + size, 0);
  const bar = progress(`downloading ${name} (MB)`, megabytes(total), quiet || total === 0);
  let done = 0;
  try {
    for (const file of missing) {
      const path = file.path.split('/').map(encodeURIComponent).join('/');
      const url = `${environment.endpoint()}/${type === 'dataset' ? 'datasets/' : ''}${name}/resolve/${commit}/${path}`;
      if (absent.includes(file)) {
        await downloadFile(url, file, blobOf(file), repository, (bytes) =>
          bar.update(megabytes(done + bytes), file.path),
        ).catch((error) => {
          throw hubError(error, repository);
        });
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
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') await copyFile(blob, pointer);
  }
}
