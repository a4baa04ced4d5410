import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { GroupRobustError } from '../errors.js';
import { type Lock, takeLock } from '../files/lock.js';
import { PACKAGE_ROOT } from '../package.js';
import { run } from './tools.js';

/** One line of a build's progress, on stderr. */
export function log(text: string): void {
  process.stderr.write(`build: ${text}\n`);
}

/** SHA-256 of names and contents of files, and of anything else that decides the outcome. */
export function digest(files: string[], ...rest: string[]): string {
  const hash = createHash('sha256').update(JSON.stringify(rest));
  for (const file of files) hash.update(`\0${relative(PACKAGE_ROOT, file)}\0`).update(readFileSync(file));
  return hash.digest('hex');
}

/** Runs a program of node_modules. */
export async function runScript(what: string, script: string, args: string[]): Promise<void> {
  await run(process.execPath, [script, ...args], process.env).catch((error) => {
    throw new GroupRobustError('BUILD', `${what} failed (${error.message}); its messages are above`);
  });
}

/** Two builds of one folder would write the same files. */
export async function takeBuildLock(): Promise<Lock> {
  mkdirSync(join(PACKAGE_ROOT, 'build'), { recursive: true });
  const waiting = setTimeout(() => log(`waiting for another build in ${PACKAGE_ROOT}`), 2000);
  return await takeLock(join(PACKAGE_ROOT, 'build/lock'), () => {}).finally(() => clearTimeout(waiting));
}
