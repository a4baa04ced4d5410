/**
 * Exponential and logarithm for the innermost loops, where Math.exp and Math.log1p would take most of the time. Each splits
 * its argument into a grid point, whose value is in a table, and a small rest, for which a few terms of the series do.
 */

/** 2^(j/2048), j = 0..2047. */
const fractions = Float64Array.from({ length: 2048 }, (_, j) => 2 ** (j / 2048));
/** 2^(k − 1024), k = 0..2047. */
const powers = Float64Array.from({ length: 2048 }, (_, k) => 2 ** (k - 1024));

/** 2048 / ln 2. */
const gridPointsPerUnit = 2954.639443740597;
/** ln 2 / 2048 in two parts; the first has 26 significant bits, so that its product with n below, of 22 bits, is exact. */
const gridHigh = 0.00033845076541183516;
const gridLow = 6.345950631782172e-12;
/** Adding 1.5 · 2⁵² and taking it away again rounds to the nearest whole number. */
const rounder = 6755399441055744;

/**
 * e^x with a relative error of at most 3 · 2⁻⁵³, 1.5 units in the last place. exp(0) is exactly 1; beyond |x| = 700 it is
 * Math.exp; NaN stays NaN.
 *
 * x = n ln 2/2048 + r with |r| ≤ ln 2/4096, so e^x = 2^(n/2048) e^r; the first term of the series of e^r left out is
 * r⁴/24 < 2⁻⁵⁴.
 */
export function exp(x: number): number {
  if (!(Math.abs(x) < 700)) return Math.exp(x);
  const n = x * gridPointsPerUnit + rounder - rounder;
  const r = x - n * gridHigh - n * gridLow;
  const excess = r + r * r * (1 / 2 + r * (1 / 6));
  const scale = fractions[n & 2047] * powers[(n >> 11) + 1024];
  return scale + scale * excess;
}

/** log(1 + n/512) and 1/(1 + n/512), n = 0..512. */
const logarithms = Float64Array.from({ length: 513 }, (_, n) => Math.log1p(n / 512));
const inverses = Float64Array.from({ length: 513 }, (_, n) => 1 / (1 + n / 512));

/**
 * log(1 + x) for x in [0, 1] with a relative error of at most 2⁻⁵¹; NaN stays NaN.
 *
 * With c = n/512 the nearest grid point, log(1 + x) = log(1 + c) + log(1 + u), u = (x − c)/(1 + c), |u| ≤ 2⁻¹⁰; the first term
 * of the series left out is u⁶/6.
 */
export function log1p(x: number): number {
  const n = x * 512 + rounder - rounder;
  const u = (x - n / 512) * inverses[n | 0];
  const square = u * u;
  return logarithms[n | 0] + (u + square * (u * (1 / 3) - 1 / 2 + square * (u * (1 / 5) - 1 / 4)));
}
