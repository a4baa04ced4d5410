import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type Command, Option } from '@commander-js/extra-typings';
import { present } from '../errors.js';
import { counted } from '../terminal/format.js';
import { writeResult } from '../terminal/output.js';
import { clusterOption, defineAction } from './command.js';
import { addOut, checkOut } from './out.js';

const formats = ['html', 'md', 'latex', 'csv', 'svg'] as const;

/** `group-robust report RUN_DIR [RUN_DIR ...]`: training runs side by side. */
export function registerReport(program: Command): void {
  const command = program
    .command('report')
    .description('compare training runs in one self-contained HTML page, or as Markdown, LaTeX, CSV or SVG figures')
    .argument('<run...>', 'run folders of `group-robust train`')
    .addOption(
      new Option(
        '--format <format>',
        'html; md, latex: the tables; csv: a line per run, split and group; svg: a folder of figures',
      )
        .choices(formats)
        .default('html'),
    )
    .addOption(clusterOption());
  const complete = addOut(
    command,
    '--out <path>',
    'what to write, - for stdout (default, in the first run folder: report.html or the like for one run, comparison.html for several)',
  );
  defineAction(complete, async ({ format, cluster, ...flags }, output, folders) => {
    const { readRun } = await import('../report/runs.js');
    const { withClusters } = await import('../report/clustered-run.js');
    const { runsCsv, runsPage } = await import('../report/runs-page.js');
    const { renderPage } = await import('../report/html.js');
    const { renderLatex } = await import('../report/latex.js');
    const { renderMarkdown } = await import('../report/markdown.js');
    const { writeFigures } = await import('../report/figure-files.js');
    const { writeFileWhole, writeFolderWhole } = await import('../files/write.js');
    // A run's own report stays what it is.
    const name = folders.length === 1 ? 'report' : 'comparison';
    // Its own place in a run folder holds nothing but an earlier report of the same run, which gives way.
    const force = flags.force || flags.out === undefined;
    const out = checkOut(
      { ...flags, force },
      {
        byDefault: join(
          present(folders[0]),
          format === 'svg' ? `${name}-figures` : `${name}.${format === 'latex' ? 'tex' : format}`,
        ),
        inputs: folders.flatMap(runInputs),
        folder: format === 'svg' ? /\.svg$/ : undefined,
      },
    );
    const read = await Promise.all(folders.map(readRun));
    const runs = cluster === undefined ? read : await Promise.all(read.map((run) => withClusters(run, cluster)));
    const page = runsPage(runs);
    const made = { runs: runs.length, report: out.path };
    if (format === 'svg')
      await writeFolderWhole(
        out.path,
        (folder) =>
          writeFigures(
            folder,
            page.sections.flatMap(({ figures = [] }) => figures),
            (text) => output.log(`warning: ${text}`),
          ),
        out,
      );
    else {
      const text = await { html: renderPage, md: renderMarkdown, latex: renderLatex, csv: () => runsCsv(runs) }[format](
        page,
      );
      if (out.stdout && output.json) return { ...made, text };
      if (out.stdout) writeResult(text);
      else writeFileWhole(out.path, text, out);
    }
    if (!out.stdout) output.log(`${out.path}: ${counted(runs.length, 'run')}`);
    return made;
  });
}

/** All that a run folder holds but reports. */
function runInputs(folder: string): string[] {
  if (!existsSync(folder) || !statSync(folder).isDirectory()) return [];
  return readdirSync(folder)
    .filter((name) => !/^(report|comparison)[.-]/.test(name))
    .map((name) => join(folder, name));
}
