import { present } from '../../errors.js';
import type { ComparedHorizon } from '../../theory/comparison.js';
import { algorithmTitles, type ComparisonReport } from '../../theory/comparison-report.js';
import type { Interval } from '../../theory/rate-fit.js';
import type { Axis, Series } from '../charts.js';
import type { Figure } from '../html.js';
import { groupColours } from '../palette.js';

const x: Axis = { title: 'Samples', log: true };

/** Duality gap, and error of average and last iterate, against samples. */
export function comparisonFigures({ algorithms }: Pick<ComparisonReport, 'algorithms'>): Figure[] {
  const titles = algorithms.map(({ algorithm }) => algorithmTitles[algorithm]);
  const colours = groupColours(titles);
  const curves = (
    value: (horizon: ComparedHorizon) => readonly [mean: number, interval: Interval],
    suffix = '',
    dashed = false,
  ): Series[] =>
    algorithms.map(({ algorithm, horizons }) => ({
      name: `${algorithmTitles[algorithm]}${suffix}`,
      colour: present(colours.get(algorithmTitles[algorithm])),
      dashed,
      points: horizons.map((horizon) => {
        const [y, [low, high]] = value(horizon);
        return { x: horizon.samples, y, low, high };
      }),
    }));
  const names = titles.join(', ');
  return [
    {
      name: 'duality-gap',
      caption: 'Mean duality gap of the averages with its 95 % interval over runs; both axes logarithmic.',
      chart: {
        description: `Log-log chart of the duality gap of the averages over the number of samples: ${names}`,
        x,
        y: { title: 'Duality gap of the averages', log: true },
        series: curves((horizon) => [horizon.duality_gap, horizon.duality_gap_interval]),
      },
    },
    {
      name: 'error',
      caption:
        'Mean error of the averaged iterate, and of the last one (dashed), with 95 % intervals over runs; both axes logarithmic.',
      chart: {
        description: `Log-log chart of the errors of average and last iterate over the number of samples: ${names}`,
        x,
        y: { title: 'Worst-group loss − minimax value', log: true },
        series: [
          ...curves((horizon) => [horizon.error, horizon.error_interval]),
          ...curves((horizon) => [horizon.last_error, horizon.last_error_interval], ', last', true),
        ],
      },
    },
  ];
}
