import type { PairDataset, TokenisedPair } from '../data/pairs/dataset.js';
import type { OpinionQuestion } from '../data/pairs/opinion-questions.js';
import type { Team } from '../distributed/team.js';
import { present } from '../errors.js';
import { orderedRecord } from '../files/ordered-record.js';
import type { NativeBatch } from '../native/types.js';
import { Calibration, type CalibrationBin } from '../numbers/calibration.js';
import { jensenShannonSimilarity } from '../numbers/jensen-shannon.js';
import { estimate } from '../numbers/statistics.js';
import { sigmoid } from '../objective/losses.js';
import { logSumExp } from '../objective/simplex.js';
import type { Policy } from '../policy/policy.js';
import { regularisedPolicy } from '../policy/regularised-policy.js';
import type { GroupSummary } from './metrics.js';
import { checkFinite } from './non-finite.js';
import type { PairScores } from './objective.js';
import type { PairLoss } from './objective-config.js';
import { byPair, pairsAt, type Reference, type ScoringLimits, scoreBatches, scoringBatches } from './scoring.js';

/**
 * How near a model's answers to a survey are to a group's: not only which option wins, but the distribution over all options.
 *
 * The model's distribution over the options of a question is normalised over them, p_o ∝ π(y_o|x), with π(y_o|x) the probability of the
 * whole response, its EOS included; what the model would say besides them does not count. A group's distribution is its shares.
 */

/** Of one model, or of the uniform distribution over the options of each question. */
export interface OpinionSummary {
  groups: Record<string, GroupOpinions>;
  /** Their names, in the order of the groups. */
  group_order: string[];
  /** Over all questions of all groups, each counted the same. */
  mean: OpinionMeasures;
  /** Mean over groups of the groups' similarities. */
  group_mean: { similarity: number };
  /** The group with the smallest similarity. */
  worst: { group: string; similarity: number };
}

interface OpinionMeasures {
  /** Mean over questions of 1 − JSD in bits, between the model's distribution over the options and the group's. */
  similarity: number;
  /** Expected calibration error of the pairwise win shares; absent where no two options have answers. */
  calibration_error?: number;
  /** The bins of that which are not empty. */
  calibration: CalibrationBin[];
}

export interface GroupOpinions extends OpinionMeasures {
  /** Different ones: what a group was asked in the words of several countries counts once, with the mean of its similarities. */
  questions: number;
  /** Of the similarity, over the group's questions; absent for one question. */
  standard_error?: number;
}

/** The policy beside what it started from and beside knowing nothing. */
export interface SurveySummary {
  policy: OpinionSummary;
  /** Absent where no reference is used. */
  reference?: OpinionSummary;
  uniform: OpinionSummary;
}

/** Exact metrics of a test split, and where its pairs carry questions of a survey, how near the answers to these are. */
export interface TestScores extends GroupSummary {
  /** What loss and rewards are of. */
  objective: PairLoss;
  survey?: SurveySummary;
}

/** Questions, ready to be scored. */
export interface ScoredSurvey {
  file: string;
  groups: readonly string[];
  questions: readonly OpinionQuestion[];
  /**
   * Of each question the first option with every other one, question after question: scored like pairs, they make one tree of all options,
   * and the reference's scores are kept as those of pairs are.
   */
  pairs: readonly TokenisedPair[];
  batches: readonly Int32Array[];
  /** [questions][options] log-probabilities by the reference. */
  reference?: readonly Float64Array[];
}

/**
 * The questions that a data set carries, with the scores of the reference; undefined where there are none.
 * @param reference undefined where none is used: then nothing is computed
 */
export async function scoredSurvey(
  { file, groups, questions }: PairDataset,
  reference: Reference | undefined,
  limits?: ScoringLimits,
): Promise<ScoredSurvey | undefined> {
  if (questions === undefined || questions.length === 0) return undefined;
  const pairs = questions.flatMap(({ id, group, prompt, options: [first, ...others] }) =>
    others.map((rejected) => ({ id, group, prompt, chosen: present(first), rejected, weight: 1 })),
  );
  const batches = scoringBatches({ pairs }, limits);
  const survey = { file, groups, questions, pairs, batches };
  if (!reference) return survey;
  const all = Int32Array.from(pairs.keys());
  const scores = await reference.score({ file, pairs }, batches);
  const { referenceChosen, referenceRejected } = scores.addTo({ chosen: new Float64Array(pairs.length) }, all);
  return { ...survey, reference: byOption(questions, present(referenceChosen), present(referenceRejected)) };
}

/** From columns of the pairs of {@link ScoredSurvey} to log-probabilities of options, [questions][options]. */
function byOption(
  questions: readonly OpinionQuestion[],
  chosen: Float64Array,
  rejected: Float64Array,
): readonly Float64Array[] {
  let end = 0;
  return questions.map(({ options }) => {
    const start = end;
    end += options.length - 1;
    return Float64Array.of(present(chosen[start]), ...rejected.subarray(start, end));
  });
}

/**
 * Scores all questions by the policy and compares it, its reference and the uniform distribution with the groups' answers. With
 * `rewardBeta`, `policy` is a reward model r, and what is compared is the policy that is best for it under a KL penalty of that strength,
 * π ∝ π_ref exp(r/β) (paper Lemma B.1), by the scores of the reference.
 * @throws NonFiniteError naming the questions whose scores are not finite
 */
export async function evaluateSurvey(
  policy: Policy<NativeBatch>,
  { groups, questions, pairs, batches, reference }: ScoredSurvey,
  {
    onProgress,
    pause,
    team,
    rewardBeta,
  }: {
    rewardBeta?: number;
    /** Told how many of `pairs` are scored. */
    onProgress?: (pairs: number) => void;
    /** Called before every forward pass; may throw to stop. */
    pause?: () => void;
    /** Shares the scoring. */
    team?: Team;
  } = {},
): Promise<SurveySummary> {
  const chosen = new Float64Array(pairs.length);
  const rejected = new Float64Array(pairs.length);
  let done = 0;
  for await (const { indices: batch, packed, logps } of scoreBatches(policy, { pairs }, batches, ['policy'], {
    pause,
    team,
  })) {
    const scores: PairScores = byPair(packed, present(logps[0]));
    const columns = { 'logps/chosen': scores.chosen, 'logps/rejected': present(scores.rejected) };
    checkFinite(pairsAt({ pairs }, batch), columns);
    batch.forEach((pair, i) => {
      chosen[pair] = present(scores.chosen[i]);
      rejected[pair] = present(columns['logps/rejected'][i]);
    });
    done += batch.length;
    onProgress?.(done);
  }
  const summary = (logps: readonly Float64Array[]) => opinionSummary(groups, questions, logps);
  const scores = byOption(questions, chosen, rejected);
  const logps =
    rewardBeta === undefined
      ? scores
      : scores.map((rewards, q) => regularisedPolicy(rewards, present(present(reference)[q]), rewardBeta));
  return {
    policy: summary(logps),
    ...(reference && { reference: summary(reference) }),
    uniform: summary(questions.map(({ options }) => new Float64Array(options.length))),
  };
}

/** @param logps [questions][options] log-probabilities of the options, up to a constant of each question */
function opinionSummary(
  groups: readonly string[],
  questions: readonly Pick<OpinionQuestion, 'group' | 'question' | 'shares'>[],
  logps: readonly Float64Array[],
): OpinionSummary {
  const overall = new Calibration();
  const byGroup = groups.map(() => ({ ofQuestions: new Map<string, number[]>(), calibration: new Calibration() }));
  questions.forEach(({ group, question, shares }, q) => {
    const scores = present(logps[q]);
    const total = logSumExp(scores);
    const { ofQuestions, calibration } = present(byGroup[group]);
    const similarity = jensenShannonSimilarity(
      scores.map((score) => Math.exp(score - total)),
      shares,
    );
    ofQuestions.set(question, [...(ofQuestions.get(question) ?? []), similarity]);
    for (const [predicted, observed] of winShares(scores, shares))
      for (const table of [overall, calibration]) table.add(predicted, observed);
  });
  const mean = (values: readonly number[]) => estimate(values).mean;
  const measures = (calibration: Calibration) => ({
    calibration_error: calibration.error(),
    calibration: calibration.table(),
  });
  const asked = groups.flatMap((name, g) => {
    const { ofQuestions, calibration } = present(byGroup[g]);
    if (ofQuestions.size === 0) return [];
    // The countries of a region answer one question much alike, so that errors over their answers would come out too small.
    const similarities = [...ofQuestions.values()].map(mean);
    const { mean: similarity, standard_error } = estimate(similarities);
    return [
      {
        name,
        similarities,
        opinions: {
          questions: similarities.length,
          similarity,
          ...(standard_error !== null && { standard_error }),
          ...measures(calibration),
        },
      },
    ];
  });
  const worst = asked.reduce((one, other) => (other.opinions.similarity < one.opinions.similarity ? other : one));
  return {
    groups: orderedRecord(asked.map(({ name, opinions }) => [name, opinions])),
    group_order: asked.map(({ name }) => name),
    mean: { similarity: mean(asked.flatMap(({ similarities }) => similarities)), ...measures(overall) },
    group_mean: { similarity: mean(asked.map(({ opinions }) => opinions.similarity)) },
    worst: { group: worst.name, similarity: worst.opinions.similarity },
  };
}

/** Of every two options, of those who chose one of them, the share that chose the first: as the model predicts it, and as it was. */
function* winShares(scores: Float64Array, shares: readonly number[]): Generator<[predicted: number, observed: number]> {
  for (const [first, share] of shares.entries())
    for (const [i, other] of shares.slice(first + 1).entries()) {
      // Of two options that nobody chose there is no such share.
      if (share + other === 0) continue;
      yield [sigmoid(present(scores[first]) - present(scores[first + 1 + i])), share / (share + other)];
    }
}
