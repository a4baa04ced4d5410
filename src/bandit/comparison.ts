import { estimate } from '../numbers/statistics.js';
import { formatEstimate } from '../terminal/format.js';
import { textTable } from '../terminal/text-table.js';
import { type ExpectedValue, expectedSeedCount } from './expected.js';
import { isRobust, type MethodName } from './methods.js';
import type { BanditFigure } from './paper-figures.js';
import { type Quantity, quantities, type SeedResult } from './run.js';

/** What this package measures, beside the reference value where there is one. */
export interface ComparisonRow {
  scenario: string;
  /** A method, or a value of χ: the label of the figure's arm. */
  arm: string;
  method: MethodName;
  quantity: Quantity;
  /** Null where there is none, as are the tolerance and the verdict. */
  expected: number | null;
  expectedError: number | null;
  measured: number;
  /** Null for a single seed. */
  measuredError: number | null;
  /** Largest |measured − expected| at which the two agree; null where neither has a standard error, which is unclear. */
  tolerance: number | null;
  /** Whether they do; the words of checks everywhere in this package. */
  outcome: 'holds' | 'unclear' | 'fails' | null;
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
 * Holds when |measured − expected| ≤ 3 √(s_e² + s_m²), where s_e is the reference's standard error and s_m the one that the
 * same spread gives at our number of seeds: 3·√2·s_e at 20 seeds. Fixing s_m beforehand keeps a noisy measurement from
 * widening its own tolerance; only where s_e is not known do the measured values supply both. What is beyond it is unclear as long
 * as our own standard error as s_m would allow it: over some hundred comparisons of a few seeds chance makes one of these.
 */
function compare(
  reference: ExpectedValue | undefined,
  values: readonly number[],
): Omit<ComparisonRow, 'scenario' | 'arm' | 'method' | 'quantity'> {
  const { mean: measured, standard_error: measuredError } = estimate(values);
  if (!reference)
    return { expected: null, expectedError: null, measured, measuredError, tolerance: null, outcome: null };
  const [expected, expectedError = null] = reference;
  const shrink = Math.sqrt(expectedSeedCount / values.length);
  const referenceError = expectedError ?? (measuredError ?? Number.POSITIVE_INFINITY) / shrink;
  const tolerance = 3 * referenceError * Math.hypot(1, shrink);
  const distance = Math.abs(measured - expected);
  const within = distance <= 3 * Math.hypot(referenceError, measuredError ?? 0);
  const outcome = distance <= tolerance ? 'holds' : within ? 'unclear' : 'fails';
  // One seed, and no error on record either: nothing says how far apart the two may be.
  if (!Number.isFinite(tolerance))
    return { expected, expectedError, measured, measuredError, tolerance: null, outcome: 'unclear' };
  return { expected, expectedError, measured, measuredError, tolerance, outcome };
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
  if (expected === null) return ['none', '', ''];
  const distance = Math.abs(measured - expected);
  return [
    formatEstimate({ mean: expected, standard_error: expectedError }),
    distance.toPrecision(2),
    tolerance === null ? 'not known' : tolerance.toPrecision(2),
  ];
}

function verdict({ outcome }: ComparisonRow): string {
  return outcome === null ? '' : { holds: '✓', unclear: '≈ unclear', fails: '✗ FAILS' }[outcome];
}
