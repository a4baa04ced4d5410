import fc from 'fast-check';
import type { LossSettings, MarginLoss } from '../../src/objective/losses.js';
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

/** A loss of every kind that has a second derivative, for tests that must hold for all. */
export const smoothLosses: readonly LossSettings[] = [
  { loss: 'dpo', beta: 0.7 },
  { loss: 'ipo', beta: 0.7 },
  { loss: 'dpo', beta: 1, labelSmoothing: 0.05 },
  { loss: 'dpo', beta: 2, labelSmoothing: 0.3 },
  { loss: 'dpo', beta: 0.5, labelSmoothing: 0.45 },
];

/**
 * The least value over ‖θ‖ ≤ radius of a convex function, d = 1 or 2, by golden sections within golden sections: nothing of it knows
 * derivatives. It never lies below the true minimum.
 */
export function leastOnBall(f: (theta: number[]) => number, dimension: 1 | 2, radius: number): number {
  if (dimension === 1) return goldenSection((x) => f([x]), radius);
  return goldenSection((x) => goldenSection((y) => f([x, y]), Math.sqrt(Math.max(0, radius ** 2 - x ** 2))), radius);
}

function goldenSection(f: (x: number) => number, reach: number): number {
  const ratio = (Math.sqrt(5) - 1) / 2;
  let [low, high] = [-reach, reach];
  let [left, right] = [high - ratio * (high - low), low + ratio * (high - low)];
  let [atLeft, atRight] = [f(left), f(right)];
  let least = Math.min(f(low), f(high), atLeft, atRight);
  for (let n = 0; n < 55; n++) {
    if (atLeft < atRight) {
      [high, right, atRight] = [right, left, atLeft];
      left = high - ratio * (high - low);
      atLeft = f(left);
    } else {
      [low, left, atLeft] = [left, right, atRight];
      right = low + ratio * (high - low);
      atRight = f(right);
    }
    least = Math.min(least, atLeft, atRight);
  }
  return least;
}
