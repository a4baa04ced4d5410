import type { TokenisedPair } from './dataset.js';
import { equalIds, hashOf } from './prompt-numbers.js';

/** How many of `pairs` stand in `others` too: the same prompt, chosen and rejected response. */
export function countRepeated(pairs: readonly TokenisedPair[], others: readonly TokenisedPair[]): number {
  /** Different pairs by their hash, and how often each is there. */
  const byHash = new Map<number, { pair: TokenisedPair; count: number }[]>();
  const find = (pair: TokenisedPair, among: { pair: TokenisedPair; count: number }[]) =>
    among.find(({ pair: other }) => parts.every((part) => equalIds(pair[part], other[part])));
  for (const pair of pairs) {
    const hash = hashOfPair(pair);
    const among = byHash.get(hash) ?? [];
    const known = find(pair, among);
    if (known) known.count++;
    else byHash.set(hash, [...among, { pair, count: 1 }]);
  }
  let repeated = 0;
  for (const other of others) {
    const known = find(other, byHash.get(hashOfPair(other)) ?? []);
    if (!known) continue;
    repeated += known.count;
    known.count = 0;
  }
  return repeated;
}

const parts = ['prompt', 'chosen', 'rejected'] as const;

function hashOfPair({ prompt, chosen, rejected }: TokenisedPair): number {
  return hashOf(rejected, hashOf(chosen, hashOf(prompt)));
}
