import { join } from 'node:path';
import { InputError, messageOf } from '../errors.js';
import { writeFileWhole } from '../files/write.js';
import { drawChart } from './charts.js';
import type { Figure } from './html.js';

/** Writes each figure as an SVG file into `folder`; of one that cannot be drawn `warn` is told. */
export async function writeFigures(
  folder: string,
  figures: readonly Figure[],
  warn: (text: string) => void,
): Promise<void> {
  for (const { name, chart } of figures)
    try {
      writeFileWhole(join(folder, `${name}.svg`), await drawChart(chart));
    } catch (error) {
      if (error instanceof InputError) throw error;
      warn(`${name}.svg could not be drawn: ${messageOf(error)}`);
    }
}
