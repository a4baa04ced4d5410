import { present } from '../errors.js';

export type CsvCell = string | number | boolean | null | undefined;

/**
 * A header and a line per row, numbers at full precision, empty where there is none. Text that a spreadsheet would take for a
 * formula, which a name from anyone's data may be, has an apostrophe in front.
 */
export function csv(header: readonly string[], rows: readonly (readonly CsvCell[])[]): string {
  const lines: (readonly CsvCell[])[] = [header, ...rows];
  return `${lines.map((cells) => cells.map((cell) => quoted(cellText(cell))).join(',')).join('\n')}\n`;
}

export type CsvRow = Readonly<Record<string, CsvCell>>;

/** The same of objects; columns are the keys of the first. */
export function csvOfRecords(records: readonly CsvRow[]): string {
  const header = Object.keys(present(records[0]));
  return csv(
    header,
    records.map((record) => header.map((column) => record[column])),
  );
}

function cellText(cell: CsvCell): string {
  return typeof cell === 'string' && /^[=+\-@\t\r]/.test(cell) ? `'${cell}` : String(cell ?? '');
}

/** RFC 4180: quoted where a reader would otherwise take part of the text for structure. */
function quoted(cell: string): string {
  return /[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
}
