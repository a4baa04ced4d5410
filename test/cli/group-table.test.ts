import { expect, it } from 'vitest';
import { groupTable } from '../../src/cli/group-table.js';
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
