import { present } from '../../errors.js';
import { largest, smallest } from '../../numbers/extremes.js';
import { estimate } from '../../numbers/statistics.js';
import { formatNumber } from '../../terminal/format.js';
import { groupKey } from '../../train/metrics.js';
import { type Axis, errorEnds, type Point, type Series } from '../charts.js';
import type { Figure } from '../html.js';
import {
  byLoss,
  errorsOver,
  firstRun,
  type GroupMetric,
  groupMetricTitles,
  groupScore,
  has,
  type Method,
} from '../methods.js';
import { lossTitle } from '../palette.js';
import type { Run, ScoredSplit } from '../runs.js';

/** At most this many groups in a figure: more cannot be told apart. */
const DRAWN_GROUPS = 24;

/** At most this many points per curve: more cannot be seen and make the page heavy. */
const CURVE_POINTS = 200;

/** Those with the largest losses where there are too many, in the order of all. */
export function groupsToDraw(methods: readonly Method[], groups: readonly string[]): readonly string[] {
  if (groups.length <= DRAWN_GROUPS) return groups;
  const loss = (group: string) =>
    largest(methods.flatMap(({ runs }) => runs.map((run) => run.groups.get(group)?.loss ?? Number.NEGATIVE_INFINITY)));
  const ranked = groups.map((group) => ({ group, loss: loss(group) })).sort((a, b) => b.loss - a.loss);
  const drawn = new Set(ranked.slice(0, DRAWN_GROUPS).map(({ group }) => group));
  return groups.filter((group) => drawn.has(group));
}

export function groupBars(methods: readonly Method[], groups: readonly string[], split: ScoredSplit): Figure[] {
  const bars = (name: string, shown: readonly Method[], metric: GroupMetric, value: Axis): Figure => ({
    name,
    chart: {
      description: `Bar chart: ${value.title} on the ${split} split, by group and method`,
      value,
      colours: new Map(shown.map((method) => [method.title, method.colour])),
      bars: groups.flatMap((group) =>
        shown.flatMap((method) => {
          const score = groupScore(method.runs, group, metric);
          if (score === null) return [];
          return [{ category: group, series: method.title, value: score.mean, ...errorEnds(score) }];
        }),
      ),
    },
    caption: `${value.title} of each group on the ${split} split${errorsOver(shown) === undefined ? '' : `; error bars: ± one standard error over ${errorsOver(shown)}`}.`,
  });
  const accuracyBars = (name: string, metric: GroupMetric) => {
    const shown = methods.filter(({ runs }) => runs.some((run) => has(run, metric)));
    return shown.length > 0 ? [bars(name, shown, metric, { title: groupMetricTitles[metric], domain: [0, 1] })] : [];
  };
  return [
    ...byLoss(methods).map((members, i) =>
      bars(numbered('group-loss', i), members, 'loss', { title: lossCaption(present(members[0])) }),
    ),
    ...accuracyBars('group-accuracy', 'rewards/accuracies'),
    ...accuracyBars('group-log-probability-accuracy', 'logps/accuracies'),
  ];
}

/** Names of figures: `group-loss`, `group-loss-2`. */
function numbered(name: string, index: number): string {
  return index === 0 ? name : `${name}-${index + 1}`;
}

/** Curves over training: of the validation split where all runs have one, else of the batches trained on. */
export function curves(
  methods: readonly Method[],
  groups: readonly string[],
  groupCount: number,
  colours: ReadonlyMap<string, string>,
): Figure[] {
  const watched = methods.every(({ runs }) => runs.every((run) => run.scores.validation));
  const [prefix, split] = watched ? (['eval_', 'validation'] as const) : (['', 'batch'] as const);
  const byMethods = (members: readonly Method[], metric: string) =>
    members.map(({ title, colour, runs }) => ({ name: title, colour, points: curve(runs, metric) }));
  const byGroups = ({ runs }: Method, metric: (group: string) => string) =>
    groups.map((group, g) => ({
      name: group,
      colour: present(colours.get(group)),
      // Colours repeat after the eighth group.
      dashed: g >= 8,
      points: curve(runs, metric(group)),
    }));
  const figures: (Figure | null)[] = [];
  for (const [i, members] of byLoss(methods).entries()) {
    const title = lossCaption(present(members[0]));
    figures.push(
      curveFigure(
        numbered('worst-group-loss', i),
        `Worst-group ${split} loss over training: ${members.map((method) => method.title).join(', ')}`,
        withScale({ title: `Worst-group ${title}` }, byMethods(members, `${prefix}worst/loss`)),
        byMethods(members, `${prefix}worst/loss`),
      ),
    );
    const drawn = members.map((method) => ({
      method,
      series: byGroups(method, (group) => groupKey(group, 'loss', prefix)),
    }));
    // One range for all, so that the figures can be compared by eye.
    const together = drawn.flatMap(({ series }) => series);
    const all = withScale({ title }, together);
    const domain = extent(
      together.flatMap(({ points }) => points),
      all.log,
    );
    for (const { method, series } of drawn)
      figures.push(
        curveFigure(
          `loss-by-group-${methods.indexOf(method) + 1}`,
          `${method.title}: ${split} loss of each group over training`,
          { ...all, title: `${method.title}: ${all.title}`, domain },
          series,
        ),
      );
  }
  figures.push(
    curveFigure(
      'worst-group-accuracy',
      `Worst-group reward accuracy (${split}) over training`,
      { title: 'Worst-group reward accuracy' },
      byMethods(methods, `${prefix}worst/accuracy`),
    ),
    curveFigure(
      'log-probability-accuracy',
      `Log-probability accuracy (${split}, mean over pairs) over training: how often the chosen response is the likelier one`,
      { title: 'Log-probability accuracy' },
      byMethods(methods, `${prefix}logps/accuracies`),
    ),
    curveFigure(
      'worst-group-log-probability-accuracy',
      `Worst-group log-probability accuracy (${split}) over training`,
      { title: 'Worst-group log-probability accuracy' },
      byMethods(methods, `${prefix}worst/logps/accuracies`),
    ),
  );
  const drawn = methods.map((method) => ({
    method,
    series: byGroups(method, (group) => groupKey(group, 'logps/accuracies', prefix)),
  }));
  const domain = extent(drawn.flatMap(({ series }) => series.flatMap(({ points }) => points)));
  for (const [m, { method, series }] of drawn.entries())
    figures.push(
      curveFigure(
        `log-probability-accuracy-by-group-${m + 1}`,
        `${method.title}: log-probability accuracy (${split}) of each group over training`,
        { title: `${method.title}: log-probability accuracy`, domain },
        series,
      ),
    );
  for (const method of methods.filter(({ robust }) => robust))
    figures.push(
      curveFigure(
        `alpha-${methods.indexOf(method) + 1}`,
        `${method.title}: group weights α over training`,
        { title: `${method.title}: group weight α`, zero: true },
        byGroups(method, (group) => groupKey(group, 'alpha')),
        [{ name: `Uniform, 1/${groupCount}`, y: 1 / groupCount }],
      ),
    );
  figures.push(
    curveFigure(
      'gradient-norm',
      'Gradient norm before clipping over training',
      withScale({ title: 'Gradient norm' }, byMethods(methods, 'grad_norm')),
      byMethods(methods, 'grad_norm'),
    ),
  );
  return figures.filter((figure) => figure !== null);
}

/** A figure of curves over the pairs seen; null where no run has logged any of them. */
function curveFigure(
  name: string,
  caption: string,
  y: Axis,
  series: readonly Series[],
  references?: readonly { name: string; y: number }[],
): Figure | null {
  const shown = series.filter(({ points }) => points.length > 0);
  if (shown.length === 0) return null;
  const banded = shown.some(({ points }) => points.some((point) => point.low !== undefined));
  return {
    name,
    chart: { description: `Line chart. ${caption}`, x: { title: 'Training pairs seen' }, y, series: shown, references },
    caption: `${caption}${banded ? '; bands: ± one standard error over seeds' : ''}.`,
  };
}

/**
 * Mean over the runs of one logged metric at every step, by the pairs seen up to there, thinned evenly to what can be seen, both ends kept. A run that ended
 * early keeps its last value, as in the paper's figures: otherwise the mean would jump where it leaves.
 */
function curve(runs: readonly Run[], metric: string): Point[] {
  const bySteps = new Map<number, { pairs: number[]; values: number[] }>();
  const logged = runs
    .map(({ metrics, trainPairs }) => ({
      trainPairs,
      lines: metrics.filter((line) => typeof line[metric] === 'number' && !isTie(line, metric)),
    }))
    .filter(({ lines }) => lines.length > 0);
  for (const { lines, trainPairs } of logged)
    for (const line of lines) {
      const at = bySteps.get(line.step) ?? { pairs: [], values: [] };
      bySteps.set(line.step, at);
      at.pairs.push(Number(line.epoch) * trainPairs);
      at.values.push(Number(line[metric]));
    }
  for (const { lines } of logged) {
    const last = present(lines.at(-1));
    for (const [step, { values }] of bySteps) if (step > last.step) values.push(Number(last[metric]));
  }
  const points = [...bySteps]
    .sort(([a], [b]) => a - b)
    .map(([, { pairs, values }]) => {
      const value = estimate(values);
      return { x: Math.round(estimate(pairs).mean), y: value.mean, ...errorEnds(value) };
    });
  const stride = Math.ceil(points.length / CURVE_POINTS);
  return points.filter((_, i) => i % stride === 0 || i === points.length - 1);
}

/**
 * Whether an accuracy says nothing: before the first step policy and reference are one model, every pair is a tie, and a tie counts as
 * wrong. The curve begins with the next evaluation, not with a jump.
 */
function isTie(line: Run['metrics'][number], metric: string): boolean {
  return line.step === 0 && /(worst\/accuracy|rewards\/accuracies)$/.test(metric) && line['eval_rewards/margins'] === 0;
}

/** "IPO loss (β = 0.1)", "SimPO loss / nats (β = 2, γ = 0.5)" */
function lossCaption(method: Method): string {
  const { loss, beta, gamma = 0 } = firstRun(method).objective;
  const unit = ['dpo', 'rdpo', 'simpo', 'orpo', 'reward', 'sft'].includes(loss) ? ' / nats' : '';
  const scale = [
    ...(beta === undefined ? [] : [`β = ${formatNumber(beta)}`]),
    ...(gamma === 0 ? [] : [`γ = ${formatNumber(gamma)}`]),
  ].join(', ');
  return `${lossTitle(loss)} loss${unit}${scale === '' ? '' : ` (${scale})`}`;
}

/** How far above nine tenths of a figure's points the highest may lie before it flattens all else. */
const spikeRatio = 5;

/** The axis, logarithmic where a spike would leave nothing to see of the curves, and all values are above zero. */
function withScale(axis: Axis, series: readonly Series[]): Axis {
  const values = series.flatMap(({ points }) => points.map(({ y }) => y)).sort((a, b) => a - b);
  const [lowest = 0, most = 0, highest = 0] = [0, 0.9, 1].map((part) => values[Math.floor(part * (values.length - 1))]);
  return lowest > 0 && highest > spikeRatio * most ? { ...axis, title: `${axis.title}, logarithmic`, log: true } : axis;
}

/** Smallest and largest value of points and bands, with a little room. */
function extent(points: readonly Point[], log = false): [number, number] | undefined {
  if (points.length === 0) return undefined;
  const high = largest(points.map((point) => point.high ?? point.y));
  // A band may reach below zero where the curve does not.
  if (log) return [smallest(points.map(({ y }) => y)) / 1.2, high * 1.2];
  const low = smallest(points.map((point) => point.low ?? point.y));
  const room = 0.04 * (high - low || Math.abs(high) || 1);
  return [low - room, high + room];
}
