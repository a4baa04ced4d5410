import { confidenceInterval, estimate, studentT } from '../numbers/statistics.js';

/** Errors of independent runs of T steps each, two or more; those of another horizon are of other draws. */
export interface HorizonErrors {
  T: number;
  errors: readonly number[];
}

export type Interval = [low: number, high: number];

export interface RateFit {
  /** s of the least-squares line log(mean error) = s log T + const. */
  slope: number;
  /** 95 % interval of the slope, see {@link fitRate}. */
  interval: Interval;
}

/**
 * The rate at which the mean error falls with T. The slope is a sum over horizons, s = Σ_h c_h log m_h with c_h = (x_h − x̄) / Σ (x − x̄)²
 * and x = log T, so to first order in the mean m_h of n_h errors with standard deviation s_h (delta method) its variance is
 *
 *   V = Σ_h V_h,   V_h = (c_h s_h / m_h)² / n_h,
 *
 * and its interval s ± t √V, with t of ν = V² / Σ_h V_h² / (n_h − 1) degrees of freedom (Satterthwaite): few runs know little of their own spread.
 *
 * @throws RangeError for less than two horizons, a horizon of one run, or a mean error ≤ 0
 */
export function fitRate(horizons: readonly HorizonErrors[]): RateFit {
  if (horizons.length < 2) throw new RangeError('a rate needs at least two horizons');
  const x = horizons.map(({ T }) => Math.log(T));
  const centre = average(x);
  const spread = x.reduce((sum, value) => sum + (value - centre) ** 2, 0);
  const estimates = horizons.map(({ errors }) => estimate(errors));
  if (estimates.some(({ mean }) => !(mean > 0))) throw new RangeError('a rate needs positive mean errors');
  const parts = estimates.map(({ mean, standard_error: error }, h) => {
    if (error === null) throw new RangeError('a horizon of one run tells nothing of its spread');
    return (((x[h] - centre) / spread) * (error / mean)) ** 2;
  });
  const variance = parts.reduce((sum, part) => sum + part, 0);
  const uncertainty = parts.reduce((sum, part, h) => sum + part ** 2 / (horizons[h].errors.length - 1), 0);
  const reach = variance === 0 ? 0 : studentT(0.95, variance ** 2 / uncertainty) * Math.sqrt(variance);
  const fitted = slope(
    x,
    estimates.map(({ mean }) => Math.log(mean)),
  );
  return { slope: fitted, interval: [fitted - reach, fitted + reach] };
}

/** 95 % interval of the mean (Student's). @throws RangeError for a single run */
export function meanInterval(values: readonly number[]): Interval {
  const interval = confidenceInterval(estimate(values), values.length);
  if (interval === null) throw new RangeError('a single run tells nothing of its spread');
  return interval;
}

export function average(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Slope of the least-squares line through (x, y). */
export function slope(x: readonly number[], y: readonly number[]): number {
  const centreX = average(x);
  const centreY = average(y);
  let covariance = 0;
  let variance = 0;
  for (let n = 0; n < x.length; n++) {
    covariance += (x[n] - centreX) * (y[n] - centreY);
    variance += (x[n] - centreX) ** 2;
  }
  return covariance / variance;
}
