import type { ParallelOptions } from '../parallel.js';
import { formatEstimate } from '../report/format.js';
import { textTable } from '../report/text-table.js';
import { estimate } from '../statistics.js';
import { chiAblation, type ExpectedValue, expectedSeedCount, swappedScenarios } from './expected.js';
import { type MethodName, methodNames, methodSettings } from './methods.js';
import { type MethodRun, runSeeds } from './run.js';

/** One reference value beside what this package measures. */
export interface ComparisonRow {
  /** Scenario, or the value of χ. */
  scenario: string;
  method: MethodName;
  quantity: 'max validation loss' | 'mean validation loss' | 'relative max reward error' | 'alpha of group 0';
  expected: number;
  /** Null where it is not on record. */
  expectedError: number | null;
  measured: number;
  /** Null for a single seed. */
  measuredError: number | null;
  /** Largest |measured − expected| that passes. */
  tolerance: number;
  passes: boolean;
}

/** All six methods in the three swapped scenarios against their reference values: the paper's main synthetic result. */
export async function swappedRows(seeds: readonly number[], options?: ParallelOptions): Promise<ComparisonRow[]> {
  const methods = methodNames.map((name) => methodSettings(name));
  const jobs = swappedScenarios.flatMap(({ setting }) => seeds.map((seed) => ({ setting, seed, methods })));
  const results = await runSeeds(jobs, options);
  return swappedScenarios.flatMap(({ name: scenario, methods: expected }, s) =>
    methodNames.flatMap((method, m) => {
      const runs = results.slice(s * seeds.length, (s + 1) * seeds.length).map((result) => result.runs[m]);
      const { maxValidationLoss, maxRelativeRewardError, alpha0 } = expected[method];
      const row = { scenario, method };
      return [
        compare({ ...row, quantity: 'max validation loss' }, maxValidationLoss, valuesOf(runs, 'maxValidationLoss')),
        compare(
          { ...row, quantity: 'relative max reward error' },
          maxRelativeRewardError,
          valuesOf(runs, 'maxRelativeRewardError'),
        ),
        ...(alpha0 === undefined ? [] : [compareAlpha(row, alpha0, runs)]),
      ];
    }),
  );
}

/** GR-IPO in scenario (iii) at every χ of the ablation against its reference values. */
export async function chiRows(seeds: readonly number[], options?: ParallelOptions): Promise<ComparisonRow[]> {
  const method = 'gr-ipo';
  const methods = chiAblation.map(({ chi }) => methodSettings(method, { chi }));
  const { setting } = swappedScenarios[2];
  const results = await runSeeds(
    seeds.map((seed) => ({ setting, seed, methods })),
    options,
  );
  return chiAblation.flatMap(({ chi, maxValidationLoss, meanValidationLoss, alpha0 }, m) => {
    const runs = results.map((result) => result.runs[m]);
    const row = { scenario: `chi = ${chi}`, method } as const;
    const means = runs.map(({ validationLosses }) => estimate(validationLosses).mean);
    return [
      compare({ ...row, quantity: 'max validation loss' }, maxValidationLoss, valuesOf(runs, 'maxValidationLoss')),
      compare({ ...row, quantity: 'mean validation loss' }, meanValidationLoss, means),
      compareAlpha(row, alpha0, runs),
    ];
  });
}

function valuesOf(runs: MethodRun[], key: 'maxValidationLoss' | 'maxRelativeRewardError'): number[] {
  return runs.map((run) => run[key]);
}

function compareAlpha(row: Pick<ComparisonRow, 'scenario' | 'method'>, expected: number, runs: MethodRun[]) {
  const alphas = runs.map((run) => run.alpha[0]);
  return compare({ ...row, quantity: 'alpha of group 0' }, [expected, undefined], alphas);
}

/**
 * Passes when |measured − expected| ≤ 3 √(s_e² + s_m²), where s_e is the reference's standard error and s_m the one that the
 * same spread gives at our number of seeds: 3·√2·s_e at 20 seeds. Fixing s_m beforehand keeps a noisy measurement from
 * widening its own tolerance; only where s_e is not on record do the measured values supply both.
 */
function compare(
  row: Pick<ComparisonRow, 'scenario' | 'method' | 'quantity'>,
  [expected, expectedError]: ExpectedValue | readonly [number, undefined],
  values: number[],
): ComparisonRow {
  const { mean: measured, standard_error: measuredError } = estimate(values);
  const shrink = Math.sqrt(expectedSeedCount / values.length);
  const referenceError = expectedError ?? (measuredError ?? Number.POSITIVE_INFINITY) / shrink;
  const tolerance = 3 * referenceError * Math.hypot(1, shrink);
  return {
    ...row,
    expected,
    expectedError: expectedError ?? null,
    measured,
    measuredError,
    tolerance,
    passes: Math.abs(measured - expected) <= tolerance,
  };
}

/** What breaks the paper's order plain > IS > GR in scenario (iii), in words; empty when it holds. */
export function orderFaults(rows: readonly ComparisonRow[]): string[] {
  const scenario = swappedScenarios[2].name;
  const chains: MethodName[][] = [
    ['dpo', 'is-dpo', 'gr-dpo'],
    ['ipo', 'is-ipo', 'gr-ipo'],
  ];
  return (['max validation loss', 'relative max reward error'] as const).flatMap((quantity) => {
    const measured = (method: MethodName) =>
      rows.find((row) => row.scenario === scenario && row.method === method && row.quantity === quantity)?.measured;
    return chains.flatMap((chain) =>
      chain.slice(1).flatMap((better, i) => {
        const [high, low] = [measured(chain[i]), measured(better)];
        return high !== undefined && low !== undefined && high > low
          ? []
          : [`${scenario}, ${quantity}: ${chain[i]} (${high}) is not above ${better} (${low})`];
      }),
    );
  });
}

/** The rows as a table for people. */
export function comparisonTable(rows: readonly ComparisonRow[]): string {
  return textTable(
    ['scenario', 'method', 'quantity', 'expected', 'measured', 'off by', 'allowed', ''],
    rows.map((row) => [
      row.scenario,
      row.method,
      row.quantity,
      formatEstimate({ mean: row.expected, standard_error: row.expectedError }),
      formatEstimate({ mean: row.measured, standard_error: row.measuredError }),
      Math.abs(row.measured - row.expected).toPrecision(2),
      row.tolerance.toPrecision(2),
      row.passes ? '✓' : '✗ FAILS',
    ]),
  );
}
