import type { TokenisedPair } from './dataset.js';

/** [pairs] numbers that are equal where prompts are, counted from 0 in the order of first appearance. */
export function promptNumbers(pairs: readonly TokenisedPair[]): Int32Array {
  return equalNumbers(pairs.length, (pair) => pairs[pair].prompt);
}

/** [count] numbers that are equal where ids are, counted from 0 in the order of first appearance. */
export function equalNumbers(count: number, idsOf: (index: number) => Int32Array): Int32Array {
  const numbers = new Int32Array(count);
  /** The first of each by its hash, and the next one whose hash is the same. */
  const firsts = new Map<number, number>();
  const nexts = new Map<number, number>();
  let different = 0;
  for (let index = 0; index < count; index++) {
    const ids = idsOf(index);
    const hash = hashOf(ids);
    let like = firsts.get(hash);
    let last: number | undefined;
    while (like !== undefined && !equalIds(idsOf(like), ids)) {
      last = like;
      like = nexts.get(like);
    }
    if (like !== undefined) numbers[index] = numbers[like];
    else {
      numbers[index] = different++;
      if (last === undefined) firsts.set(hash, index);
      else nexts.set(last, index);
    }
  }
  return numbers;
}

/** FNV-1a over whole ids; `hash`: of what stands before them. */
export function hashOf(ids: Int32Array, hash = 0x811c9dc5): number {
  for (let i = 0; i < ids.length; i++) hash = Math.imul(hash ^ ids[i], 0x01000193);
  return hash;
}

export function equalIds(a: Int32Array, b: Int32Array): boolean {
  return a.length === b.length && a.every((id, i) => id === b[i]);
}
