import { join } from 'node:path';
import { expectedSource } from '../bandit/expected.js';
import { banditCsv, comparisonCsv, historyCsv } from '../bandit/report.js';
import type { FigureOutcome } from '../bandit/run-figures.js';
import { writeFileWhole } from '../files/write.js';
import { drawChart } from '../report/charts.js';
import type { Figure, Section } from '../report/html.js';
import { banditBars, banditCurves, banditSection, claimChecks } from '../report/sections/bandit.js';

/** `figure-02`: the folder of a figure. */
export function figureFolder(number: number): string {
  return `figure-${String(number).padStart(2, '0')}`;
}

/** What a reader should know of an outcome first: where expected values come from, which curves coincide. */
export function figureNotes({ figure, rows }: FigureOutcome): string[] {
  return [
    ...(rows.some(({ expected }) => expected !== null) ? [expectedSource] : []),
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
    claims: claimChecks(outcome),
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
