import { present } from '../errors.js';
import { shortName } from '../terminal/names.js';
import { textTable } from '../terminal/text-table.js';
import type { GroupSummary, MetricMeans } from '../train/metrics.js';

const columns = ['loss', 'rewards/accuracies', 'rewards/margins', 'logps/accuracies'] as const;

/** Metrics of a split by group for a terminal, with standard errors over its pairs; worst values and both means below. */
export function groupTable(split: string, summary: GroupSummary): string {
  const shown = columns.filter((metric) => summary.mean[metric] !== undefined);
  const row = (name: string, count: string, means: MetricMeans, errors: MetricMeans = {}) => [
    name,
    count,
    ...shown.map((metric) => {
      const error = errors[metric];
      return `${present(means[metric]).toFixed(4)}${error === undefined ? '' : ` ± ${error.toFixed(4)}`}`;
    }),
  ];
  const table = textTable(
    [split, 'count', ...shown],
    [
      ...Object.entries(summary.groups).map(([name, group]) =>
        row(shortName(name), String(group.count), group, group.standard_error),
      ),
      row('worst group', '', summary.worst),
      row('mean over pairs', '', summary.mean),
      row('mean over groups', '', summary.group_mean),
    ],
  );
  const known = Object.values(summary.groups).some((group) => group.standard_error !== undefined);
  return known ? `${table}\n(± is one standard error over the pairs of the group)` : table;
}
