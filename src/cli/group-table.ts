import { present } from '../errors.js';
import { fewClusters, type OverClusters } from '../report/clusters.js';
import { shortName } from '../terminal/names.js';
import { textTable } from '../terminal/text-table.js';
import type { GroupSummary, MetricMeans } from '../train/metrics.js';

const columns = ['loss', 'rewards/accuracies', 'rewards/margins', 'logps/accuracies'] as const;

/**
 * Metrics of a split by group for a terminal; worst values and both means below. With standard errors over the pairs of each group, or with
 * intervals where the pairs come in clusters.
 */
export function groupTable(split: string, summary: GroupSummary, clusters?: OverClusters & { column: string }): string {
  const shown = columns.filter((metric) => summary.mean[metric] !== undefined);
  const row = (
    name: string,
    count: string,
    means: MetricMeans,
    { errors = {}, intervals = {} }: { errors?: MetricMeans; intervals?: OverClusters['mean'] },
  ) => [
    name,
    count,
    ...shown.map((metric) => {
      const error = errors[metric];
      const interval = intervals[metric];
      const uncertainty = interval
        ? ` (${interval.map((end) => end.toFixed(4)).join(' to ')})`
        : error === undefined
          ? ''
          : ` ± ${error.toFixed(4)}`;
      return `${present(means[metric]).toFixed(4)}${uncertainty}`;
    }),
  ];
  const table = textTable(
    [split, 'count', ...shown],
    [
      ...Object.entries(summary.groups).map(([name, group]) =>
        row(
          shortName(name),
          String(group.count),
          group,
          clusters ? { intervals: clusters.groups[name]?.interval } : { errors: group.standard_error },
        ),
      ),
      row('worst group', '', summary.worst, { intervals: clusters?.worst }),
      row('mean over pairs', '', summary.mean, { intervals: clusters?.mean }),
      row('mean over groups', '', summary.group_mean, { intervals: clusters?.group_mean }),
    ],
  );
  if (clusters) {
    const few = fewClusters(clusters.column, clusters.fewest);
    return `${table}\n(in brackets 95 % intervals, drawing ${clusters.count} values of ${shortName(clusters.column)} anew as wholes)${few === undefined ? '' : `\nwarning: ${few}`}`;
  }
  const known = Object.values(summary.groups).some((group) => group.standard_error !== undefined);
  return known ? `${table}\n(± is one standard error over the pairs of the group)` : table;
}
