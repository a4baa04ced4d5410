import fc from 'fast-check';
import type { MarginLoss } from '../../src/objective/losses.js';
import type { LogLinearProblem } from '../../src/policy/log-linear-problem.js';

/** A problem from plain rows: groups × pairs × d. */
export function problemOf(groups: number[][][], offsets?: number[][]): LogLinearProblem {
  return {
    dimension: groups[0][0].length,
    groups: groups.map((rows, g) => ({
      count: rows.length,
      differences: Float64Array.from(rows.flat()),
      offsets: offsets && Float64Array.from(offsets[g]),
    })),
  };
}

/** The rows of a problem again, so that tests need none of the code they test. */
export function rowsOf({ dimension, groups }: LogLinearProblem): { d: number[]; o: number }[][] {
  return groups.map(({ count, differences, offsets }) =>
    Array.from({ length: count }, (_, i) => ({
      d: Array.from(differences.slice(i * dimension, (i + 1) * dimension)),
      o: offsets?.[i] ?? 0,
    })),
  );
}

/** L_g(θ) and ∇L_g(θ) by the definition. */
export function plainLosses(problem: LogLinearProblem, loss: MarginLoss, theta: ArrayLike<number>) {
  return rowsOf(problem).map((rows) => {
    let value = 0;
    const gradient = new Array<number>(problem.dimension).fill(0);
    for (const { d, o } of rows) {
      const h = d.reduce((sum, entry, j) => sum + entry * theta[j], -o);
      value += loss.value(h) / rows.length;
      for (let j = 0; j < d.length; j++) gradient[j] += (loss.derivative(h) * d[j]) / rows.length;
    }
    return { value, gradient };
  });
}

/** Random problems: K groups of unequal size, d dimensions, with or without offsets. */
export function arbitraryProblem({ groups = [1, 4], dimension = [1, 5] } = {}): fc.Arbitrary<LogLinearProblem> {
  // Two decimals: pairs then see a direction clearly or not at all, as double precision needs for a bracket of 1e-10.
  const entry = fc.double({ min: -3, max: 3, noNaN: true }).map((value) => Math.round(value * 100) / 100);
  return fc
    .record({
      d: fc.integer({ min: dimension[0], max: dimension[1] }),
      sizes: fc.array(fc.integer({ min: 1, max: 12 }), { minLength: groups[0], maxLength: groups[1] }),
      withOffsets: fc.boolean(),
    })
    .chain(({ d, sizes, withOffsets }) =>
      fc
        .record({
          rows: fc.tuple(
            ...sizes.map((n) =>
              fc.array(fc.array(entry, { minLength: d, maxLength: d }), { minLength: n, maxLength: n }),
            ),
          ),
          offsets: fc.tuple(...sizes.map((n) => fc.array(entry, { minLength: n, maxLength: n }))),
        })
        .map(({ rows, offsets }) => problemOf(rows, withOffsets ? offsets : undefined)),
    );
}
