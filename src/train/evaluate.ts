import { cellsOf } from '../data/pairs/dataset.js';
import { batchesPerEpoch } from '../data/pairs/sampler.js';
import type { Team } from '../distributed/team.js';
import { present } from '../errors.js';
import type { NativeBatch } from '../native/types.js';
import type { Policy } from '../policy/policy.js';
import type { TrainConfig } from './config.js';
import { GroupMetrics, type GroupSummary, type PairMetricValues } from './metrics.js';
import { checkFinite } from './non-finite.js';
import { type PairObjective, refuseSoftLabels } from './objective.js';
import { byPair, pairColumns, pairsAt, type ScoredDataset, scoreBatches } from './scoring.js';

/**
 * Whether an evaluation follows a step because of its number: every `evaluateEvery` steps, by default once per epoch. The last step is
 * evaluated in any case.
 * @param pairs number of training pairs
 */
export function evaluationDue(
  step: number,
  { evaluateEvery, batch }: Pick<TrainConfig, 'evaluateEvery' | 'batch'>,
  pairs: number,
): boolean {
  return step % (evaluateEvery ?? batchesPerEpoch(pairs, batch.size)) === 0;
}

/**
 * Exact metrics over a whole split. Every pair is scored once, in the batches in which the reference was scored, so that margins are exactly
 * 0 while policy and reference are the same model. α cannot move here: group weights are not even an argument.
 *
 * @throws NonFiniteError naming the pairs whose scores are not finite; InputError for soft labels with a loss that has no use for them
 */
export async function evaluatePairs(
  policy: Policy<NativeBatch>,
  { data, batches, reference }: ScoredDataset,
  objective: PairObjective,
  {
    onProgress,
    onValues,
    pause,
    team,
  }: {
    onProgress?: (pairs: number) => void;
    /** Told the metrics of the pairs with these indices. */
    onValues?: (indices: Int32Array, values: PairMetricValues) => void;
    /** Called before every forward pass; may throw to stop. */
    pause?: () => void;
    /** Shares the scoring; all processes get the metrics of all pairs. */
    team?: Team;
  } = {},
): Promise<GroupSummary> {
  refuseSoftLabels(objective, data);
  const metrics = new GroupMetrics(data.groups, cellsOf(data));
  let done = 0;
  for await (const { indices: batch, packed, logps } of scoreBatches(policy, data, batches, ['policy'], {
    pause,
    team,
  })) {
    const scores = byPair(packed, present(logps[0]));
    const pairs = pairsAt(data, batch);
    const { groups, weights, preferences } = pairColumns(pairs);
    const values = objective.evaluate(reference?.addTo(scores, batch) ?? scores, preferences).metrics;
    checkFinite(pairs, values);
    metrics.add(groups, weights, values);
    onValues?.(batch, values);
    done += batch.length;
    onProgress?.(done);
  }
  return metrics.summaryWithErrors();
}
