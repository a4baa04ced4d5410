import type { ParallelOptions } from '../processes/parallel.js';
import { type ComparisonRow, compareFigure } from './comparison.js';
import { expectedChi, expectedMethods } from './expected.js';
import type { FeatureMapName } from './features.js';
import type { BanditFigure } from './figure.js';
import { methodNames, methodSettings } from './methods.js';
import { runSeeds, type SeedResult } from './run.js';

/** What came out of one figure's experiment. */
export interface FigureOutcome {
  figure: BanditFigure;
  /** One per seed, with history; runs in the order of the arms. */
  results: readonly SeedResult[];
  /** Against the expected values, where those are on record. */
  rows: readonly ComparisonRow[];
}

const scenarios = [
  { name: '(i) even, imbalanced', responses: 'even', data: 'imbalanced' },
  { name: '(ii) uneven, balanced', responses: 'uneven', data: 'balanced' },
  { name: '(iii) uneven, imbalanced', responses: 'uneven', data: 'imbalanced' },
] as const;

/** What the paper says of each feature map (§5.1, Appendix D). */
const claims: Record<FeatureMapName, string> = {
  swapped: 'Group robust below importance sampling below plain, in worst validation loss and in reward error.',
  same: 'GR-IPO over-fits: its reward error is above that of IPO; GR-DPO is best overall.',
  flipped: 'The group robust methods have the lowest worst validation loss, GR-DPO the lowest reward error.',
};

/** The six methods in one of the nine settings. */
function methodFigure(number: number, features: FeatureMapName, scenarioIndex: number): BanditFigure {
  const { name: scenario, responses, data } = scenarios[scenarioIndex];
  return {
    number,
    title: `${features} features, ${scenario}`,
    scenario,
    setting: { features, responses, data },
    arms: methodNames.map((method) => ({
      label: method,
      method,
      settings: methodSettings(method),
      expected: expectedMethods[number]?.[method] ?? {},
    })),
    quantities: ['max validation loss', 'relative max reward error', 'alpha of group 0'],
    claim: claims[features],
  };
}

/** GR-IPO at every χ, in the setting of the main result. */
function chiFigure(number: number): BanditFigure {
  const { name, responses, data } = scenarios[2];
  const scenario = `GR-IPO by χ, ${name}`;
  return {
    number,
    title: `swapped features, ${scenario}`,
    scenario,
    setting: { features: 'swapped', responses, data },
    arms: [...expectedChi].map(([chi, expected]) => ({
      label: `χ = ${chi}`,
      method: 'gr-ipo',
      settings: methodSettings('gr-ipo', { chi }),
      expected,
    })),
    quantities: ['max validation loss', 'mean validation loss', 'alpha of group 0'],
    claim: 'As χ goes from 0 (IS-IPO) to 1 (GR-IPO), the worst group’s loss falls and the average rises.',
  };
}

/**
 * Every synthetic figure of the paper. Which of Figures 7 to 12 shows which setting is not on record here: they are taken in
 * the order of the features and scenarios.
 */
export const banditFigures: readonly BanditFigure[] = [
  methodFigure(2, 'swapped', 2),
  methodFigure(4, 'swapped', 0),
  methodFigure(5, 'swapped', 1),
  chiFigure(6),
  ...scenarios.map((_, s) => methodFigure(7 + s, 'same', s)),
  ...scenarios.map((_, s) => methodFigure(10 + s, 'flipped', s)),
];

/** The figures of these numbers. @throws RangeError where the paper has no such synthetic figure. */
export function figuresNumbered(...numbers: readonly number[]): BanditFigure[] {
  return numbers.map((number) => {
    const figure = banditFigures.find((candidate) => candidate.number === number);
    if (!figure) throw new RangeError(`no synthetic figure ${number}`);
    return figure;
  });
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
