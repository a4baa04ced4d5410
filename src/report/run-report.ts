import { join } from 'node:path';
import { writeFileWhole } from '../files/write.js';
import { runFiles } from '../train/run-folder.js';

/** Writes report.html into the folder of one run. What draws it is loaded only then. */
export async function writeRunReport(folder: string): Promise<void> {
  const { renderPage } = await import('./html.js');
  const { readRun } = await import('./runs.js');
  const { runsPage } = await import('./runs-page.js');
  writeFileWhole(join(folder, runFiles.report), await renderPage(runsPage([await readRun(folder)])));
}
