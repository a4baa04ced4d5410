import { math } from '../numbers/math.js';

/** x with matrix · x = right; undefined where the matrix is singular in double precision. */
export function solveLinear(matrix: number[][], right: number[]): number[] | undefined {
  try {
    const solution = (math().lusolve(matrix, right) as number[][]).map(([value]) => value);
    return solution.every(Number.isFinite) ? solution : undefined;
  } catch {
    // mathjs throws an error of no type of its own.
    return undefined;
  }
}
