import type { ParallelOptions } from '../processes/parallel.js';
import { type ComparisonRow, compareFigure } from './comparison.js';
import type { BanditFigure } from './paper-figures.js';
import { runSeeds, type SeedResult } from './run.js';

/** What came out of one figure's experiment. */
export interface FigureOutcome {
  figure: BanditFigure;
  /** One per seed, with history; runs in the order of the arms. */
  results: readonly SeedResult[];
  /** Against the expected values, where those are on record. */
  rows: readonly ComparisonRow[];
}

/** Points of a history: one per 100 iterations of the DPO family, as the paper logs. */
const historyPoints = 100;

/** Runs the figures' experiments across cores, all in one pool; the outcomes do not depend on the number of workers. */
export async function runFigures(
  figures: readonly BanditFigure[],
  seeds: readonly number[],
  options?: ParallelOptions,
): Promise<FigureOutcome[]> {
  const jobs = figures.flatMap(({ setting, arms }) => {
    const methods = arms.map(({ settings }) => settings);
    return seeds.map((seed) => ({ setting, seed, methods, historyPoints }));
  });
  const all = await runSeeds(jobs, options);
  return figures.map((figure, f) => {
    const results = all.slice(f * seeds.length, (f + 1) * seeds.length);
    return { figure, results, rows: compareFigure(figure, results) };
  });
}
