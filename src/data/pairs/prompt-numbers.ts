import type { TokenisedPair } from './dataset.js';

/** [pairs] numbers that are equal where prompts are, counted from 0 in the order of first appearance. */
export function promptNumbers(pairs: readonly TokenisedPair[]): Int32Array {
  const numbers = new Int32Array(pairs.length);
  /** The first pair of each prompt by the prompt's hash, and the next one whose hash is the same. */
  const firsts = new Map<number, number>();
  const nexts = new Map<number, number>();
  let count = 0;
  for (let pair = 0; pair < numbers.length; pair++) {
    const { prompt } = pairs[pair];
    const hash = hashOf(prompt);
    let like = firsts.get(hash);
    let last: number | undefined;
    while (like !== undefined && !equalIds(pairs[like].prompt, prompt)) {
      last = like;
      like = nexts.get(like);
    }
    if (like !== undefined) numbers[pair] = numbers[like];
    else {
      numbers[pair] = count++;
      if (last === undefined) firsts.set(hash, pair);
      else nexts.set(last, pair);
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
