import type { NativeBatch } from '../../native/types.js';
import type { TokenisedPair } from './dataset.js';

/** Pairs as a batch of trees, and where each pair's responses are in it. */
export interface PackedPairs {
  batch: NativeBatch;
  /** [pairs] response index of the chosen response. */
  chosen: Int32Array;
  /** [pairs] response index of the rejected response; empty when only chosen responses were packed. */
  rejected: Int32Array;
  /** [trees] group of each tree, ascending: the trees of a group lie together. */
  treeGroups: Int32Array;
  /** [pairs] tokens of the chosen response. */
  chosenLengths: Int32Array;
  /** [pairs] tokens of the rejected response; empty as `rejected`. */
  rejectedLengths: Int32Array;
}

/**
 * Lays pairs out as trees: one for every different (group, prompt), holding each different response once. So a prompt
 * is computed once however many pairs share it, and gradients can be kept apart by group.
 * @param responses `chosen` for supervised fine-tuning
 */
export function packPairs(
  pairs: readonly TokenisedPair[],
  { responses }: { responses: 'both' | 'chosen' },
): PackedPairs {
  interface Tree {
    group: number;
    prompt: Int32Array;
    responses: Int32Array[];
    /** Index in `responses` of a response, by its ids. */
    places: Map<string, number>;
  }
  const trees = new Map<string, Tree>();
  const place = (tree: Tree, response: Int32Array): number => {
    const key = response.join(' ');
    const known = tree.places.get(key);
    if (known !== undefined) return known;
    tree.places.set(key, tree.responses.length);
    return tree.responses.push(response) - 1;
  };
  const placed = pairs.map((pair) => {
    const key = `${pair.group}: ${pair.prompt.join(' ')}`;
    let tree = trees.get(key);
    if (!tree) {
      tree = { group: pair.group, prompt: pair.prompt, responses: [], places: new Map() };
      trees.set(key, tree);
    }
    const chosen = place(tree, pair.chosen);
    return { tree, chosen, rejected: responses === 'both' ? place(tree, pair.rejected) : -1 };
  });

  // Array.prototype.sort is stable: within a group, trees stay in the order of their first pair.
  const ordered = [...trees.values()].sort((a, b) => a.group - b.group);
  const firstResponse = new Map<Tree, number>();
  let responseCount = 0;
  let tokenCount = 0;
  for (const tree of ordered) {
    firstResponse.set(tree, responseCount);
    responseCount += tree.responses.length;
    tokenCount += tree.responses.reduce((sum, response) => sum + response.length, tree.prompt.length);
  }
  const tokens = new Int32Array(tokenCount);
  let offset = 0;
  for (const tree of ordered)
    for (const sequence of [tree.prompt, ...tree.responses]) {
      tokens.set(sequence, offset);
      offset += sequence.length;
    }

  const both = responses === 'both' ? pairs : [];
  return {
    batch: {
      tokens,
      promptLengths: Int32Array.from(ordered, (tree) => tree.prompt.length),
      responseCounts: Int32Array.from(ordered, (tree) => tree.responses.length),
      responseLengths: Int32Array.from(ordered.flatMap((tree) => tree.responses.map((response) => response.length))),
    },
    chosen: Int32Array.from(placed, ({ tree, chosen }) => firstResponse.get(tree)! + chosen),
    rejected: Int32Array.from(both, (_, i) => firstResponse.get(placed[i].tree)! + placed[i].rejected),
    treeGroups: Int32Array.from(ordered, (tree) => tree.group),
    chosenLengths: Int32Array.from(pairs, (pair) => pair.chosen.length),
    rejectedLengths: Int32Array.from(both, (pair) => pair.rejected.length),
  };
}

/** From log π of every response of a packed batch to those of each pair's two responses. */
export function pairLogProbabilities(
  packed: PackedPairs,
  logProbabilities: Float64Array,
): { chosen: Float64Array; rejected: Float64Array } {
  return {
    chosen: Float64Array.from(packed.chosen, (response) => logProbabilities[response]),
    rejected: Float64Array.from(packed.rejected, (response) => logProbabilities[response]),
  };
}

/**
 * The transpose of {@link pairLogProbabilities}: cotangents of pairs to cotangents of responses. A response that several
 * pairs share gets the sum. Without rejected responses, leave `rejectedCotangents` out.
 */
export function responseCotangents(
  packed: PackedPairs,
  chosenCotangents: Float64Array,
  rejectedCotangents?: Float64Array,
): Float64Array {
  const cotangents = new Float64Array(packed.batch.responseLengths.length);
  packed.chosen.forEach((response, pair) => {
    cotangents[response] += chosenCotangents[pair];
  });
  packed.rejected.forEach((response, pair) => {
    cotangents[response] += rejectedCotangents![pair];
  });
  return cotangents;
}
