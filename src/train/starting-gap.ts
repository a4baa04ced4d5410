import type { PairScores } from './objective.js';

/** Largest difference of policy and reference, in nats per nat, that rounding explains; float32 makes about 1e-7. */
const roundingGap = 1e-5;

/**
 * Before the first step policy and reference are the same model (unless an adapter is trained against its base on
 * purpose), so both must give every response the same log-probability. The reference scored it in another batch, so sums may be rounded
 * differently; a larger gap means that the two are not the same model, and it would be part of every reward of the run.
 * @returns the largest difference of these pairs, by the size of the log-probability where that is above 1; 0 without a reference
 */
export function startingGap(scores: PairScores): number {
  const gapOf = (policy: ArrayLike<number>, reference: ArrayLike<number> = policy) =>
    Math.max(
      ...Array.from(policy, (logp, i) => Math.abs(logp - (reference[i] ?? Number.NaN)) / Math.max(1, Math.abs(logp))),
    );
  return Math.max(gapOf(scores.chosen, scores.referenceChosen), gapOf(scores.rejected ?? [], scores.referenceRejected));
}

/** Undefined where there is none to give. */
export function startingGapWarning(gap: number): string | undefined {
  if (!(gap > roundingGap)) return undefined;
  return (
    `policy and reference differ before training: log-probs by up to ${gap.toExponential(1)} of their size, expected ` +
    '0. With dtype: bfloat16 this may be rounding; otherwise check the adapter'
  );
}
