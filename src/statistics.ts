import { mean, std } from './math.js';

/** A mean over independent runs and its standard error; the error is null where a single run gives none. */
export interface Estimate {
  mean: number;
  standard_error: number | null;
}

/** A difference of two methods over the seeds both have run. */
export interface PairedDifference extends Estimate {
  /** How many seeds the two have in common. */
  pairs: number;
}

/**
 * Mean and standard error s/√n (s with n − 1) of `values`.
 * @throws RangeError when there are none.
 */
export function estimate(values: readonly number[]): Estimate {
  if (values.length === 0) throw new RangeError('an estimate needs at least one value');
  const list = [...values];
  return { mean: mean(list), standard_error: list.length > 1 ? Number(std(list)) / Math.sqrt(list.length) : null };
}

/**
 * Estimate of `first` − `second` over their common seeds. Runs of one seed see the same data in the same order, so what
 * the seed does to both cancels, and the error of the difference is far below that of either mean.
 *
 * @param first value by seed
 * @param second value by seed
 * @returns null where no seed is common
 */
export function pairedDifference(
  first: ReadonlyMap<number, number>,
  second: ReadonlyMap<number, number>,
): PairedDifference | null {
  const differences = [...first].filter(([seed]) => second.has(seed)).map(([seed, value]) => value - second.get(seed)!);
  return differences.length === 0 ? null : { ...estimate(differences), pairs: differences.length };
}
