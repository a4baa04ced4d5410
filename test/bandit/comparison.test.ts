import { expect, test } from 'vitest';
import { comparisonTable, orderFaults } from '../../src/bandit/comparison.js';
import { paperSeeds } from '../../src/bandit/expected.js';
import { banditFigures, figuresNumbered, runFigures } from '../../src/bandit/paper-figures.js';

/** The paper's main synthetic result, whole (oracle O25): three scenarios, six methods, 20 seeds, and the χ ablation. */
test('swapped figures and the χ ablation land within 3·√2 standard errors, in the order plain > IS > GR', {
  timeout: 300_000,
}, async () => {
  const outcomes = await runFigures(figuresNumbered(2, 4, 5, 6), paperSeeds);
  const [main] = outcomes;
  const rows = outcomes.flatMap((outcome) => outcome.rows);
  expect(outcomes.map((outcome) => outcome.rows.length)).toEqual([14, 14, 14, 18]);
  expect(rows.filter((row) => row.passes !== true)).toEqual([]);
  expect(orderFaults(main.rows)).toEqual([]);
  const [first] = main.rows;
  expect(first.tolerance).toBeCloseTo(3 * Math.SQRT2 * first.expectedError!, 12);
  // The order must be able to fail: with the values of two methods exchanged it does.
  const exchange = { 'gr-ipo': 'ipo', ipo: 'gr-ipo' } as Record<string, 'ipo' | 'gr-ipo'>;
  const exchanged = main.rows.map((row) => ({ ...row, method: exchange[row.method] ?? row.method }));
  expect(orderFaults(exchanged).length).toBeGreaterThan(0);
  // Histories run from θ⁰ to the end, a hundred steps of them.
  const [run] = main.results[0].runs;
  expect(run.history?.map(({ iteration }) => iteration)).toEqual(Array.from({ length: 101 }, (_, i) => 100 * i));
});

test('every synthetic figure of the paper, each another setting', () => {
  expect(banditFigures.map(({ number }) => number)).toEqual([2, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
  const settings = banditFigures.filter(({ number }) => number !== 6).map(({ setting }) => JSON.stringify(setting));
  expect(new Set(settings).size).toBe(9);
  expect(() => figuresNumbered(3)).toThrow(/no synthetic figure 3/);
});

test('without a value on record there is no verdict', async () => {
  const [figure] = figuresNumbered(7);
  const short = figure.arms.map((arm) => ({ ...arm, settings: { ...arm.settings, iterations: 5 } }));
  const [{ rows }] = await runFigures([{ ...figure, arms: short }], [1, 2]);
  expect(rows).toHaveLength(14);
  for (const { passes, expected, tolerance } of rows) expect([passes, expected, tolerance]).toEqual([null, null, null]);
  expect(comparisonTable(rows)).not.toMatch(/✓|✗/);
});
