import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { InputError } from '../../src/errors.js';
import { Random } from '../../src/numbers/random.js';
import { mutate, mutateJson } from './mutate.js';

/** What is fuzzed: input `i` is the same in every run. */
export interface Target {
  /** Inputs in flight: most of the time of a reader of files goes into waiting for other threads. */
  atOnce: number;
  /** Makes input `i` and reads it. @throws what a reader may not throw */
  attempt(i: number): Promise<Outcome>;
}

/** Every input is read, or refused with an InputError. */
export type Outcome = 'read' | 'refused';

/** Files in memory, where the system has that: a fuzzed file need not reach a disk. Named after the process. */
export function scratchFolder(pid = process.pid): string {
  return join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), `group-robust-fuzz-${pid}`);
}

export async function outcomeOf(read: () => unknown): Promise<Outcome> {
  try {
    await read();
    return 'read';
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    return 'refused';
  }
}

/**
 * A reader of files, on mutations of `seeds`, all of which it must read.
 * @param name of the mutated file
 * @param companions what lies beside it
 */
export async function fileTarget(
  name: string,
  seeds: Buffer[],
  read: (file: string) => unknown,
  { companions = {}, atOnce = 32 }: { companions?: Record<string, Buffer>; atOnce?: number } = {},
): Promise<Target> {
  const files = Array.from({ length: atOnce }, (_, slot) => {
    const place = join(scratchFolder(), name, String(slot));
    mkdirSync(place, { recursive: true });
    for (const [other, bytes] of Object.entries(companions)) writeFileSync(join(place, other), bytes);
    return join(place, name);
  });
  for (const seed of seeds) {
    writeFileSync(files[0], seed);
    await read(files[0]);
  }
  return {
    atOnce,
    attempt(i) {
      const random = Random.stream(0, 'fuzz', name, i);
      const file = files[i % atOnce];
      const change = name.endsWith('.json') && random.integer(2) === 0 ? mutateJson : mutate;
      writeFileSync(file, change(seeds[random.integer(seeds.length)], random));
      return outcomeOf(() => read(file));
    },
  };
}
