import { expect, it } from 'vitest';
import { groupTable } from '../../src/cli/group-table.js';
import { overClusters } from '../../src/report/clusters.js';
import { GroupMetrics } from '../../src/train/metrics.js';

it('the table of groups says what its ± means, where it has any', () => {
  const metrics = new GroupMetrics(['a', 'b']);
  metrics.add([0, 0, 1], [1, 1, 1], { loss: Float64Array.of(1, 3, 5) });
  const table = groupTable('pairs.jsonl', metrics.summaryWithErrors());
  expect(table).toMatch(/^a +2 +2\.0000 ± 1\.0000$/m);
  expect(table).toMatch(/^b +1 +5\.0000$/m);
  expect(table).toMatch(/\n\(± is one standard error over the pairs of the group\)$/);
  expect(groupTable('pairs.jsonl', metrics.summary())).not.toContain('±');
});

it('the table has intervals in place of ± where pairs come in clusters', () => {
  const metrics = new GroupMetrics(['a']);
  metrics.add([0, 0], [1, 1], { loss: Float64Array.of(1, 3) });
  const pairs = [1, 3].map((loss) => ({ groups: [0], weight: 1, cluster: String(loss), values: { loss } }));
  const over = { ...overClusters(['a'], pairs), column: 'who\u001b[31m' };
  const table = groupTable('pairs.jsonl', metrics.summaryWithErrors(), over);
  expect(table).toMatch(/^a +2 +2\.0000 \(1\.0000 to 3\.0000\)$/m);
  expect(table).toMatch(/^worst group +2\.0000 \(1\.0000 to 3\.0000\)$/m);
  expect(table).not.toContain('±');
  expect(table).toContain('drawing 2 values of who\\x1b[31m anew as wholes');
  expect(table).toContain('\nwarning: a group has pairs of only 2 clusters (who\\x1b[31m): fewer than 10 know little');
});
