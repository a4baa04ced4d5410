import { join } from 'node:path';
import type { Command } from 'commander';
import { defineAction } from './command.js';

interface Options {
  out?: string;
}

/** `group-robust report RUN_DIR [RUN_DIR ...]`: one HTML page that compares training runs. */
export function registerReport(program: Command): void {
  const command = program
    .command('report')
    .description('compare training runs in one self-contained HTML page')
    .argument('<run...>', 'run folders of `group-robust train`')
    .option('--out <file>', 'the page to write (default: report.html in the first run folder)');
  defineAction<Options>(command, async ({ out }, output, ...folders) => {
    const { readRun } = await import('../report/runs.js');
    const { runsPage } = await import('../report/runs-page.js');
    const { writeFileWhole } = await import('../files.js');
    const runs = await Promise.all(folders.map(readRun));
    const path = out ?? join(folders[0], 'report.html');
    writeFileWhole(path, await runsPage(runs));
    output.log(`${path}: ${runs.length} ${runs.length === 1 ? 'run' : 'runs'}`);
    return { report: path, runs: runs.length };
  });
}
