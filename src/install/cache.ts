import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { isGone, machine } from '../files/owner.js';

/** Where LibTorch and nvcc are kept for all checkouts of this user. */

/** GROUP_ROBUST_CACHE, else a folder in XDG's cache. */
export function cacheFolder(env: NodeJS.ProcessEnv = process.env): string {
  return resolve(env.GROUP_ROBUST_CACHE || join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'group-robust-po'));
}

/** Of what is kept, since it fits no other machine. */
export const PLATFORM = `${process.platform}-${process.arch}`;

/**
 * Runs `fill` on a fresh folder in the cache, which is removed in the end: what it is to leave, it renames to its place there.
 */
export async function inWorkFolder<T>(env: NodeJS.ProcessEnv, fill: (work: string) => Promise<T>): Promise<T> {
  const cache = cacheFolder(env);
  await mkdir(cache, { recursive: true });
  await removeAbandoned(cache);
  const work = await mkdtemp(join(cache, `.fetch-${process.pid}.${machine()}-`));
  try {
    return await fill(work);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** Removes what killed processes of this machine have left. The user may keep other things in that folder. */
async function removeAbandoned(cache: string): Promise<void> {
  for (const name of await readdir(cache)) {
    const [, pid, machine] = /^\.fetch-(\d+)\.([0-9a-f]{16})-\w{6}$/.exec(name) ?? [];
    if (pid !== undefined && machine !== undefined && isGone({ pid: Number(pid), machine }))
      await rm(join(cache, name), { recursive: true, force: true });
  }
}
