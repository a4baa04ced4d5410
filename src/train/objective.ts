import { present } from '../errors.js';
import { marginLoss } from '../objective/losses.js';
import { type PairLogProbabilities, preferenceTerms, supervisedTerms } from '../objective/pairs.js';
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
  evaluate(scores: PairScores): PairOutcome;
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
    evaluate(scores) {
      const terms = preferenceTerms(loss, reduction, withBoth(scores));
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
          'rewards/accuracies': chosenLogRatios.map((ratio, i) => (ratio > present(rejectedLogRatios[i]) ? 1 : 0)),
          ...logProbabilityMetrics(scores),
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

function logProbabilityMetrics({ chosen, rejected }: PairScores): PairMetricValues {
  if (rejected === undefined) return { 'logps/chosen': chosen };
  return {
    'logps/chosen': chosen,
    'logps/rejected': rejected,
    'logps/accuracies': chosen.map((logp, i) => (logp > present(rejected[i]) ? 1 : 0)),
  };
}
