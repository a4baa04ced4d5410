import type { PairDataset, TokenisedPair } from '../data/dataset.js';
import { type PackedPairs, packPairs, pairLogProbabilities } from '../data/packing.js';
import type { NativeBatch } from '../native/types.js';
import type { Policy } from '../policy/policy.js';
import type { PairScores } from './objective.js';

/** Scoring pairs with a policy: the only place where pairs become trees and responses become columns again. */

/** Log-probabilities of the packed responses, by pair, with their lengths. `logps` is [responses]. */
export function byPair(packed: PackedPairs, logps: Float64Array): PairScores {
  const { chosen, rejected } = pairLogProbabilities(packed, logps);
  const { chosenLengths, rejectedLengths } = packed;
  return rejected.length === 0 ? { chosen, chosenLengths } : { chosen, rejected, chosenLengths, rejectedLengths };
}

/**
 * Reference log-probabilities of one data set, computed when first needed and then kept: the reference never changes, so
 * over many epochs and evaluations each pair is scored by it once. A batch is scored in the very layout the policy uses,
 * so that policy and reference agree exactly while their weights do.
 */
export class ReferenceScores {
  private readonly chosen: Float64Array;
  private readonly rejected: Float64Array;

  constructor(
    private readonly policy: Policy<NativeBatch>,
    pairCount: number,
  ) {
    this.chosen = new Float64Array(pairCount).fill(Number.NaN);
    this.rejected = new Float64Array(pairCount).fill(Number.NaN);
  }

  /** Adds the reference columns of the pairs with these indices, which `packed` holds in the same order. */
  async addTo(scores: PairScores, indices: ArrayLike<number>, packed: PackedPairs): Promise<PairScores> {
    const order = Array.from(indices);
    if (order.some((pair) => Number.isNaN(this.chosen[pair]))) {
      const columns = byPair(packed, await this.policy.logProbabilities(packed.batch, 'reference'));
      order.forEach((pair, i) => {
        this.chosen[pair] = columns.chosen[i];
        this.rejected[pair] = columns.rejected?.[i] ?? Number.NaN;
      });
    }
    return {
      ...scores,
      referenceChosen: Float64Array.from(order, (pair) => this.chosen[pair]),
      referenceRejected: Float64Array.from(order, (pair) => this.rejected[pair]),
    };
  }
}

/** A data set with the reference scores that belong to it. */
export interface ScoredDataset {
  data: PairDataset;
  reference: ReferenceScores;
}

export function withReference(policy: Policy<NativeBatch>, data: PairDataset): ScoredDataset {
  return { data, reference: new ReferenceScores(policy, data.pairs.length) };
}

/** The pairs of `data` with these indices, packed for one forward pass. */
export function packBatch(data: PairDataset, indices: ArrayLike<number>, responses: 'both' | 'chosen'): PackedPairs {
  return packPairs(
    Array.from(indices, (pair) => data.pairs[pair]),
    { responses },
  );
}

/** Columns the metrics need from the pairs themselves. */
export function pairColumns(pairs: readonly TokenisedPair[]): { groups: Int32Array; weights: Float64Array } {
  return {
    groups: Int32Array.from(pairs, (pair) => pair.group),
    weights: Float64Array.from(pairs, (pair) => pair.weight),
  };
}
