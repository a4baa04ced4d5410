import { People, type PeopleSource } from '../data/pairs/people.js';
import { describeNameless, nameOf, requireColumn, rowNumber } from '../data/tables/row.js';
import { readRows } from '../data/tables/rows.js';
import { InputError, present } from '../errors.js';
import { orderedRecord } from '../files/ordered-record.js';
import { bootstrapIntervals } from '../numbers/bootstrap.js';
import { largest, smallest } from '../numbers/extremes.js';
import { Random } from '../numbers/random.js';
import { counted } from '../terminal/format.js';
import { shortName } from '../terminal/names.js';
import { type MetricMeans, metricDirections, type PairMetric, pairMetrics } from '../train/metrics.js';
import { type GroupValues, groupMeans } from './group-measures.js';

/** Errors and intervals of the metrics of a file whose pairs come in clusters: forty pairs of one person are not forty observations. */

/**
 * Which cluster the pair on each line is of: the value of a column, or of a field of the person.
 * @param source people whose pairs these are, where there are
 * @throws InputError where one has none; as {@link People.readAny} and {@link People.known}
 */
export async function clustersOf(file: string, column: string, source?: PeopleSource): Promise<Map<number, string>> {
  const people = source && (await People.readAny(source, [column]));
  const ofPeople = people?.has(column) ? people : undefined;
  const columns = [column, ...(ofPeople ? [ofPeople.source.key] : [])];
  const rows = readRows(file, columns);
  const otherwise = people ? `cluster by a field of ${people.source.file} (${people.described}), or` : 'cluster';
  const clusters = new Map<number, string>();
  for await (const row of ofPeople ? ofPeople.known(rows) : rows) {
    if (!ofPeople) requireColumn(row, column, `${otherwise} by another column`);
    const { value, at } = ofPeople?.field(row, column) ?? { value: row.values[column], at: row.at };
    const name = nameOf(value);
    if (name === undefined)
      throw new InputError(`expected text or a number to cluster by, found ${describeNameless(value)}`, {
        at: { ...at, field: column },
        fix: 'cluster by another column, or by none',
      });
    clusters.set(rowNumber(row.at), name);
  }
  return clusters;
}

/** With fewer, intervals hold the truth clearly less often than they say (docs/metrics.md). */
const ENOUGH_CLUSTERS = 10;

/**
 * What is to be known of figures over few clusters; undefined where they are enough. Their intervals are not cut at the range of a figure: that they leave it
 * shows how little is known.
 * @param column undefined where each pair is a cluster by itself
 * @param fewest clusters of the group that has the fewest
 */
export function fewClusters(column: string | undefined, fewest: number): string | undefined {
  if (fewest >= ENOUGH_CLUSTERS) return undefined;
  const only =
    column === undefined
      ? `only ${counted(fewest, 'pair')}`
      : `pairs of only ${counted(fewest, 'cluster')} (${shortName(column)})`;
  return `a group has ${only}: fewer than ${ENOUGH_CLUSTERS} know little of their own spread, so errors and intervals are mostly too small, and an interval may reach beyond what a figure can be, such as a loss or a gap below 0`;
}

/** A pair with its metrics. */
export interface ClusteredPair {
  /** Indices of its groups. */
  groups: readonly number[];
  /** Within them. */
  weight: number;
  cluster: string;
  values: MetricMeans;
}

type Intervals = Partial<Record<PairMetric, [low: number, high: number]>>;

interface OfGroup {
  clusters: number;
  standard_error?: MetricMeans;
  interval?: Intervals;
}

/** What is known of the metrics of a file when whole clusters are drawn. */
export interface OverClusters {
  /** Different clusters. */
  count: number;
  /** Those of the group that has the fewest. */
  fewest: number;
  /** Whether one has pairs of several groups, whose means are then not independent. */
  crossing: boolean;
  /** By group; errors and intervals where it has two clusters or more. */
  groups: Record<string, OfGroup>;
  /** Intervals of the mean over pairs, the mean over groups and the worst group; of the last two where each group has two clusters. */
  mean: Intervals;
  group_mean: Intervals;
  worst: Intervals;
}

/**
 * Standard errors of group means m = Σ w x / W over G clusters c, and 95 % intervals by drawing whole clusters anew
 * ({@link bootstrapIntervals}), the same draws for all groups:
 *
 *   error² = G/(G − 1) Σ_c (Σ_{i ∈ c} w_i (x_i − m))² / W²
 *
 * Where each pair is a cluster of its own, that is the error over pairs.
 * @param names of the groups
 * @param pairs of weight 0 count for nothing
 */
export function overClusters(names: readonly string[], pairs: readonly ClusteredPair[]): OverClusters {
  const counted = pairs.filter(({ weight }) => weight > 0);
  const units = new Map<string, number>();
  const byGroup = names.map((): ClusteredPair[] => []);
  for (const pair of counted) {
    if (!units.has(pair.cluster)) units.set(pair.cluster, units.size);
    for (const group of pair.groups) present(byGroup[group]).push(pair);
  }
  const groups = names
    .map((name, g) => ({ name, pairs: present(byGroup[g]) }))
    .filter(({ pairs }) => pairs.length > 0)
    .map((group) => ({ ...group, clusters: new Set(group.pairs.map(({ cluster }) => cluster)).size }));
  const ofGroups = new Map(groups.map(({ name, clusters }): [string, OfGroup] => [name, { clusters }]));
  const result = { mean: {}, group_mean: {}, worst: {} } as Pick<OverClusters, 'mean' | 'group_mean' | 'worst'>;
  const intervals = (statistics: (times: Float64Array) => readonly number[]) =>
    bootstrapIntervals(units.size, statistics, Random.stream(0, 'clusters'));
  const many = groups.filter(({ clusters }) => clusters > 1);
  for (const metric of units.size > 1 ? pairMetrics : []) {
    if (!counted.every(({ values }) => values[metric] !== undefined)) continue;
    const all = clusterMeans(counted, units, metric);
    [result.mean[metric]] = intervals((times) => groupMeans([all], times));
    const means = many.map(({ pairs }) => clusterMeans(pairs, units, metric));
    for (let from = 0; from < many.length; from += AT_ONCE) {
      const some = means.slice(from, from + AT_ONCE);
      intervals((times) => groupMeans(some, times)).forEach((interval, i) => {
        const group = present(ofGroups.get(present(many[from + i]).name));
        group.standard_error = { ...group.standard_error, [metric]: standardError(present(some[i])) };
        group.interval = { ...group.interval, [metric]: interval };
      });
    }
    if (many.length < groups.length) continue;
    const worst = metricDirections[metric] === 'lower' ? largest : smallest;
    [result.worst[metric], result.group_mean[metric]] = intervals((times) => {
      const drawn = groupMeans(means, times);
      return [worst(drawn), drawn.reduce((sum, mean) => sum + mean, 0) / drawn.length];
    });
  }
  return {
    count: units.size,
    fewest: smallest(groups.map(({ clusters }) => clusters)),
    crossing: groups.reduce((sum, { clusters }) => sum + clusters, 0) > units.size,
    groups: orderedRecord([...ofGroups]),
    ...result,
  };
}

/** Groups whose draws are in memory together, 16 kB each. */
const AT_ONCE = 1024;

/** One value for each cluster, its mean, with the weight of all its pairs. */
function clusterMeans(
  pairs: readonly ClusteredPair[],
  units: ReadonlyMap<string, number>,
  metric: PairMetric,
): GroupValues {
  const sums = new Map<number, { sum: number; weight: number }>();
  for (const { cluster, weight, values } of pairs) {
    const unit = present(units.get(cluster));
    const sum = sums.get(unit) ?? { sum: 0, weight: 0 };
    sums.set(unit, sum);
    sum.sum += weight * present(values[metric]);
    sum.weight += weight;
  }
  const values = [...sums].map(([unit, { sum, weight }]) => ({ unit, weight, value: sum / weight }));
  const total = values.reduce((sum, { weight }) => sum + weight, 0);
  return { values, mean: values.reduce((sum, { value, weight }) => sum + weight * value, 0) / total };
}

function standardError({ mean, values }: GroupValues): number {
  const total = values.reduce((sum, { weight }) => sum + weight, 0);
  const squares = values.reduce((sum, { value, weight }) => sum + (weight * (value - mean)) ** 2, 0);
  return Math.sqrt((squares * values.length) / (values.length - 1)) / total;
}
