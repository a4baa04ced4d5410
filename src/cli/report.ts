import { join } from 'node:path';
import { type Command, Option } from 'commander';
import { InputError } from '../errors.js';
import { defineAction } from './command.js';

const formats = ['html', 'md', 'csv', 'svg'] as const;

interface Options {
  format: (typeof formats)[number];
  out?: string;
}

/** `group-robust report RUN_DIR [RUN_DIR ...]`: training runs side by side. */
export function registerReport(program: Command): void {
  const command = program
    .command('report')
    .description('compare training runs in one self-contained HTML page, or as Markdown, CSV or SVG figures')
    .argument('<run...>', 'run folders of `group-robust train`')
    .addOption(
      new Option(
        '--format <format>',
        'html; md: the tables; csv: a line per run, split and group; svg: a folder of figures',
      )
        .choices([...formats])
        .default('html'),
    )
    .option(
      '--out <path>',
      'what to write (default, in the first run folder: report.html and so on of one run, comparison.html of several)',
    );
  defineAction<Options>(command, async ({ format, out }, output, ...folders) => {
    const { readRun } = await import('../report/runs.js');
    const { runsCsv, runsPage } = await import('../report/runs-page.js');
    const { renderPage } = await import('../report/html.js');
    const { renderMarkdown } = await import('../report/markdown.js');
    const { drawChart } = await import('../report/charts.js');
    const { writeFileWhole } = await import('../files.js');
    const runs = await Promise.all(folders.map(readRun));
    const page = runsPage(runs);
    // A run's own report stays what it is.
    const name = runs.length === 1 ? 'report' : 'comparison';
    const path = out ?? join(folders[0], format === 'svg' ? `${name}-figures` : `${name}.${format}`);
    if (format === 'svg')
      for (const { name: figure, chart } of page.sections.flatMap(({ figures = [] }) => figures))
        try {
          writeFileWhole(join(path, `${figure}.svg`), await drawChart(chart));
        } catch (error) {
          if (error instanceof InputError) throw error;
          output.log(`warning: ${figure}.svg could not be drawn: ${(error as Error).message}`);
        }
    else {
      const text = { html: renderPage, md: renderMarkdown, csv: () => runsCsv(runs) }[format];
      writeFileWhole(path, await text(page));
    }
    output.log(`${path}: ${runs.length} ${runs.length === 1 ? 'run' : 'runs'}`);
    return { report: path, runs: runs.length };
  });
}
