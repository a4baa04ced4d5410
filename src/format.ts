import type { Estimate } from './statistics.js';

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
export function formatEstimate({ mean, standard_error: error }: Estimate): string {
  if (error === null) return formatNumber(mean);
  // Below this the error is rounding, which equal values leave behind.
  if (error <= 1e-12 * Math.abs(mean)) return `${formatNumber(mean)} ± 0`;
  const decimals = 1 - Math.floor(Math.log10(error));
  if (decimals > 8) return `${formatNumber(mean)} ± ${formatNumber(error, 2)}`;
  const fixed = (value: number) => value.toFixed(Math.max(0, decimals)).replace('-', '−');
  return `${fixed(mean)} ± ${fixed(error)}`;
}

/** "1,396" */
export function formatCount(count: number): string {
  return count.toLocaleString('en-US');
}
