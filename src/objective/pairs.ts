import { lossNames, type MarginLoss } from './losses.js';
import { type ReferenceFreeLoss, referenceFreeLossNames } from './reference-free.js';

/** Every loss of a pair: of the margin to a reference, of the policy alone, of the scores of a reward model, and of the chosen response alone. */
export const pairLossNames = [...lossNames, ...referenceFreeLossNames, 'reward', 'sft'] as const;
export type PairLossName = (typeof pairLossNames)[number];

/**
 * Log-probabilities of the two responses of each pair, summed over response tokens (EOS included), natural log,
 * each of length n. `chosenLengths` and `rejectedLengths` count those tokens; only the mean reduction reads them.
 */
export interface PairLogProbabilities {
  chosen: Float64Array;
  rejected: Float64Array;
  referenceChosen: Float64Array;
  referenceRejected: Float64Array;
  chosenLengths?: Int32Array;
  rejectedLengths?: Int32Array;
}

/**
 * How token log-probs become one number per response. `sum` is the paper and its code; `mean` divides by the response's
 * own tokens (as TRL does for IPO). The two give different losses on the same pair, so runs record which was used.
 */
export type Reduction = 'sum' | 'mean';

/** Losses of n pairs and their derivatives, before any weighting of pairs or groups. */
export interface PairTerms {
  losses: Float64Array;
  /** d loss_i / d log π_θ(y_w); the reference has no gradient. */
  chosenCotangents: Float64Array;
  /** d loss_i / d log π_θ(y_l). */
  rejectedCotangents: Float64Array;
  /** Policy minus reference log-ratio per response, after the reduction; `rewards/*` are β times these. */
  chosenLogRatios: Float64Array;
  rejectedLogRatios: Float64Array;
}

/**
 * Loss l(h) and the two cotangents ±l'(h) of every pair; h = chosen log-ratio − rejected log-ratio. With a soft label p, the share that
 * prefers the chosen response, the loss is what both labels have together, p l(h) + (1 − p) l(−h).
 * @param preferences [n] p of each pair, in [0, 1]; default 1, a hard label
 */
export function preferenceTerms(
  loss: Pick<MarginLoss, 'value' | 'derivative'>,
  reduction: Reduction,
  logps: PairLogProbabilities,
  preferences?: ArrayLike<number>,
): PairTerms {
  const n = logps.chosen.length;
  const terms: PairTerms = {
    losses: new Float64Array(n),
    chosenCotangents: new Float64Array(n),
    rejectedCotangents: new Float64Array(n),
    chosenLogRatios: new Float64Array(n),
    rejectedLogRatios: new Float64Array(n),
  };
  for (let i = 0; i < n; i++) {
    const chosenScale = responseScale(reduction, logps.chosenLengths, i);
    const rejectedScale = responseScale(reduction, logps.rejectedLengths, i);
    const chosen = chosenScale * (logps.chosen[i] - logps.referenceChosen[i]);
    const rejected = rejectedScale * (logps.rejected[i] - logps.referenceRejected[i]);
    const margin = chosen - rejected;
    const preference = preferences?.[i] ?? 1;
    let value = loss.value(margin);
    let slope = loss.derivative(margin);
    if (preference !== 1) {
      value = preference * value + (1 - preference) * loss.value(-margin);
      slope = preference * slope - (1 - preference) * loss.derivative(-margin);
    }
    terms.losses[i] = value;
    terms.chosenCotangents[i] = slope * chosenScale;
    terms.rejectedCotangents[i] = -slope * rejectedScale;
    terms.chosenLogRatios[i] = chosen;
    terms.rejectedLogRatios[i] = rejected;
  }
  return terms;
}

/**
 * The same for a loss of the policy alone, of the mean log-probabilities of each response's own tokens; with a soft label what both labels
 * have together, p l(a, b) + (1 − p) l(b, a). The log-ratios are then these means.
 */
export function referenceFreeTerms(
  loss: ReferenceFreeLoss,
  logps: Required<Pick<PairLogProbabilities, 'chosen' | 'rejected' | 'chosenLengths' | 'rejectedLengths'>>,
  preferences?: ArrayLike<number>,
): PairTerms {
  const { chosenLengths, rejectedLengths } = logps;
  const chosenLogRatios = logps.chosen.map((logp, i) => logp / chosenLengths[i]);
  const rejectedLogRatios = logps.rejected.map((logp, i) => logp / rejectedLengths[i]);
  const terms = chosenLogRatios.length;
  const losses = new Float64Array(terms);
  const chosenCotangents = new Float64Array(terms);
  const rejectedCotangents = new Float64Array(terms);
  for (let i = 0; i < terms; i++) {
    const [a, b] = [chosenLogRatios[i], rejectedLogRatios[i]];
    const preference = preferences?.[i] ?? 1;
    const given = loss.terms(a, b);
    let { value, chosenSlope, rejectedSlope } = given;
    if (preference !== 1) {
      const other = loss.terms(b, a);
      value = preference * value + (1 - preference) * other.value;
      chosenSlope = preference * chosenSlope + (1 - preference) * other.rejectedSlope;
      rejectedSlope = preference * rejectedSlope + (1 - preference) * other.chosenSlope;
    }
    losses[i] = value;
    chosenCotangents[i] = chosenSlope / chosenLengths[i];
    rejectedCotangents[i] = rejectedSlope / rejectedLengths[i];
  }
  return { losses, chosenCotangents, rejectedCotangents, chosenLogRatios, rejectedLogRatios };
}

/** Supervised fine-tuning on the chosen responses: loss −log π(y_w|x), and its cotangent with respect to log π(y_w|x). */
export function supervisedTerms(
  reduction: Reduction,
  logps: { chosen: Float64Array; chosenLengths?: Int32Array },
): { losses: Float64Array; chosenCotangents: Float64Array } {
  const scales = logps.chosen.map((_, i) => responseScale(reduction, logps.chosenLengths, i));
  return {
    losses: logps.chosen.map((logp, i) => -scales[i] * logp),
    chosenCotangents: scales.map((scale) => -scale),
  };
}

function responseScale(reduction: Reduction, lengths: Int32Array | undefined, i: number): number {
  if (reduction === 'sum') return 1;
  if (lengths === undefined) throw new RangeError('the mean reduction needs the number of tokens of each response');
  return 1 / lengths[i];
}
