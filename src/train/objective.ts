import type { PairDataset } from '../data/pairs/dataset.js';
import { InputError, present } from '../errors.js';
import { marginLoss } from '../objective/losses.js';
import { type PairLogProbabilities, preferenceTerms, supervisedTerms } from '../objective/pairs.js';
import { counted } from '../terminal/format.js';
import type { Objective } from './config.js';
import type { PairMetricValues } from './metrics.js';

/** Scores of n pairs: what the policy and, where it is used, the reference say. Missing columns were not computed. */
export type PairScores = Pick<PairLogProbabilities, 'chosen' | 'chosenLengths'> & Partial<PairLogProbabilities>;

/** Losses, cotangents and metrics of n pairs. */
export interface PairOutcome {
  losses: Float64Array;
  chosenCotangents: Float64Array;
  /** Absent for supervised fine-tuning. */
  rejectedCotangents?: Float64Array;
  metrics: PairMetricValues;
}

/** The configured loss, applied to scored pairs; the one place where supervised and preference losses part ways. */
export interface PairObjective {
  readonly usesReference: boolean;
  /** Responses a training step has to score. */
  readonly responses: 'both' | 'chosen';
  /** @param preferences [n] soft labels, of use to the losses that compare two responses; default 1 */
  evaluate(scores: PairScores, preferences?: ArrayLike<number>): PairOutcome;
}

/** @throws InputError naming the first pair with a soft label, where the objective looks at the chosen response only */
export function refuseSoftLabels(
  { responses }: PairObjective,
  { file, pairs }: Pick<PairDataset, 'file' | 'pairs'>,
): void {
  if (responses === 'both') return;
  const soft = pairs.filter(({ preference = 1 }) => preference !== 1);
  const [first] = soft;
  if (first === undefined) return;
  throw new InputError(
    `${counted(soft.length, 'pair')} (first ${first.id}) have soft labels, which do nothing with loss: sft`,
    {
      at: { file, field: 'preference' },
      fix: 'fine-tune on pairs with hard labels: leave the column out, or of a survey take `data global-opinions --pairs argmax`',
    },
  );
}

export function pairObjective(objective: Objective): PairObjective {
  const { reduction } = objective;
  if (objective.loss === 'sft')
    return {
      usesReference: false,
      responses: 'chosen',
      evaluate(scores) {
        const terms = supervisedTerms(reduction, scores);
        return { ...terms, metrics: { loss: terms.losses, ...logProbabilityMetrics(scores) } };
      },
    };
  const loss = marginLoss(objective);
  return {
    usesReference: true,
    responses: 'both',
    evaluate(scores, preferences) {
      const terms = preferenceTerms(loss, reduction, withBoth(scores), preferences);
      const { chosenLogRatios, rejectedLogRatios } = terms;
      return {
        losses: terms.losses,
        chosenCotangents: terms.chosenCotangents,
        rejectedCotangents: terms.rejectedCotangents,
        metrics: {
          loss: terms.losses,
          'rewards/chosen': chosenLogRatios.map((ratio) => loss.beta * ratio),
          'rewards/rejected': rejectedLogRatios.map((ratio) => loss.beta * ratio),
          'rewards/margins': chosenLogRatios.map((ratio, i) => loss.beta * (ratio - present(rejectedLogRatios[i]))),
          'rewards/accuracies': accuracies(chosenLogRatios, rejectedLogRatios, preferences),
          ...logProbabilityMetrics(scores, preferences),
        },
      };
    },
  };
}

/** A preference loss is given the scores of both responses, and those of the reference. */
function withBoth(scores: PairScores): PairLogProbabilities {
  return {
    ...scores,
    rejected: present(scores.rejected),
    referenceChosen: present(scores.referenceChosen),
    referenceRejected: present(scores.referenceRejected),
  };
}

/** Of each pair the share of its labels that the two values rank rightly: p, 1 − p, or 0 for a tie; 1 or 0 of a hard label. */
function accuracies(chosen: Float64Array, rejected: Float64Array, preferences?: ArrayLike<number>): Float64Array {
  return chosen.map((value, i) => {
    const preference = preferences?.[i] ?? 1;
    const other = present(rejected[i]);
    return value > other ? preference : value < other ? 1 - preference : 0;
  });
}

function logProbabilityMetrics({ chosen, rejected }: PairScores, preferences?: ArrayLike<number>): PairMetricValues {
  if (rejected === undefined) return { 'logps/chosen': chosen };
  return {
    'logps/chosen': chosen,
    'logps/rejected': rejected,
    'logps/accuracies': accuracies(chosen, rejected, preferences),
  };
}
