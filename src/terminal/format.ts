import type { Estimate } from '../numbers/statistics.js';

/** Numbers as a reader wants them: a true minus sign, as many digits as the error supports. */

/** `value` to `digits` significant digits, without trailing zeros; scientific below 1e-4 and from 1e7 on. */
export function formatNumber(value: number, digits = 4): string {
  const size = Math.abs(value);
  const text =
    size !== 0 && (size < 1e-4 || size >= 1e7)
      ? value.toExponential(digits - 1)
      : String(Number(value.toPrecision(digits)));
  return text.replaceAll('-', '−');
}

/** "17.93 ± 0.27": the error to two significant digits and the mean to the same decimal; the mean alone without an error. */
export function formatEstimate(one: Estimate): string {
  const { mean } = one;
  const error = errorOf(one);
  if (error === null) return formatNumber(mean);
  if (error === 0) return `${formatNumber(mean)} ± 0`;
  const decimals = 1 - Math.floor(Math.log10(error));
  if (decimals > 8) return `${formatNumber(mean)} ± ${formatNumber(error, 2)}`;
  const fixed = (value: number) => value.toFixed(Math.max(0, decimals)).replace('-', '−');
  return `${fixed(mean)} ± ${fixed(error)}`;
}

/**
 * Several in one format, for a column: all to the decimals that the smallest error supports, four at most where that is more; each by
 * itself where their sizes are too different for that.
 */
export function formatEstimates(estimates: readonly Estimate[]): string[] {
  const decimals = Math.max(0, ...estimates.map(decimalsOf));
  const sizes = estimates.flatMap(({ mean }) => (mean === 0 ? [] : [Math.abs(mean)]));
  if (decimals > 8 || sizes.some((size) => size >= 1e7) || Math.max(...sizes) < 1e-4)
    return estimates.map(formatEstimate);
  const fixed = (value: number) =>
    value
      .toFixed(decimals)
      .replace(/^-(?=.*[1-9])/, '−')
      .replace('-', '');
  return estimates.map((one) => {
    const error = errorOf(one);
    return error === null ? fixed(one.mean) : `${fixed(one.mean)} ± ${error === 0 ? '0' : fixed(error)}`;
  });
}

/** Below a certain size an error is rounding, which equal values leave behind. */
function errorOf({ mean, standard_error: error }: Estimate): number | null {
  return error !== null && error <= 1e-12 * Math.abs(mean) ? 0 : error;
}

/** Two significant digits of the error, or up to four of a mean without one; no more than four decimals for what is not tiny. */
function decimalsOf(one: Estimate): number {
  const error = errorOf(one);
  if (!error) return (String(Number(one.mean.toPrecision(4))).split('.')[1] ?? '').length;
  const decimals = 1 - Math.floor(Math.log10(error));
  return Math.abs(one.mean) >= 0.01 ? Math.min(4, decimals) : decimals;
}

/** "1 pair", "2 pairs" */
export function counted(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}

/** "1,396" */
export function formatCount(count: number): string {
  return count.toLocaleString('en-US');
}
