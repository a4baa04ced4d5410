import { createHash } from 'node:crypto';
import type { PairDataset } from './dataset.js';

/** SHA-256 of all that scores and groups of a data set depend on, wherever its file is. */
export function datasetDigest({ groups, cells, pairs, questions }: PairDataset): string {
  const hash = createHash('sha256').update(JSON.stringify([groups, cells]));
  for (const { group, weight, preference, prompt, chosen, rejected } of pairs) {
    hash.update(JSON.stringify([group, weight, preference, prompt.length, chosen.length, rejected.length]));
    for (const ids of [prompt, chosen, rejected]) hash.update(ids);
  }
  for (const { group, shares, prompt, options } of questions ?? []) {
    hash.update(JSON.stringify([group, shares, prompt.length, options.map(({ length }) => length)]));
    for (const ids of [prompt, ...options]) hash.update(ids);
  }
  return hash.digest('hex');
}
