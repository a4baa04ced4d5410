import { join } from 'node:path';
import { orderFaults } from '../bandit/comparison.js';
import type { FigureOutcome } from '../bandit/paper-figures.js';
import { banditCsv, comparisonCsv, historyCsv } from '../bandit/report.js';
import { writeFileWhole } from '../files/write.js';
import { drawChart } from '../report/charts.js';
import type { Figure, Section } from '../report/html.js';
import { banditBars, banditCurves, banditSection } from '../report/sections/bandit.js';

/** `figure-02`: the folder of a figure. */
export function figureFolder(number: number): string {
  return `figure-${String(number).padStart(2, '0')}`;
}

/** What a reader is told of an outcome first: what the paper says, whether values are on record, which curves coincide. */
export function figureNotes({ figure, rows }: FigureOutcome): string[] {
  const recorded = rows.some(({ expected }) => expected !== null);
  return [
    `The paper: ${figure.claim}`,
    ...(recorded ? [] : ['No expected values are on record for this figure.']),
    ...(figure.setting.data === 'balanced'
      ? ['With balanced data IS is the plain method, and their curves coincide.']
      : []),
  ];
}

/** All figures of one outcome: curves first, as in the paper. */
function charts(outcome: FigureOutcome): Figure[] {
  return [...banditCurves(outcome), ...banditBars(outcome.rows)];
}

export function figureSection(outcome: FigureOutcome): Section {
  const { figure, results, rows } = outcome;
  return banditSection(rows, {
    title: `Figure ${figure.number}: ${figure.title}`,
    text: figureNotes(outcome),
    seeds: results.length,
    ...(figure.number === 2 && { orderFaults: orderFaults(rows) }),
    figures: charts(outcome),
  });
}

/** Writes the SVG figures and all numbers as CSV into `folder`. */
export async function writeFigure(outcome: FigureOutcome, folder: string): Promise<void> {
  const { figure, results, rows } = outcome;
  const labels = figure.arms.map(({ label }) => label);
  for (const { name, chart } of charts(outcome)) writeFileWhole(join(folder, `${name}.svg`), await drawChart(chart));
  writeFileWhole(join(folder, 'comparison.csv'), comparisonCsv(rows));
  writeFileWhole(join(folder, 'final.csv'), banditCsv(labels, results));
  writeFileWhole(join(folder, 'history.csv'), historyCsv(labels, results));
}
