import { mean, std } from 'mathjs';

/** A mean over seeds. */
export interface Estimate {
  mean: number;
  /** Sample standard deviation / √n; null for a single value. */
  standardError: number | null;
}

/** Mean and standard error of independent values, one a seed. */
export function estimate(values: number[]): Estimate {
  const standardError = values.length > 1 ? Number(std(...values)) / Math.sqrt(values.length) : null;
  return { mean: mean(values), standardError };
}

/** "0.560 ± 0.010": the mean with as many digits as its standard error deserves. */
export function formatEstimate({ mean, standardError }: Estimate): string {
  if (standardError === null || !(standardError > 0)) return mean.toPrecision(4);
  const digits = Math.min(Math.max(1 - Math.floor(Math.log10(standardError)), 0), 10);
  return `${mean.toFixed(digits)} ± ${standardError.toFixed(digits)}`;
}

/** Columns padded to their widest cell, with a rule under the heading. */
export function textTable(heading: string[], rows: string[][]): string {
  const widths = heading.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column].length)));
  const line = (cells: string[]) =>
    cells
      .map((cell, column) => cell.padEnd(widths[column]))
      .join('  ')
      .trimEnd();
  return [line(heading), widths.map((width) => '─'.repeat(width)).join('  '), ...rows.map(line)].join('\n');
}
