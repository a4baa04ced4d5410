import { escapeXml } from './charts.js';

/** One HTML file that needs nothing else: styles and figures are inside, nothing is fetched, no script runs. */

export interface Figure {
  /** From charts.ts, with its own description. */
  svg: string;
  caption: string;
}

/** Text, or the outcome of a check with its text (default: "holds" or "fails"), shown by a sign besides its colour. */
export type Cell = string | { pass: boolean; text?: string };

export interface Table {
  caption: string;
  /** `numeric` columns are right-aligned. */
  columns: readonly { title: string; numeric?: boolean }[];
  /** The first cell heads its row. */
  rows: readonly (readonly Cell[])[];
}

/** One sentence that a reader should take away, and whether what it checks holds. */
export interface Finding {
  text: string;
  pass?: boolean;
}

export interface Section {
  title: string;
  /** Paragraphs. */
  text?: readonly string[];
  /** Repeated at the top of the page. */
  findings?: readonly Finding[];
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

/** The whole page. Everything but `svg` is escaped, so names from anyone's data are safe in it. */
export function renderPage(page: Page): string {
  const findings = page.sections.flatMap((section) => section.findings ?? []);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>${escapeXml(page.title)}</title>
<style>${STYLE}</style>
</head>
<body>
<header>
<h1>${escapeXml(page.title)}</h1>
<p>${escapeXml(page.summary)}</p>
${findings.length > 0 ? `<ul class="findings">\n${findings.map(renderFinding).join('\n')}\n</ul>` : ''}
</header>
<main>
${page.sections.map(renderSection).join('\n')}
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
</body>
</html>
`;
}

function renderSection({ title, text = [], tables = [], figures = [] }: Section): string {
  return `<section>
<h2>${escapeXml(title)}</h2>
${text.map((paragraph) => `<p>${escapeXml(paragraph)}</p>`).join('\n')}
${tables.map(renderTable).join('\n')}
${figures.length > 0 ? `<div class="figures">\n${figures.map(renderFigure).join('\n')}\n</div>` : ''}
</section>`;
}

function renderFinding({ text, pass }: Finding): string {
  return `<li>${pass === undefined ? '' : `${renderCell({ pass })} `}${escapeXml(text)}</li>`;
}

function renderTable({ caption, columns, rows }: Table): string {
  const numeric = (index: number) => (columns[index].numeric ? ' class="number"' : '');
  const head = columns.map(({ title }, i) => `<th scope="col"${numeric(i)}>${escapeXml(title)}</th>`).join('');
  const body = rows.map((cells) => {
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

function renderCell(cell: Cell): string {
  if (typeof cell === 'string') return escapeXml(cell);
  const word = cell.pass ? 'holds' : 'fails';
  const sign = cell.pass ? '✓' : '✗';
  if (cell.text === undefined) return `<span class="${word}">${sign} ${word}</span>`;
  return `${escapeXml(cell.text)} <span class="${word}" role="img" aria-label="${word}">${sign}</span>`;
}

function renderFigure({ svg, caption }: Figure): string {
  // Inside HTML the namespaces are implied; without them the page holds no address at all.
  const inline = svg.replace(/ xmlns(:xlink)?="[^"]*"/g, '');
  return `<figure>${inline}<figcaption>${escapeXml(caption)}</figcaption></figure>`;
}

const STYLE = `
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 72rem; background: #fff; color: #1a1a1a;
  font: 1rem/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; overflow-wrap: break-word; }
h1 { margin: 0 0 .5rem; font-size: 1.75rem; line-height: 1.2; }
h2 { margin: 2.5rem 0 .5rem; padding-top: 1rem; border-top: 1px solid #d0d0d0; font-size: 1.3rem; line-height: 1.25; }
p { max-width: 46rem; margin: .5rem 0; }
.findings { max-width: 46rem; margin: 1rem 0; padding: .75rem 1rem .75rem 2rem; background: #f3f6f9; border-left: 4px solid #0072b2; }
.findings li { margin: .25rem 0; }
.holds, .fails { font-weight: 600; white-space: nowrap; }
.holds { color: #00664b; }
.fails { color: #a33c00; }
p.caption { margin: 1.25rem 0 .25rem; font-size: .95rem; font-weight: 600; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .3rem .5rem; border-bottom: 1px solid #e4e4e4; text-align: left; vertical-align: top; }
thead th { border-bottom: 2px solid #888; vertical-align: bottom; }
th:first-child { padding-left: 0; }
tbody th { font-weight: 500; min-width: 7.5rem; }
td:not(.number) { min-width: 4.5rem; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
td.number { white-space: nowrap; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); gap: 1.5rem; margin: 1rem 0; }
figure { margin: 0; min-width: 0; max-width: 36rem; }
figure svg { display: block; width: 100%; height: auto; }
figcaption { margin-top: .4rem; font-size: .9rem; color: #444; }
summary { cursor: pointer; padding: .25rem 0; }
pre { overflow-x: auto; padding: .75rem; background: #f6f6f6; font-size: .85rem; }
@media print { .table { overflow: visible; } figure, tr { break-inside: avoid; } }
`;
