import { oneLine } from './terminal.js';

/** A table for the terminal: columns padded to their widest cell, a rule under the heading. */
export function textTable(heading: readonly string[], rows: readonly (readonly string[])[]): string {
  const [titles, ...lines] = [heading, ...rows].map((cells) => cells.map(oneLine));
  const widths = titles.map((title, column) => Math.max(title.length, ...lines.map((cells) => cells[column].length)));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, column) => cell.padEnd(widths[column]))
      .join('  ')
      .trimEnd();
  return [line(titles), widths.map((width) => '─'.repeat(width)).join('  '), ...lines.map(line)].join('\n');
}
