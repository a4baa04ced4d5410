import { resolve } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { compareFigure, comparisonTable } from '../../src/bandit/comparison.js';
import { paperSeeds } from '../../src/bandit/expected.js';
import { banditFigures, figuresNumbered } from '../../src/bandit/paper-figures.js';
import { type FigureOutcome, runFigures } from '../../src/bandit/run-figures.js';
import { renderMarkdown } from '../../src/report/markdown.js';
import { claimChecks } from '../../src/report/sections/bandit.js';
import { paperPage } from '../../src/reproduce/paper.js';
import { failed } from '../../src/terminal/checks.js';

/** Every synthetic experiment of the paper, whole (oracle O25): nine settings of six methods, and the χ ablation, over 20 seeds. */
describe('the paper’s figures', () => {
  let outcomes: FigureOutcome[];
  beforeAll(async () => {
    outcomes = await runFigures(banditFigures, paperSeeds);
  }, 900_000);

  test('land within 3·√2 standard errors of the expected values; of Figures 7 to 12, one value misses by chance', () => {
    expect(outcomes.map(({ rows }) => rows.length)).toEqual([14, 14, 14, 18, 14, 14, 14, 14, 14, 14]);
    const rows = outcomes.flatMap(({ figure, rows }) => rows.map((row) => ({ figure: figure.number, ...row })));
    const main = rows.filter(({ figure }) => figure <= 6);
    expect(main.filter(({ outcome }) => outcome !== 'holds')).toEqual([]);
    const misses = rows.filter(({ outcome }) => outcome === 'unclear' || outcome === 'fails');
    // 15.66 ± 0.22 for 14.94 ± 0.15; 400 other seeds have 15.36 ± 0.06, between the two (docs/reproducing-the-paper.md).
    expect(misses).toMatchObject([{ figure: 11, arm: 'gr-ipo', quantity: 'max validation loss', outcome: 'unclear' }]);
    const [first] = rows;
    expect(first.tolerance).toBeCloseTo(3 * Math.SQRT2 * first.expectedError!, 12);
  });

  test('of one seed hold to no value that has no error on record', () => {
    const [main] = outcomes;
    const [first] = compareFigure(main.figure, main.results.slice(0, 1)).filter(
      ({ expectedError }) => expectedError === null,
    );
    expect(first).toMatchObject({
      quantity: 'alpha of group 0',
      measuredError: null,
      tolerance: null,
      outcome: 'unclear',
    });
    expect(comparisonTable([first])).toMatch(/not known.*unclear/);
  });

  test('bear out the claims of the main text', () => {
    for (const outcome of outcomes.filter(({ figure }) => figure.number <= 6)) {
      const checks = claimChecks(outcome);
      expect(checks.length).toBeGreaterThan(0);
      expect(checks.filter((check) => !check.finding && check.outcome !== 'holds')).toEqual([]);
    }
  });

  test('judge a claim by its pairs, seed by seed', () => {
    const [main] = outcomes;
    const [claim] = claimChecks(main);
    // The oracle: mean and standard error of the differences, by hand.
    const differences = main.results.map(({ runs }) => runs[2].maxValidationLoss - runs[1].maxValidationLoss);
    const mean = differences.reduce((sum, value) => sum + value, 0) / differences.length;
    const variance = differences.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (differences.length - 1);
    const error = Math.sqrt(variance / differences.length);
    expect(claim.detail).toContain(`GR-DPO − IS-DPO −${(-mean).toFixed(3)} ± ${error.toFixed(3)} ✓`);
    // With the values of two methods exchanged it fails, and so does the program; not so for a claim that is only reported.
    const exchanged = main.results.map((result) => {
      const runs = [...result.runs];
      [runs[1], runs[2]] = [runs[2], runs[1]];
      return { ...result, runs };
    });
    const broken = claimChecks({ ...main, results: exchanged });
    expect(broken[0]).toMatchObject({ outcome: 'fails', detail: expect.stringContaining('✗') });
    expect(failed(broken)).toBe(true);
    const reported = main.figure.claims.map((one) => ({ ...one, finding: true as const }));
    expect(failed(claimChecks({ ...main, figure: { ...main.figure, claims: reported }, results: exchanged }))).toBe(
      false,
    );
  });

  test('have histories from θ⁰ to the end, a hundred steps of them', () => {
    const [run] = outcomes[0].results[0].runs;
    expect(run.history?.map(({ iteration }) => iteration)).toEqual(Array.from({ length: 101 }, (_, i) => 100 * i));
  });

  test('are docs/paper-figures.md; after a change: npx vitest run test/bandit/comparison.test.ts -u', async () =>
    await expect(renderMarkdown(paperPage(outcomes, paperSeeds))).toMatchFileSnapshot(
      resolve('docs/paper-figures.md'),
    ));
});

test('every synthetic figure of the paper, each another setting', () => {
  expect(banditFigures.map(({ number }) => number)).toEqual([2, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
  const settings = banditFigures.filter(({ number }) => number !== 6).map(({ setting }) => JSON.stringify(setting));
  expect(new Set(settings).size).toBe(9);
  expect(() => figuresNumbered(3)).toThrow(/no synthetic figure 3/);
});

test('without an expected value there is no verdict', async () => {
  const [figure] = figuresNumbered(7);
  const short = figure.arms.map((arm) => ({ ...arm, settings: { ...arm.settings, iterations: 5 } }));
  const [{ rows }] = await runFigures([{ ...figure, arms: short }], [1, 2]);
  expect(rows).toHaveLength(14);
  const bare = rows.filter(({ expected }) => expected === null);
  expect(bare.map(({ arm }) => arm)).toEqual(['dpo', 'dpo', 'is-dpo', 'is-dpo', 'gr-dpo', 'gr-dpo', 'gr-dpo']);
  for (const { outcome, tolerance } of bare) expect([outcome, tolerance]).toEqual([null, null]);
  expect(comparisonTable(bare)).not.toMatch(/✓|✗/);
});
