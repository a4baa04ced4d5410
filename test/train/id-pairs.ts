import { writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { Random } from '../../src/numbers/random.js';

/**
 * Writes `count` pairs of random token ids below 1003, some with weights, and returns the file's name.
 * @param columns the others of pair i, such as its group
 */
export function writeIdPairs(file: string, count: number, columns: (i: number, random: Random) => object): string {
  const random = Random.stream(1, basename(file));
  const ids = (longest: number) => Array.from({ length: 1 + random.integer(longest) }, () => 3 + random.integer(1000));
  const rows = Array.from({ length: count }, (_, i) => ({
    ...columns(i, random),
    prompt_ids: [2, ...ids(6)],
    chosen_ids: [...ids(3), 1],
    rejected_ids: [...ids(3), 7, 1],
    weight: 1 + random.integer(3),
  }));
  writeFileSync(file, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  return file;
}
