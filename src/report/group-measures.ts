import { present } from '../errors.js';
import { largest, smallest } from '../numbers/extremes.js';

/** Measures over groups of what was made of test pairs, of the whole sample or of any draw from it. */

/** What a method made of one test pair. */
export interface PairScores {
  loss: number;
  /** 1 where the policy's log-ratio to the reference is greater for the chosen response, ½ where it is equal, else 0; absent where there is no reference. */
  reward_accuracy?: number;
  /** The same of the policy's log-probabilities. */
  policy_accuracy?: number;
}

/** A tested pair. */
export interface Tested {
  scores: PairScores;
  /** Within its groups. */
  weight: number;
  /** Indices of its groups. */
  groups: readonly number[];
  /** Index of what is drawn anew: its question, the person it is from, or itself. */
  unit: number;
}

/** What is said of one method and seed; groups count the same in means over groups. */
export const measures = {
  'worst-group loss': { metric: 'loss', of: largest, wanted: 'lower' },
  'mean loss over groups': { metric: 'loss', of: groupMean, wanted: 'lower' },
  'gap between groups in loss': { metric: 'loss', of: gap, wanted: 'lower' },
  'worst-group reward accuracy': { metric: 'reward_accuracy', of: smallest, wanted: 'higher' },
  'mean reward accuracy over groups': { metric: 'reward_accuracy', of: groupMean, wanted: 'higher' },
  'gap between groups in reward accuracy': { metric: 'reward_accuracy', of: gap, wanted: 'lower' },
  'worst-group accuracy of the policy': { metric: 'policy_accuracy', of: smallest, wanted: 'higher' },
  'mean accuracy of the policy over groups': { metric: 'policy_accuracy', of: groupMean, wanted: 'higher' },
} as const;
export type Measure = keyof typeof measures;
export const measureNames = Object.keys(measures) as Measure[];
export type Metric = keyof PairScores;

/** A metric of the pairs of a group. */
export interface GroupValues {
  mean: number;
  values: readonly { value: number; weight: number; unit: number }[];
}

/** Of the groups that have pairs. */
export function valuesOf(pairs: readonly Tested[], groupCount: number, metric: Metric): GroupValues[] {
  const values = Array.from({ length: groupCount }, () => [] as { value: number; weight: number; unit: number }[]);
  for (const { scores, groups, unit, weight } of pairs)
    for (const group of groups) present(values[group]).push({ value: present(scores[metric]), unit, weight });
  return values
    .filter((ofGroup) => ofGroup.some(({ weight }) => weight > 0))
    .map((ofGroup) => {
      const total = ofGroup.reduce((sum, { weight }) => sum + weight, 0);
      return { mean: ofGroup.reduce((sum, { value, weight }) => sum + weight * value, 0) / total, values: ofGroup };
    });
}

/** Means by group with each unit counted as often as `times` says; a group of which none was drawn keeps its mean. */
export function groupMeans(groups: readonly GroupValues[], times: Float64Array): number[] {
  return groups.map(({ mean, values }) => {
    let sum = 0;
    let count = 0;
    for (const { value, weight, unit } of values) {
      const drawn = weight * (times[unit] as number);
      sum += drawn * value;
      count += drawn;
    }
    return count > 0 ? sum / count : mean;
  });
}

/**
 * How many different units the group with the fewest has. One tells nothing of its spread: the group's mean is the same in every draw, which would
 * pass for certainty.
 */
export function fewestUnits(groups: readonly GroupValues[]): number {
  return smallest(
    groups.map(({ values }) => new Set(values.flatMap(({ weight, unit }) => (weight > 0 ? [unit] : []))).size),
  );
}

function groupMean(means: readonly number[]): number {
  return means.reduce((sum, mean) => sum + mean, 0) / means.length;
}

function gap(means: readonly number[]): number {
  return largest(means) - smallest(means);
}
