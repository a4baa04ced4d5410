import { present } from '../../errors.js';
import type { ComparedHorizon } from '../../theory/comparison.js';
import { algorithmTitles, type ComparisonReport } from '../../theory/comparison-report.js';
import type { Interval } from '../../theory/rate-fit.js';
import type { Figure } from '../html.js';
import { groupColours } from '../palette.js';

/** Duality gap, error of the average and error of the last iterate, against samples. */
export function comparisonFigures({ algorithms }: Pick<ComparisonReport, 'algorithms'>): Figure[] {
  const titles = algorithms.map(({ algorithm }) => algorithmTitles[algorithm]);
  const colours = groupColours(titles);
  const figure = (
    name: string,
    what: string,
    unit: string,
    value: (horizon: ComparedHorizon) => readonly [mean: number, interval: Interval],
  ): Figure => ({
    name,
    caption: `Mean ${what}, with its 95 % interval over runs; both axes logarithmic.`,
    chart: {
      description: `Log-log chart of the ${what} over the number of samples: ${titles.join(', ')}`,
      x: { title: 'Samples', log: true },
      y: { title: unit, log: true },
      series: algorithms.map(({ algorithm, horizons }) => ({
        name: algorithmTitles[algorithm],
        colour: present(colours.get(algorithmTitles[algorithm])),
        points: horizons.map((horizon) => {
          const [y, [low, high]] = value(horizon);
          return { x: horizon.samples, y, low, high };
        }),
      })),
    },
  });
  const error = 'Worst-group loss − minimax value';
  return [
    figure('duality-gap', 'duality gap of the averages', 'Duality gap of the averages', (horizon) => [
      horizon.duality_gap,
      horizon.duality_gap_interval,
    ]),
    figure('error', 'error of the averaged iterate', error, (horizon) => [horizon.error, horizon.error_interval]),
    figure('last-error', 'error of the last iterate', error, (horizon) => [
      horizon.last_error,
      horizon.last_error_interval,
    ]),
  ];
}
