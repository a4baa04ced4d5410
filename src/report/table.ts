import { present } from '../errors.js';
import type { Estimate } from '../numbers/statistics.js';
import type { Outcome } from '../terminal/checks.js';
import { formatEstimates } from '../terminal/format.js';

/**
 * Text, the outcome of a check with its text (default: the outcome's name), shown by a sign besides its colour, or a number with its
 * error; null: there is none.
 */
export type Cell = string | { outcome: Outcome; text?: string } | Estimate | null;

export interface Table {
  caption: string;
  /** `numeric` columns are right-aligned. */
  columns: readonly { title: string; numeric?: boolean }[];
  /** The first cell heads its row. */
  rows: readonly (readonly Cell[])[];
}

/** A cell that is ready to be written. */
export type TextCell = Exclude<Cell, Estimate | null>;

/** The rows of a table with all numbers of a column in one format. */
export function textRows({ columns, rows }: Table): TextCell[][] {
  const byColumn = columns.map((_, column) => {
    const cells = rows.map((row) => row[column] ?? null);
    const texts = formatEstimates(cells.filter(isEstimate));
    return cells.map((cell) => (cell === null ? '–' : isEstimate(cell) ? present(texts.shift()) : cell));
  });
  return rows.map((_, row) => byColumn.map((cells) => present(cells[row])));
}

function isEstimate(cell: Cell): cell is Estimate {
  return typeof cell === 'object' && cell !== null && 'mean' in cell;
}
