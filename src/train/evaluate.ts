import { sequentialBatches } from '../data/sampler.js';
import type { NativeBatch } from '../native/types.js';
import type { Policy } from '../policy/policy.js';
import { GroupMetrics, type GroupSummary } from './metrics.js';
import { checkFinite } from './non-finite.js';
import type { PairObjective } from './objective.js';
import { byPair, packBatch, pairColumns, type ScoredDataset } from './scoring.js';

/**
 * Exact metrics over a whole split: every pair is scored once, in file order, whatever the batch size. Nothing here can
 * move α: group weights are not even an argument.
 *
 * @throws NonFiniteError naming the pairs whose scores are not finite
 * @param batchSize pairs scored at once; bounds memory, never the result beyond rounding
 */
export async function evaluatePairs(
  policy: Policy<NativeBatch>,
  { data, reference }: ScoredDataset,
  objective: PairObjective,
  batchSize: number,
  onProgress: (pairs: number) => void = () => {},
): Promise<GroupSummary> {
  const metrics = new GroupMetrics(data.groups);
  let done = 0;
  for (const indices of sequentialBatches(data.pairs.length, batchSize)) {
    const packed = packBatch(data, indices, 'both');
    let scores = byPair(packed, await policy.logProbabilities(packed.batch, 'policy'));
    if (objective.usesReference) scores = await reference.addTo(scores, indices, packed);
    const pairs = Array.from(indices, (pair) => data.pairs[pair]);
    const { groups, weights } = pairColumns(pairs);
    const values = objective.evaluate(scores).metrics;
    checkFinite(pairs, values);
    metrics.add(groups, weights, values);
    done += indices.length;
    onProgress(done);
  }
  return metrics.summary();
}
