import { outcomeSigns } from '../terminal/checks.js';
import { printable } from '../terminal/names.js';
import type { Page } from './html.js';
import { type Table, type TextCell, textRows } from './table.js';

/** The tables of a page for a paper, each to be pasted or read by \\input; needs the package booktabs only. */
export function renderLatex({ title, sections }: Page): string {
  const tables = sections.flatMap((section) => section.tables ?? []);
  const head = `% ${title.replaceAll(/\s+/g, ' ')}: by group-robust report. Needs \\usepackage{booktabs}.`;
  return `${[head, ...tables.map(tableText)].join('\n\n')}\n`;
}

function tableText(table: Table): string {
  const { caption, columns } = table;
  const row = (cells: readonly string[]) => `    ${cells.join(' & ')} \\\\`;
  return [
    '\\begin{table}',
    '  \\centering',
    `  \\caption{${escaped(caption)}}`,
    `  \\begin{tabular}{${columns.map(({ numeric }) => (numeric ? 'r' : 'l')).join('')}}`,
    '    \\toprule',
    row(columns.map(({ title }) => escaped(title))),
    '    \\midrule',
    ...textRows(table).map((cells) => row(cells.map(cellText))),
    '    \\bottomrule',
    '  \\end{tabular}',
    '\\end{table}',
  ].join('\n');
}

function cellText(cell: TextCell): string {
  return escaped(
    typeof cell === 'string' ? printable(cell) : `${outcomeSigns[cell.outcome]} ${cell.text ?? cell.outcome}`,
  );
}

/** What LaTeX takes for commands, and signs that its usual fonts lack. */
const commands: ReadonlyMap<string, string> = new Map([
  ...[...'&%$#_{}'].map((sign): [string, string] => [sign, `\\${sign}`]),
  ['\\', '\\textbackslash{}'],
  ['~', '\\textasciitilde{}'],
  ['^', '\\textasciicircum{}'],
  ['<', '\\textless{}'],
  ['>', '\\textgreater{}'],
  ['"', "''"],
  ['\u00a0', '~'],
  ['−', '$-$'],
  ['±', '$\\pm$'],
  ['×', '$\\times$'],
  ['≈', '$\\approx$'],
  ['√', '$\\surd$'],
  ['α', '$\\alpha$'],
  ['β', '$\\beta$'],
  ['✓', '$\\surd$'],
  ['✗', '$\\times$'],
  ['–', '--'],
  ['’', "'"],
  ['“', '``'],
  ['”', "''"],
]);

function escaped(text: string): string {
  return Array.from(text.replaceAll(/\s*\n\s*/g, ' '), (sign) => commands.get(sign) ?? sign).join('');
}
