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

/** More tell nothing that a figure would show. */
const MOST_DEGREES = 10_000;

/**
 * Student's t: with this `chance` |T| lies below it. From P(|T| < t), which is a finite sum for whole degrees of freedom (Abramowitz and
 * Stegun 26.7.3 and 26.7.4, in the angle θ with t = √ν tan θ).
 * @param degrees ν ≥ 1, rounded down
 */
export function studentT(chance: number, degrees: number): number {
  const nu = Math.floor(Math.min(degrees, MOST_DEGREES));
  let [low, high] = [0, Math.PI / 2];
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (within(middle, nu) < chance) low = middle;
    else high = middle;
  }
  return Math.sqrt(nu) * Math.tan(low);
}

/** P(|T| < √ν tan θ). */
function within(angle: number, nu: number): number {
  const cosine = Math.cos(angle);
  const odd = nu % 2 === 1;
  let term = odd ? cosine : 1;
  let sum = nu === 1 ? 0 : term;
  for (let k = odd ? 3 : 2; k <= nu - 2; k += 2) {
    term *= ((k - 1) / k) * cosine ** 2;
    sum += term;
  }
  return odd ? (2 / Math.PI) * (angle + Math.sin(angle) * sum) : Math.sin(angle) * sum;
}

/** The 95 % confidence interval of a mean over `n` independent runs whose values are normal; null for one run. */
export function confidenceInterval({ mean, standard_error: error }: Estimate, n: number): [number, number] | null {
  if (error === null) return null;
  const reach = studentT(0.95, n - 1) * error;
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
