import { type Check, checkText, outcomeSigns } from '../terminal/checks.js';
import { printable } from '../terminal/names.js';
import type { Page, Section } from './html.js';
import { type Table, type TextCell, textRows } from './table.js';

/** A page as GitHub-flavoured Markdown: everything but the figures, whose captions it lists, and the configurations. */
export function renderMarkdown({ title, summary, sections, environment }: Page): string {
  const checks = sections.flatMap((section) => section.checks ?? []);
  const blocks = [
    `# ${escaped(title)}`,
    escaped(summary),
    checksText(checks),
    ...sections.map(sectionText),
    '## Environment',
    tableText({
      caption: 'Where and with what this was made',
      columns: [{ title: 'What' }, { title: 'Value' }],
      rows: Object.entries(environment),
    }),
  ];
  return `${blocks.filter((block) => block !== '').join('\n\n')}\n`;
}

/** The same of one section of a page, its checks last. */
export function sectionMarkdown(section: Section): string {
  return [sectionText(section), checksText(section.checks ?? [])].join('\n\n');
}

function sectionText(section: Section): string {
  const { title, text = [], tables = [] } = section;
  return [`## ${escaped(title)}`, ...text.map(escaped), ...tables.map(tableText)].join('\n\n');
}

function checksText(checks: readonly Check[]): string {
  return checks.map((check) => `- ${cellText({ outcome: check.outcome })} ${escaped(checkText(check))}`).join('\n');
}

function tableText(table: Table): string {
  const { caption, columns } = table;
  const row = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [
    `**${escaped(caption)}**\n`,
    row(columns.map((column) => escaped(column.title))),
    row(columns.map((column) => (column.numeric ? '--:' : '---'))),
    ...textRows(table).map((cells) => row(cells.map(cellText))),
  ].join('\n');
}

function cellText(cell: TextCell): string {
  if (typeof cell === 'string') return escaped(printable(cell));
  const sign = outcomeSigns[cell.outcome];
  return cell.text === undefined ? `${sign} ${cell.outcome}` : `${escaped(cell.text)} ${sign}`;
}

/** What Markdown or the HTML in it would take for structure, and line breaks, which end a table's row. */
function escaped(text: string): string {
  return text.replaceAll(/[\\`*_[\]<>|#&]/g, '\\$&').replaceAll(/\s*\n\s*/g, ' ');
}
