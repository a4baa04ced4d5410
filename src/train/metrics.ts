import { present } from '../errors.js';
import { keysOf, orderedRecord } from '../files/ordered-record.js';
import { largest, smallest } from '../numbers/extremes.js';
import type { GroupWeights } from '../objective/group-weights.js';
import { entropy } from '../objective/simplex.js';
import type { Metrics } from './metrics-line.js';

/**
 * What is measured on each pair, under TRL's names, and which way is worse: the worst group has the largest value of a
 * `lower` metric and the smallest of a `higher` one.
 *
 * - `loss`: the objective's loss of the pair, before group weights.
 * - `rewards/chosen`, `rewards/rejected`: β (log π_θ − log π_ref) of the response, or a reward model's score of it; `rewards/margins`: their
 *   difference.
 * - `rewards/accuracies`: 1 where the chosen reward is strictly larger; a tie counts as wrong, so evaluations start at 0. The first training
 *   batch may not: its reference was scored in another batch, so rounding may break ties. Of a soft label p it is the share of the group
 *   that the rewards agree with: p, or 1 − p where the rejected reward is larger.
 * - `logps/chosen`, `logps/rejected`: log π_θ of the response; `logps/accuracies`: the same of these.
 */
export const metricDirections = {
  loss: 'lower',
  'rewards/chosen': 'higher',
  'rewards/rejected': 'higher',
  'rewards/accuracies': 'higher',
  'rewards/margins': 'higher',
  'logps/chosen': 'higher',
  'logps/rejected': 'higher',
  'logps/accuracies': 'higher',
} as const;

export type PairMetric = keyof typeof metricDirections;
export const pairMetrics = keysOf(metricDirections);

/** One value per pair for each metric that applies; absent metrics are absent everywhere, never NaN. */
export type PairMetricValues = Partial<Record<PairMetric, Float64Array>>;

export type MetricMeans = Partial<Record<PairMetric, number>>;

export interface GroupSummary {
  /**
   * Pairs seen; groups with none, or none of positive weight, are left out. Evaluations have the standard errors of the means, over the
   * pairs, where there are two of positive weight or more.
   */
  groups: Record<string, MetricMeans & { count: number; standard_error?: MetricMeans }>;
  /** Their names, in the order of the groups: many readers of JSON move keys that look like numbers. */
  group_order: string[];
  /** Mean over pairs: every example counts the same (or by its weight). */
  mean: MetricMeans;
  /** Mean over groups of the group means: every group counts the same. */
  group_mean: MetricMeans;
  /** The worst group's value of each metric; `group` is the one with the worst loss (empty where no pair counts), `accuracy` is `rewards/accuracies`. */
  worst: MetricMeans & { group: string; accuracy?: number };
}

/**
 * Weighted sums of pair metrics by cell, a set of groups that pairs are of; the same code serves training windows and full evaluations. A
 * pair of several groups counts in the mean of each, and once in the mean over pairs.
 */
export class GroupMetrics {
  private readonly sums = new Map<PairMetric, Float64Array>();
  private readonly weights: Float64Array;
  private readonly counts: Int32Array;
  /** What the standard errors need, by metric and group. */
  private readonly spreads = new Map<PairMetric, Spread[]>();

  /**
   * @param names of the groups
   * @param cells the groups of each cell; default: the groups do not overlap
   */
  constructor(
    private readonly names: readonly string[],
    private readonly cells: readonly (readonly number[])[] = names.map((_, g) => [g]),
  ) {
    this.weights = new Float64Array(cells.length);
    this.counts = new Int32Array(cells.length);
  }

  /** Adds pairs: the indices of their cells, without overlap their groups, weights and metric values, all of one length. */
  add(cells: ArrayLike<number>, weights: ArrayLike<number>, values: PairMetricValues): void {
    for (let i = 0; i < cells.length; i++) {
      this.counts[cells[i]] += 1;
      this.weights[cells[i]] += weights[i];
    }
    for (const metric of pairMetrics) {
      const column = values[metric];
      if (column === undefined) continue;
      const sums = this.sums.get(metric) ?? new Float64Array(this.cells.length);
      this.sums.set(metric, sums);
      const spreads = this.spreads.get(metric) ?? this.names.map(() => new Spread());
      this.spreads.set(metric, spreads);
      for (let i = 0; i < cells.length; i++) {
        sums[cells[i]] += weights[i] * column[i];
        for (const group of this.cells[cells[i]]) spreads[group].add(weights[i], column[i]);
      }
    }
  }

  /**
   * What {@link summary} is made of: numbers in an order that depends on the cells alone, so that those of several processes can be added.
   * [cells] counts, [cells] weights, then for each metric whether it applies and [cells] sums.
   */
  numbers(): Float64Array {
    const cells = this.cells.length;
    const numbers = new Float64Array(2 * cells + pairMetrics.length * (cells + 1));
    numbers.set(this.counts);
    numbers.set(this.weights, cells);
    for (const [m, metric] of pairMetrics.entries()) {
      const own = this.sums.get(metric);
      if (own === undefined) continue;
      const start = 2 * cells + m * (cells + 1);
      numbers[start] = 1;
      numbers.set(own, start + 1);
    }
    return numbers;
  }

  /** Puts such numbers in place of its own; standard errors are then no longer to be had. */
  setNumbers(numbers: Float64Array): void {
    const cells = this.cells.length;
    this.counts.set(numbers.subarray(0, cells));
    this.weights.set(numbers.subarray(cells, 2 * cells));
    this.spreads.clear();
    for (const [m, metric] of pairMetrics.entries()) {
      const start = 2 * cells + m * (cells + 1);
      if (present(numbers[start]) > 0) this.sums.set(metric, numbers.slice(start + 1, start + 1 + cells));
    }
  }

  /** The same with standard errors over the pairs, which are independent where a whole split is evaluated. */
  summaryWithErrors(): GroupSummary {
    const summary = this.summary();
    for (const [name, group] of Object.entries(summary.groups)) {
      const errors = [...this.spreads].flatMap(([metric, spreads]): [PairMetric, number][] => {
        const error = spreads[this.names.indexOf(name)].standardError(group[metric] ?? Number.NaN);
        return error === undefined ? [] : [[metric, error]];
      });
      if (errors.length > 0) group.standard_error = Object.fromEntries(errors);
    }
    return summary;
  }

  summary(): GroupSummary {
    const [counts, weights] = [this.byGroup(this.counts), this.byGroup(this.weights)];
    const present = this.names.map((_, g) => g).filter((g) => weights[g] > 0);
    const weighty = this.cells.map((_, c) => c).filter((c) => this.weights[c] > 0);
    const summaries = present.map((g): MetricMeans & { count: number } => ({ count: counts[g] }));
    const mean: MetricMeans = {};
    const groupMean: MetricMeans = {};
    const worst: GroupSummary['worst'] = { group: '' };
    const total = weighty.reduce((sum, c) => sum + this.weights[c], 0);
    // A window whose pairs all have weight 0 has no means.
    for (const [metric, sums] of present.length > 0 ? this.sums : []) {
      const ofGroups = this.byGroup(sums);
      const means = present.map((g) => ofGroups[g] / weights[g]);
      summaries.forEach((summary, i) => {
        summary[metric] = means[i];
      });
      mean[metric] = weighty.reduce((sum, c) => sum + sums[c], 0) / total;
      groupMean[metric] = means.reduce((sum, value) => sum + value, 0) / means.length;
      const worstValue = metricDirections[metric] === 'lower' ? largest(means) : smallest(means);
      worst[metric] = worstValue;
      if (metric === 'loss') worst.group = this.names[present[means.indexOf(worstValue)]];
      if (metric === 'rewards/accuracies') worst.accuracy = worstValue;
    }
    const order = present.map((g) => this.names[g]);
    const groups = orderedRecord(summaries.map((summary, i) => [order[i], summary]));
    return { groups, group_order: order, mean, group_mean: groupMean, worst };
  }

  /** Of each group the sum over the cells that are of it. */
  private byGroup(ofCells: ArrayLike<number>): Float64Array {
    const sums = new Float64Array(this.names.length);
    for (const [c, groups] of this.cells.entries()) for (const group of groups) sums[group] += ofCells[c];
    return sums;
  }
}

/** Sums of squares of weighted values, around the first of them, so that nothing cancels where all are alike. */
class Spread {
  private origin: number | undefined;
  private count = 0;
  private weight = 0;
  private readonly squares = [0, 0, 0];

  add(weight: number, value: number): void {
    if (weight === 0) return;
    this.origin ??= value;
    const shifted = value - this.origin;
    this.count++;
    this.weight += weight;
    for (const power of [0, 1, 2]) this.squares[power] += weight ** 2 * shifted ** power;
  }

  /** Of the weighted mean; s/√n where all weights are the same. Undefined for a single value. */
  standardError(mean: number): number | undefined {
    if (this.count < 2 || this.origin === undefined) return undefined;
    const shift = mean - this.origin;
    const [none, one, two] = this.squares;
    const sum = Math.max(0, two - 2 * shift * one + shift ** 2 * none);
    return Math.sqrt((sum * this.count) / (this.count - 1)) / this.weight;
  }
}

/** What a line of the log has of a group. */
export type LoggedGroup = MetricMeans & { count: number; loss: number };

/** In front of the names of validation metrics. */
export type MetricPrefix = 'eval_' | '';

/** The flat name of what a line of the log has of one group: `group/<name>/loss`. */
export function groupKey(
  name: string,
  what: PairMetric | 'count' | 'alpha' | 'weight',
  prefix: MetricPrefix = '',
): string {
  return `${prefix}group/${name}/${what}`;
}

/** The groups that a line of the log has losses of. No metric's name ends in another's, so names of groups may hold anything. */
export function groupsOf(line: Readonly<Metrics>, prefix: MetricPrefix): [name: string, means: LoggedGroup][] {
  const [start, end] = [`${prefix}group/`, '/loss'];
  return Object.keys(line).flatMap((key): [string, LoggedGroup][] => {
    if (!key.startsWith(start) || !key.endsWith(end)) return [];
    const name = key.slice(start.length, -end.length);
    const values = pairMetrics.map((metric) => [metric, line[groupKey(name, metric, prefix)]]);
    const means = Object.fromEntries(values.filter(([, value]) => typeof value === 'number'));
    return [[name, { ...means, count: Number(line[groupKey(name, 'count', prefix)] ?? 1) }]];
  });
}

/** The flat names of one log line: `loss`, `group/<name>/loss`, `worst/loss`, …, each behind `prefix` (`eval_` or nothing). */
export function flatMetrics(summary: GroupSummary, prefix: MetricPrefix = ''): Record<string, number | string> {
  const line: Record<string, number | string> = {};
  for (const [metric, value] of Object.entries(summary.mean)) line[`${prefix}${metric}`] = value;
  for (const [name, group] of Object.entries(summary.groups)) {
    for (const metric of ['loss', 'rewards/accuracies', 'rewards/margins', 'logps/accuracies', 'count'] as const) {
      const value = group[metric];
      if (value !== undefined) line[groupKey(name, metric, prefix)] = value;
    }
  }
  for (const key of ['loss', 'accuracy', 'logps/accuracies', 'group'] as const) {
    const value = summary.worst[key];
    if (value !== undefined && value !== '') line[`${prefix}worst/${key}`] = value;
  }
  return line;
}

/**
 * α of each group, its entropy in nats, and exp(entropy), the number of groups it effectively attends to; and the θ-weights that α
 * gives, with the number of groups that they train.
 */
export function alphaMetrics(
  names: readonly string[],
  { alpha, weights }: Pick<GroupWeights, 'alpha' | 'weights'>,
): Record<string, number> & { 'weight/effective_groups': number } {
  const spread = entropy(alpha);
  return {
    ...Object.fromEntries(names.map((name, g) => [groupKey(name, 'alpha'), alpha[g]])),
    ...Object.fromEntries(names.map((name, g) => [groupKey(name, 'weight'), weights[g]])),
    'alpha/entropy': spread,
    'alpha/effective_groups': Math.exp(spread),
    'weight/effective_groups': Math.exp(entropy(weights)),
  };
}
