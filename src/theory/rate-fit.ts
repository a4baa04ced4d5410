import type { Random } from '../numbers/random.js';

/** Errors of independent runs of T steps each. */
export interface HorizonErrors {
  T: number;
  errors: readonly number[];
}

export type Interval = [low: number, high: number];

export interface RateFit {
  /** s of the least-squares line log(mean error) = s log T + const. */
  slope: number;
  /** 95 % percentile bootstrap interval of the slope: runs are resampled within each horizon. */
  interval: Interval;
}

const resamples = 2000;

/** The rate at which the mean error falls with T. @throws RangeError for less than two horizons, or a mean error ≤ 0 */
export function fitRate(horizons: readonly HorizonErrors[], random: Random): RateFit {
  if (horizons.length < 2) throw new RangeError('a rate needs at least two horizons');
  const x = horizons.map(({ T }) => Math.log(T));
  const means = horizons.map(({ errors }) => average(errors));
  if (means.some((mean) => !(mean > 0))) throw new RangeError('a rate needs positive mean errors');
  const slopes = Array.from({ length: resamples }, () =>
    // Resampled means may reach 0 where the errors scatter around it; the logarithm must stay finite.
    slope(
      x,
      horizons.map(({ errors }, n) => Math.log(Math.max(resampledMean(errors, random), 1e-12 * means[n]))),
    ),
  );
  return { slope: slope(x, means.map(Math.log)), interval: central95(slopes) };
}

/** 95 % percentile bootstrap interval of the mean. */
export function meanInterval(values: readonly number[], random: Random): Interval {
  return central95(Array.from({ length: resamples }, () => resampledMean(values, random)));
}

export function average(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function resampledMean(values: readonly number[], random: Random): number {
  let sum = 0;
  for (let n = 0; n < values.length; n++) sum += values[random.integer(values.length)];
  return sum / values.length;
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

function central95(values: number[]): Interval {
  const sorted = values.sort((a, b) => a - b);
  return [sorted[Math.floor(0.025 * sorted.length)], sorted[Math.ceil(0.975 * sorted.length) - 1]];
}
