export type CsvRow = Readonly<Record<string, string | number | boolean | null | undefined>>;

/** A header and a line per row, numbers at full precision, empty where there is none; columns are those of the first row. */
export function csv(rows: readonly CsvRow[]): string {
  const header = Object.keys(rows[0]);
  const lines = rows.map((row) => header.map((column) => String(row[column] ?? '')));
  return `${[header, ...lines].map((cells) => cells.map(quoted).join(',')).join('\n')}\n`;
}

/** RFC 4180: quoted where a reader would otherwise take part of the text for structure. */
function quoted(cell: string): string {
  return /[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
}
