import { largest } from '../numbers/extremes.js';
import { printable } from './names.js';
import { displayWidth, padToWidth } from './width.js';

/**
 * A table for the terminal: columns padded to their widest cell, a rule under the heading. Where it is wider than `width`, which would
 * break its lines anywhere, each row is a list of its values instead.
 */
export function textTable(
  heading: readonly string[],
  rows: readonly (readonly string[])[],
  width = process.stdout.columns || Number.POSITIVE_INFINITY,
): string {
  const titles = heading.map(printable);
  const lines = rows.map((cells) => cells.map(printable));
  const widths = titles.map((title, column) =>
    largest([title, ...lines.map((cells) => cells[column] ?? '')].map(displayWidth)),
  );
  if (widths.reduce((sum, one) => sum + one + 2, -2) > width)
    return lines
      .map(([first, ...cells]) =>
        [
          first,
          ...cells.map((cell, i) => (cell === '' ? '' : `  ${titles[i + 1] ?? ''}${titles[i + 1] && ': '}${cell}`)),
        ]
          .filter(Boolean)
          .join('\n'),
      )
      .join('\n');
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, column) => padToWidth(cell, widths[column] ?? 0))
      .join('  ')
      .trimEnd();
  return [line(titles), widths.map((width) => '─'.repeat(width)).join('  '), ...lines.map(line)].join('\n');
}
