import { expect, test } from 'vitest';
import { chiRows, orderFaults, swappedRows } from '../../src/bandit/comparison.js';
import { paperSeeds } from '../../src/bandit/expected.js';

/** The paper's main synthetic result, whole (oracle O25): three scenarios, six methods, 20 seeds. */
test('swapped scenarios land within 3·√2 standard errors, in the order plain > IS > GR', {
  timeout: 300_000,
}, async () => {
  const rows = await swappedRows(paperSeeds);
  expect(rows).toHaveLength(3 * (6 * 2 + 2));
  expect(rows.filter((row) => !row.passes)).toEqual([]);
  expect(orderFaults(rows)).toEqual([]);
  const first = rows[0];
  expect(first.tolerance).toBeCloseTo(3 * Math.SQRT2 * first.expectedError!, 12);
  // The order must be able to fail: with the values of two methods exchanged it does.
  const exchanged = rows.map((row) => ({
    ...row,
    method: row.method === 'gr-ipo' ? 'ipo' : row.method === 'ipo' ? 'gr-ipo' : row.method,
  })) as typeof rows;
  expect(orderFaults(exchanged).length).toBeGreaterThan(0);
});

test('the chi ablation lands within 3·√2 standard errors', async () => {
  const rows = await chiRows(paperSeeds);
  expect(rows).toHaveLength(6 * 3);
  expect(rows.filter((row) => !row.passes)).toEqual([]);
});
