import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, relative, resolve } from 'node:path';

/** Something that is done to the program so often; nothing may come of it but what would have come without. */
export interface Attack {
  name: string;
  /** What is counted. */
  unit: string;
  /** How often in full, see main.ts; `npm test` does a hundredth. */
  full: number;
  /** @throws with the case at fault and how to repeat it alone. @returns what else there is to tell */
  run(count: number, options: AttackOptions): Promise<string>;
}

export interface AttackOptions {
  /** Decides every random choice. */
  seed: number;
  /** The first case; the others follow it. */
  first?: number;
  /** Called with how many there have been so far. */
  onDone?: (done: number) => void;
}

/** Seconds after which a process of some seconds counts as hung: where other work has the machine, it takes minutes. */
const HUNG = 1800;

/**
 * Does cases side by side, from `first` on, until they come to `count` together.
 * @param one does a case and says how much it counts for
 */
export async function doCases(
  { name }: Pick<Attack, 'name'>,
  count: number,
  { seed, first = 0, onDone = () => {} }: AttackOptions,
  one: (index: number) => Promise<number>,
  atOnce = availableParallelism(),
): Promise<void> {
  let next = first;
  let done = 0;
  let failure: Error | undefined;
  const work = async () => {
    while (done < count && !failure) {
      const index = next++;
      try {
        const counted = await one(index);
        done += counted;
        onDone(Math.min(done, count));
      } catch (cause) {
        const again = `npm run soak -- --only '${name}' --seed ${seed} --first ${index} --count 1`;
        failure ??= new Error(`case ${index}: ${(cause as Error).message}\n  again: ${again}`, { cause });
      }
    }
  };
  // Those beside one that fails come to their end before anything is cleared away.
  await Promise.all(Array.from({ length: Math.min(atOnce, count) }, work));
  if (failure) throw failure;
}

export interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  /** stdout and stderr as they came. */
  output: string;
}

/** The built program on its way. */
export interface Running {
  child: ChildProcess;
  /** Resolves with the first text that matches; rejects where it ends without. */
  said(pattern: RegExp): Promise<void>;
  ended: Promise<Ended>;
}

/** Starts the built program as a user would. */
export function start(args: readonly string[], cwd: string, env: Record<string, string> = {}): Running {
  return watch(
    spawn(process.execPath, [resolve('dist/cli/main.js'), ...args], { cwd, env: { ...process.env, ...env } }),
  );
}

export function watch(child: ChildProcess): Running {
  let stdout = '';
  let output = '';
  let hear = () => {};
  const hung = setTimeout(() => child.kill('SIGABRT'), 1000 * HUNG);
  child.stdout?.on('data', (text) => {
    stdout += text;
  });
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (text) => {
      output += text;
      hear();
    });
  const ended = new Promise<Ended>((done, fail) => {
    child.on('error', fail);
    child.on('close', (code, signal) => {
      clearTimeout(hung);
      done({ code, signal, stdout, output });
    });
  });
  return {
    child,
    said: (pattern) =>
      new Promise((done, fail) => {
        hear = () => pattern.test(output) && done();
        hear();
        ended.then(() => fail(new Error(`ended before it said ${pattern}: ${output}`)), fail);
      }),
    ended,
  };
}

/** Files of a run that hold times, and what is remembered of files only where they are old enough. */
export const timed = /^(run\/(run\.json|report\.html|events\..*)|cache\/digests\/[0-9a-f]{64})$/;

/** SHA-256 of whatever lies below a folder, by its path there; but for `except`. */
export function contents(folder: string, except = /^$/): Record<string, string> {
  const paths = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .sort();
  return Object.fromEntries(
    paths.filter((path) => !except.test(path)).map((path) => [path, sha256(readFileSync(join(folder, path)))]),
  );
}

export function sha256(bytes: string | Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** @throws naming the first file that differs */
export function expectSame(found: Record<string, string>, expected: Record<string, string>): void {
  for (const path of new Set([...Object.keys(expected), ...Object.keys(found)]))
    if (found[path] !== expected[path])
      throw new Error(
        `${path} ${found[path] === undefined ? 'is missing' : expected[path] === undefined ? 'is left over' : 'differs'}`,
      );
}
