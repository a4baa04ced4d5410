import type { PairDataset } from '../data/pairs/dataset.js';
import { InputError, present } from '../errors.js';
import { type MarginLoss, marginLoss } from '../objective/losses.js';
import {
  type PairLogProbabilities,
  type PairTerms,
  preferenceTerms,
  type Reduction,
  referenceFreeTerms,
  supervisedTerms,
} from '../objective/pairs.js';
import { type ReferenceFreeLoss, referenceFreeLoss } from '../objective/reference-free.js';
import { tiltedTerms } from '../objective/tilt.js';
import { counted } from '../terminal/format.js';
import type { PairMetricValues } from './metrics.js';
import type { Objective } from './objective-config.js';

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

/**
 * A loss, applied to scored pairs: one of the configuration by {@link pairObjective}, or your own, which {@link marginObjective} makes of a
 * function of the margin; experiments/own-objective.ts has an example.
 */
export interface PairObjective {
  readonly usesReference: boolean;
  /** Responses a training step has to score. */
  readonly responses: 'both' | 'chosen';
  /**
   * What each pair has by itself. Cotangents are per response, before weights of pairs and groups.
   * @param preferences [n] soft labels, of use to the losses that compare two responses; default 1
   */
  evaluate(scores: PairScores, preferences?: ArrayLike<number>): PairOutcome;
  /**
   * For losses that are no mean over pairs: what a training step minimises in place of the losses that {@link evaluate} gave, and its cotangents.
   * It sees all pairs of a step at once, so where this is present no batch is cut into micro-batches. Evaluations show the losses of pairs.
   * The step then weights group by group, so a loss that couples pairs of different groups is minimised only where pairs of all groups are
   * weighted alike: with the weights `erm` and the sampler `proportional`.
   */
  couple?(outcome: PairOutcome, pairs: StepPairs): Omit<PairOutcome, 'metrics'>;
}

/** Columns of the pairs of a step. */
export interface StepPairs {
  /** [n] 0..K-1, or where groups overlap the index of a pair's groups among {@link PairDataset.cells}. */
  groups: Int32Array;
  /** [n] weights within the groups, which the step multiplies losses and cotangents by. */
  weights: Float64Array;
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

/** The loss of a configuration. */
export function pairObjective(objective: Objective): PairObjective {
  if (objective.loss === 'sft')
    return {
      usesReference: false,
      responses: 'chosen',
      evaluate(scores) {
        const terms = supervisedTerms(objective.reduction, scores);
        return { ...terms, metrics: { loss: terms.losses, ...logProbabilityMetrics(scores) } };
      },
    };
  const plain = plainObjective(objective);
  if (objective.tilt === undefined) return plain;
  return tiltedObjective(plain, objective.tilt, objective.weights === 'erm');
}

function plainObjective(objective: Exclude<Objective, { loss: 'sft' }>): PairObjective {
  switch (objective.loss) {
    case 'simpo':
    case 'orpo':
      return referenceFreeObjective(referenceFreeLoss(objective));
    case 'reward':
      return rewardObjective(objective.labelSmoothing);
    default:
      return marginObjective(marginLoss(objective), objective.reduction);
  }
}

/**
 * The Bradley-Terry loss −log σ(r(x, y_w) − r(x, y_l)) of a reward model's scores (paper Eq. 2): DPO's loss, with the difference of scores
 * in place of β times the margin.
 */
function rewardObjective(labelSmoothing: number | undefined): PairObjective {
  const loss = marginLoss({ loss: 'dpo', beta: 1, labelSmoothing });
  return {
    usesReference: false,
    responses: 'both',
    evaluate: ({ chosen, rejected }, preferences) => {
      const none = new Float64Array(chosen.length);
      const scores = { chosen, rejected: present(rejected), referenceChosen: none, referenceRejected: none };
      return compared(loss.beta, preferenceTerms(loss, 'sum', scores, preferences), preferences);
    },
  };
}

/** What a margin loss has to say for training. */
export type PlainMarginLoss = Pick<MarginLoss, 'beta' | 'value' | 'derivative'>;

/** A loss of the margin between the log-ratios of the two responses, policy to reference. `beta` is what `rewards/*` are multiplied by. */
export function marginObjective(loss: PlainMarginLoss, reduction: Reduction = 'sum'): PairObjective {
  return {
    usesReference: true,
    responses: 'both',
    evaluate: (scores, preferences) =>
      withLogProbabilities(
        compared(loss.beta, preferenceTerms(loss, reduction, withBoth(scores), preferences), preferences),
        scores,
        preferences,
      ),
  };
}

function referenceFreeObjective(loss: ReferenceFreeLoss): PairObjective {
  return {
    usesReference: false,
    responses: 'both',
    evaluate: (scores, preferences) => {
      const { chosen, rejected, chosenLengths, rejectedLengths } = scores;
      const both = {
        chosen,
        rejected: present(rejected),
        chosenLengths: present(chosenLengths),
        rejectedLengths: present(rejectedLengths),
      };
      const outcome = compared(loss.beta, referenceFreeTerms(loss, both, preferences), preferences);
      return withLogProbabilities(outcome, scores, preferences);
    },
  };
}

/** @param together whether all pairs of a step are one set; else those of each group are one */
function tiltedObjective(plain: PairObjective, temperature: number, together: boolean): PairObjective {
  return {
    ...plain,
    couple({ losses, chosenCotangents, rejectedCotangents }, { groups, weights }) {
      const sets = together ? groups.map(() => 0) : groups;
      const tilted = tiltedTerms(losses, weights, sets, temperature);
      const scaled = (cotangents: Float64Array) => cotangents.map((value, i) => value * present(tilted.factors[i]));
      return {
        losses: tilted.losses,
        chosenCotangents: scaled(chosenCotangents),
        rejectedCotangents: rejectedCotangents && scaled(rejectedCotangents),
      };
    },
  };
}

/** Losses, cotangents and metrics of pairs whose two responses are compared. */
function compared(
  beta: number,
  { losses, chosenCotangents, rejectedCotangents, chosenLogRatios, rejectedLogRatios }: PairTerms,
  preferences?: ArrayLike<number>,
): PairOutcome {
  return {
    losses,
    chosenCotangents,
    rejectedCotangents,
    metrics: {
      loss: losses,
      'rewards/chosen': chosenLogRatios.map((ratio) => beta * ratio),
      'rewards/rejected': rejectedLogRatios.map((ratio) => beta * ratio),
      'rewards/margins': chosenLogRatios.map((ratio, i) => beta * (ratio - present(rejectedLogRatios[i]))),
      'rewards/accuracies': accuracies(chosenLogRatios, rejectedLogRatios, preferences),
    },
  };
}

function withLogProbabilities(
  { metrics, ...rest }: PairOutcome,
  scores: PairScores,
  preferences?: ArrayLike<number>,
): PairOutcome {
  return { ...rest, metrics: { ...metrics, ...logProbabilityMetrics(scores, preferences) } };
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
