import { estimate } from '../numbers/statistics.js';
import { formatEstimate } from '../terminal/format.js';
import { textTable } from '../terminal/text-table.js';
import { type ExpectedValue, expectedSeedCount } from './expected.js';
import type { BanditFigure } from './figure.js';
import { isRobust, type MethodName } from './methods.js';
import { type Quantity, quantities, type SeedResult } from './run.js';

/** What this package measures, beside the reference value where one is on record. */
export interface ComparisonRow {
  scenario: string;
  /** A method, or a value of χ: the label of the figure's arm. */
  arm: string;
  method: MethodName;
  quantity: Quantity;
  /** Null where it is not on record, as are the tolerance and the verdict. */
  expected: number | null;
  expectedError: number | null;
  measured: number;
  /** Null for a single seed. */
  measuredError: number | null;
  /** Largest |measured − expected| that passes. */
  tolerance: number | null;
  passes: boolean | null;
}

/** Every arm and quantity of a figure against its reference values; α only where it moves. */
export function compareFigure(
  { scenario, arms, quantities: shown }: BanditFigure,
  results: readonly SeedResult[],
): ComparisonRow[] {
  return arms.flatMap(({ label, method, expected }, m) =>
    shown
      .filter((quantity) => quantity !== 'alpha of group 0' || isRobust(method))
      .map((quantity) => {
        const values = results.map(({ runs }) => quantities[quantity](runs[m]));
        return { scenario, arm: label, method, quantity, ...compare(expected[quantity], values) };
      }),
  );
}

/**
 * Passes when |measured − expected| ≤ 3 √(s_e² + s_m²), where s_e is the reference's standard error and s_m the one that the
 * same spread gives at our number of seeds: 3·√2·s_e at 20 seeds. Fixing s_m beforehand keeps a noisy measurement from
 * widening its own tolerance; only where s_e is not on record do the measured values supply both.
 */
function compare(
  reference: ExpectedValue | undefined,
  values: readonly number[],
): Omit<ComparisonRow, 'scenario' | 'arm' | 'method' | 'quantity'> {
  const { mean: measured, standard_error: measuredError } = estimate(values);
  if (!reference)
    return { expected: null, expectedError: null, measured, measuredError, tolerance: null, passes: null };
  const [expected, expectedError = null] = reference;
  const shrink = Math.sqrt(expectedSeedCount / values.length);
  const referenceError = expectedError ?? (measuredError ?? Number.POSITIVE_INFINITY) / shrink;
  const tolerance = 3 * referenceError * Math.hypot(1, shrink);
  const passes = Math.abs(measured - expected) <= tolerance;
  return { expected, expectedError, measured, measuredError, tolerance, passes };
}

/** What breaks the paper's order plain > IS > GR in the rows of Figure 2, in words; empty when it holds. */
export function orderFaults(rows: readonly ComparisonRow[]): string[] {
  const chains: MethodName[][] = [
    ['dpo', 'is-dpo', 'gr-dpo'],
    ['ipo', 'is-ipo', 'gr-ipo'],
  ];
  return (['max validation loss', 'relative max reward error'] as const).flatMap((quantity) => {
    const measured = (method: MethodName) =>
      rows.find((row) => row.method === method && row.quantity === quantity)?.measured;
    return chains.flatMap((chain) =>
      chain.slice(1).flatMap((better, i) => {
        const [high, low] = [measured(chain[i]), measured(better)];
        return high !== undefined && low !== undefined && high > low
          ? []
          : [`${quantity}: ${chain[i]} (${high}) is not above ${better} (${low})`];
      }),
    );
  });
}

/** The rows as a table for people, with a mark in every row that has an expected value. */
export function comparisonTable(rows: readonly ComparisonRow[]): string {
  return textTable(
    ['scenario', 'method', 'quantity', 'expected', 'measured', 'off by', 'allowed', ''],
    rows.map((row) => {
      const [expected, offBy, allowed] = referenceCells(row);
      const measured = formatEstimate({ mean: row.measured, standard_error: row.measuredError });
      return [row.scenario, row.arm, row.quantity, expected, measured, offBy, allowed, verdict(row)];
    }),
  );
}

function referenceCells({ expected, expectedError, measured, tolerance }: ComparisonRow): [string, string, string] {
  if (expected === null || tolerance === null) return ['not on record', '', ''];
  const distance = Math.abs(measured - expected);
  return [
    formatEstimate({ mean: expected, standard_error: expectedError }),
    distance.toPrecision(2),
    tolerance.toPrecision(2),
  ];
}

function verdict({ passes }: ComparisonRow): string {
  return passes === null ? '' : passes ? '✓' : '✗ FAILS';
}
