import { math } from './math.js';

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
  const { mean, std } = math();
  const list = [...values];
  return { mean: mean(list), standard_error: list.length > 1 ? Number(std(list)) / Math.sqrt(list.length) : null };
}

/** Student's t by degrees of freedom, from 1 on: |t| is below with a chance of 95 %. Beyond the last that one, slightly too large. */
const studentT = [
  12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131, 2.12, 2.11,
  2.101, 2.093, 2.086, 2.08, 2.074, 2.069, 2.064, 2.06, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/** The 95 % confidence interval of a mean over `n` independent runs whose values are normal; null for one run. */
export function confidenceInterval({ mean, standard_error: error }: Estimate, n: number): [number, number] | null {
  if (error === null) return null;
  const reach = studentT[Math.min(n - 1, studentT.length) - 1] * error;
  return [mean - reach, mean + reach];
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
