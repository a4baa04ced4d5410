import { createHash } from 'node:crypto';
import { messageOf } from '../errors.js';
import { type Check, checkText, outcomeSigns } from '../terminal/checks.js';
import { printable } from '../terminal/names.js';
import { type Chart, drawForPage, escapeXml, type PageDrawing } from './charts.js';
import { PAGE_SCRIPT } from './page-script.js';
import { type Table, type TextCell, textRows } from './table.js';

/**
 * One HTML file that needs nothing else: styles, figures and one script are inside, nothing is fetched. Without the script
 * the page lacks only tooltips and the legends' switches.
 */

export interface Figure {
  /** Can be a file's name: `reward-error-ipo`; unique among the figures of a section. */
  name: string;
  chart: Chart;
  caption: string;
}

export interface Section {
  title: string;
  /** Paragraphs. */
  text?: readonly string[];
  /** What a reader should take away: shown at the top of the page. */
  checks?: readonly Check[];
  tables?: readonly Table[];
  figures?: readonly Figure[];
}

export interface Page {
  title: string;
  /** What was done, in a sentence or two. */
  summary: string;
  sections: readonly Section[];
  /** Versions, commit, machine: name → value. */
  environment: Readonly<Record<string, string>>;
  /** Configurations as text, each under its name. */
  config: readonly { name: string; text: string }[];
}

/** The whole page. Everything is escaped, so names from anyone's data are safe in it, and no script but its own may run. */
export async function renderPage(page: Page): Promise<string> {
  const sections = await Promise.all(page.sections.map(renderSection));
  const hash = createHash('sha256').update(PAGE_SCRIPT).digest('base64');
  const checks = page.sections.flatMap((section) => section.checks ?? []);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-${hash}'">
<title>${escapeXml(page.title)}</title>
<style>${STYLE}</style>
</head>
<body>
<header>
<h1>${escapeXml(page.title)}</h1>
<p>${escapeXml(page.summary)}</p>
${checks.length > 0 ? `<ul class="checks">\n${checks.map(renderCheck).join('\n')}\n</ul>` : ''}
</header>
<main>
${sections.join('\n')}
<section>
<h2>Environment and configuration</h2>
${renderTable({
  caption: 'Where and with what this was made',
  columns: [{ title: 'What' }, { title: 'Value' }],
  rows: Object.entries(page.environment),
})}
${page.config
  .map(({ name, text }) => `<details><summary>${escapeXml(name)}</summary><pre>${escapeXml(text)}</pre></details>`)
  .join('\n')}
</section>
</main>
<script>${PAGE_SCRIPT}</script>
</body>
</html>
`;
}

async function renderSection({ title, text = [], tables = [], figures = [] }: Section): Promise<string> {
  const drawn = await Promise.all(figures.map(renderFigure));
  return `<section>
<h2>${escapeXml(title)}</h2>
${text.map((paragraph) => `<p>${escapeXml(paragraph)}</p>`).join('\n')}
${tables.map(renderTable).join('\n')}
${figures.length > 0 ? `<div class="figures">\n${drawn.join('\n')}\n</div>` : ''}
</section>`;
}

function renderCheck(check: Check): string {
  return `<li>${renderCell({ outcome: check.outcome })} ${escapeXml(checkText(check))}</li>`;
}

function renderTable(table: Table): string {
  const { caption, columns } = table;
  const numeric = (index: number) => (columns[index]?.numeric ? ' class="number"' : '');
  const head = columns.map(({ title }, i) => `<th scope="col"${numeric(i)}>${escapeXml(title)}</th>`).join('');
  const body = textRows(table).map((cells) => {
    const [first, ...rest] = cells.map(renderCell);
    return `<tr><th scope="row"${numeric(0)}>${first}</th>${rest.map((cell, i) => `<td${numeric(i + 1)}>${cell}</td>`).join('')}</tr>`;
  });
  // A wide table scrolls inside its own box, which the keyboard must be able to reach; its caption stays in sight.
  return `<p class="caption">${escapeXml(caption)}</p>
<div class="table" role="region" tabindex="0" aria-label="${escapeXml(caption)}"><table aria-label="${escapeXml(caption)}">
<thead><tr>${head}</tr></thead>
<tbody>
${body.join('\n')}
</tbody>
</table></div>`;
}

function renderCell(cell: TextCell): string {
  if (typeof cell === 'string') return escapeXml(printable(cell));
  const word = cell.outcome;
  const sign = outcomeSigns[word];
  if (cell.text === undefined) return `<span class="${word}">${sign} ${word}</span>`;
  return `${escapeXml(cell.text)} <span class="${word}" role="img" aria-label="${word}">${sign}</span>`;
}

/** A figure that cannot be drawn leaves a note in its place: the numbers are in the tables. */
async function renderFigure({ chart, caption }: Figure): Promise<string> {
  let drawing: PageDrawing;
  try {
    drawing = await drawForPage(chart);
  } catch (error) {
    const note = `This figure could not be drawn: ${messageOf(error)}`;
    return `<p role="note">${escapeXml(note)} (${escapeXml(caption)})</p>`;
  }
  const { svg, series, values } = drawing;
  // Inside HTML the namespaces are implied; without them the page holds no address at all.
  const inline = svg.replace(/ xmlns(:xlink)?="[^"]*"/g, '');
  const data = { names: series.map(({ name }) => printable(name)), ...values };
  return `<figure><div class="chart">${inline}</div>${renderLegend(series)}<figcaption>${escapeXml(caption)}</figcaption>
<script type="application/json">${JSON.stringify(data).replaceAll('<', '\\u003c')}</script></figure>`;
}

function renderLegend(series: PageDrawing['series']): string {
  if (series.length < 2) return '';
  const swatch = ({ colour, dashed, bar }: PageDrawing['series'][number]) =>
    bar
      ? `<i class="swatch bar" style="background:${colour}"></i>`
      : `<i class="swatch" style="border-top:3px ${dashed ? 'dashed' : 'solid'} ${colour}"></i>`;
  const items = series.map(
    (entry, i) => `<li data-series="${i}">${swatch(entry)}${escapeXml(printable(entry.name))}</li>`,
  );
  return `<ul class="legend">${items.join('')}</ul>`;
}

const STYLE = `
:root { color-scheme: light dark; --page: #fff; --ink: #1a1a1a; --soft: #444; --faint: #666; --line: #d0d0d0; --rule: #e4e4e4; --panel: #f3f6f9;
  --accent: #0072b2; --good: #00664b; --open: #6b5300; --bad: #a33c00; --shade: #0003; --drawn: none; }
@media (prefers-color-scheme: dark) { :root { --page: #121212; --ink: #e8e8e8; --soft: #bbb; --faint: #999; --line: #444; --rule: #333; --panel: #1d2329;
  --accent: #56b4e9; --good: #4fc9a0; --open: #d9bd55; --bad: #f08c5a; --shade: #fff4; --drawn: invert(.93) hue-rotate(180deg); } }
@media print { :root { --drawn: none; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 72rem; background: var(--page); color: var(--ink);
  font: 1rem/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; overflow-wrap: break-word; }
h1 { margin: 0 0 .5rem; font-size: 1.75rem; line-height: 1.2; }
h2 { margin: 2.5rem 0 .5rem; padding-top: 1rem; border-top: 1px solid var(--line); font-size: 1.3rem; line-height: 1.25; }
p { max-width: 46rem; margin: .5rem 0; }
.checks { max-width: 46rem; margin: 1rem 0; padding: .75rem 1rem .75rem 2rem; background: var(--panel); border-left: 4px solid var(--accent); }
.checks li { margin: .25rem 0; }
.holds, .unclear, .fails { font-weight: 600; white-space: nowrap; }
.holds { color: var(--good); }
.unclear { color: var(--open); }
.fails { color: var(--bad); }
p.caption { margin: 1.25rem 0 .25rem; font-size: .95rem; font-weight: 600; }
/* What lies beyond an edge casts a shadow on it: covers that scroll with the table hide it where there is nothing more. */
.table { overflow-x: auto; background: linear-gradient(to right, var(--page) 30%, transparent) left / 3rem 100% no-repeat local,
  linear-gradient(to left, var(--page) 30%, transparent) right / 3rem 100% no-repeat local,
  linear-gradient(to right, var(--shade), transparent) left / 1rem 100% no-repeat scroll,
  linear-gradient(to left, var(--shade), transparent) right / 1rem 100% no-repeat scroll; }
.table:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .3rem .5rem; border-bottom: 1px solid var(--rule); text-align: left; vertical-align: top; }
thead th { border-bottom: 2px solid var(--faint); vertical-align: bottom; }
th:first-child { padding-left: 0; }
tbody th { font-weight: 500; min-width: 7.5rem; }
td:not(.number) { min-width: 4.5rem; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
td.number { white-space: nowrap; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); gap: 1.5rem; margin: 1rem 0; }
figure { margin: 0; min-width: 0; max-width: 36rem; }
figure svg { display: block; width: 100%; height: auto; }
figure svg, .swatch { filter: var(--drawn); }
.chart { position: relative; touch-action: pan-y; }
.chart:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.off { display: none; }
.cursor { stroke: #666; stroke-width: 1; pointer-events: none; }
.dot { fill: #fff; stroke: #1a1a1a; stroke-width: 1.5; pointer-events: none; }
.tip { position: absolute; max-width: 100%; padding: .4rem .6rem; background: var(--page); border: 1px solid var(--faint); border-radius: 4px;
  box-shadow: 0 1px 4px var(--shade); font-size: .85rem; line-height: 1.35; pointer-events: none; }
.tip div { display: flex; align-items: center; gap: .4rem; }
.tip .number { margin-left: auto; padding-left: .5rem; white-space: nowrap; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem .5rem; margin: .5rem 0 0; padding: 0; list-style: none; font-size: .9rem; }
.legend li, .legend button { display: inline-flex; align-items: center; gap: .4rem; }
.legend li { min-height: 1.75rem; padding-right: .5rem; }
.legend button { min-height: 1.75rem; padding: 0 .5rem; border: 1px solid var(--line); border-radius: 4px; background: var(--page); color: inherit;
  font: inherit; text-align: left; cursor: pointer; }
.legend li:has(button) { padding: 0; }
.legend [aria-pressed="false"] { color: var(--faint); text-decoration: line-through; background: var(--panel); }
.legend [aria-pressed="false"] .swatch { opacity: .3; }
.swatch { flex: none; width: 1.4rem; }
.swatch.bar { width: .9rem; height: .9rem; }
figcaption { margin-top: .4rem; font-size: .9rem; color: var(--soft); }
summary { cursor: pointer; padding: .25rem 0; }
pre { overflow-x: auto; padding: .75rem; background: var(--panel); font-size: .85rem; }
@media print { .tip { display: none; } .table { overflow: visible; } figure, tr { break-inside: avoid; } }
`;
