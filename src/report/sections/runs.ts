import { InputError } from '../../errors.js';
import { estimate, pairedDifference } from '../../statistics.js';
import { type Axis, barChart, errorEnds, lineChart, type Point } from '../charts.js';
import { formatCount, formatEstimate, formatNumber } from '../format.js';
import { groupBy } from '../group-by.js';
import type { Figure, Finding, Section, Table } from '../html.js';
import { groupColours, methodColours, methodTitle, orderMethods } from '../palette.js';
import type { Run } from '../runs.js';

/** All runs of one method, in the order of their seeds. */
interface Method {
  name: string;
  title: string;
  colour: string;
  runs: readonly Run[];
}

/** One number per run about the final test; null where the run has no such metric. */
interface Score {
  title: string;
  of(run: Run): number | null;
}

const losses = (run: Run) => Object.values(run.groups).map((group) => group.loss);
const accuracies = (run: Run) => Object.values(run.groups).flatMap((group) => group['rewards/accuracies'] ?? []);
const mean = (values: readonly number[]) => estimate(values).mean;

const worstLoss: Score = { title: 'Worst-group loss', of: (run) => Math.max(...losses(run)) };
const spread: Score = {
  title: 'Spread (worst − best group)',
  of: (run) => Math.max(...losses(run)) - Math.min(...losses(run)),
};
const groupMean: Score = { title: 'Mean over groups', of: (run) => mean(losses(run)) };
const pairMean: Score = {
  title: 'Mean over pairs',
  of(run) {
    const groups = Object.values(run.groups);
    const pairs = groups.reduce((sum, group) => sum + group.count, 0);
    return groups.reduce((sum, group) => sum + (group.count * group.loss) / pairs, 0);
  },
};
const worstAccuracy: Score = {
  title: 'Worst-group reward accuracy',
  of: (run) => (accuracies(run).length > 0 ? Math.min(...accuracies(run)) : null),
};
const scores = [worstLoss, spread, groupMean, pairMean, worstAccuracy];

/** At most this many points per curve: more cannot be seen and make the page heavy. */
const CURVE_POINTS = 200;

/**
 * Training runs side by side: final test scores per method with standard errors over seeds, paired differences between
 * methods, scores of every group, and the curves of worst group, groups and α over steps.
 *
 * @param runs one per method and seed, in any order
 * @throws InputError when two runs have the same method and seed
 */
export async function runsSection(runs: readonly Run[]): Promise<Section> {
  const methods = byMethod(runs);
  const groups = [...new Set(runs.flatMap((run) => Object.keys(run.groups)))];
  const colours = groupColours(groups);
  const pairs = comparablePairs(methods);
  const seeds = new Set(runs.map((run) => run.seed));
  return {
    title: 'Training runs',
    text: [
      `${methods.map((method) => method.title).join(', ')} on ${formatCount(groups.length)} groups, ${formatCount(seeds.size)} ${seeds.size === 1 ? 'seed' : 'seeds'}. Scores are of the final test split; a smaller loss and a larger accuracy are better. With the same seed, methods see the same batches, so differences are taken seed by seed. Losses are compared only between methods of the same loss and β.`,
    ],
    findings: pairs.filter(({ first }) => first.name.startsWith('gr-')).map(finding),
    tables: [
      headline(methods),
      ...(pairs.length > 0 ? [differences(pairs)] : []),
      groupTable(methods, groups, 'loss'),
      groupTable(methods, groups, 'rewards/accuracies'),
    ],
    figures: (await Promise.all([groupBars(methods, groups), curves(methods, groups, colours)])).flat(),
  };
}

function byMethod(runs: readonly Run[]): Method[] {
  const grouped = groupBy(runs, (run) => run.method);
  const names = orderMethods(grouped.keys());
  const colours = methodColours(names);
  for (const members of groupBy(runs, (run) => `${run.method} ${run.seed}`).values())
    if (members.length > 1)
      throw new InputError(`has the method and seed of ${members[0].folder}`, {
        at: { file: members[1].folder, field: 'seed' },
        fix: 'report runs of different settings separately',
      });
  return names.map((name) => ({
    name,
    title: methodTitle(name),
    colour: colours.get(name)!,
    runs: grouped.get(name)!.sort((a, b) => a.seed - b.seed),
  }));
}

/** What two runs must share for their losses to be in one unit. */
function lossKey({ objective: { loss, beta, labelSmoothing = 0, reduction = 'sum' } }: Run): string {
  return JSON.stringify([loss, beta, labelSmoothing, reduction]);
}

/** The later method in the order of reports minus the earlier: what going from plain to robust changes. */
interface Pair {
  first: Method;
  second: Method;
}

function comparablePairs(methods: readonly Method[]): Pair[] {
  return methods.flatMap((first, i) =>
    methods
      .slice(0, i)
      .filter((second) => lossKey(first.runs[0]) === lossKey(second.runs[0]))
      .map((second) => ({ first, second })),
  );
}

/** Score by seed, for the seeds at which both methods trained on the same data. */
function difference({ first, second }: Pair, score: Score) {
  const hashes = new Map(second.runs.map((run) => [run.seed, run.dataHash]));
  const bySeed = (method: Method) =>
    new Map(
      method.runs.flatMap((run): [number, number][] => {
        const value = score.of(run);
        return value === null ? [] : [[run.seed, value]];
      }),
    );
  const values = bySeed(first);
  for (const run of first.runs) if (hashes.get(run.seed) !== run.dataHash) values.delete(run.seed);
  return pairedDifference(values, bySeed(second));
}

/** Whether a robust method lowers the worst group's loss by more than two standard errors. */
function finding(pair: Pair): Finding {
  const [robust, other] = [pair.first.title, pair.second.title];
  const result = difference(pair, worstLoss);
  if (!result) return { text: `${robust} and ${other} have no seed on the same data in common: no paired comparison.` };
  const { pairs, standard_error: error } = result;
  const change = `${formatEstimate(result)}, paired over ${formatCount(pairs)} ${pairs === 1 ? 'seed' : 'seeds'}`;
  if (error === null)
    return { text: `Worst-group loss of ${robust} less that of ${other}: ${change}, which says nothing about chance.` };
  return {
    text: `The worst-group loss of ${robust} is below that of ${other} by more than two standard errors: difference ${change}.`,
    pass: result.mean < -2 * error,
  };
}

function headline(methods: readonly Method[]): Table {
  return {
    caption: 'Final test, mean ± standard error over seeds',
    columns: [
      { title: 'Method' },
      { title: 'Seeds', numeric: true },
      ...scores.map(({ title }) => ({ title, numeric: true })),
      { title: 'Worst group (seeds)' },
    ],
    rows: methods.map(({ title, runs }) => [
      title,
      formatCount(runs.length),
      ...scores.map((score) => overSeeds(runs.map(score.of))),
      [...groupBy(runs, worstGroup)].map(([group, members]) => `${group} (${members.length})`).join(', '),
    ]),
  };
}

function worstGroup(run: Run): string {
  return Object.entries(run.groups).reduce((worst, group) => (group[1].loss > worst[1].loss ? group : worst))[0];
}

function differences(pairs: readonly Pair[]): Table {
  return {
    caption: 'Paired differences over seeds, mean ± standard error',
    columns: [
      { title: 'Difference' },
      { title: 'Seeds', numeric: true },
      ...scores.map(({ title }) => ({ title, numeric: true })),
    ],
    rows: pairs.map((pair) => [
      `${pair.first.title}\u00a0−\u00a0${pair.second.title}`,
      formatCount(difference(pair, worstLoss)?.pairs ?? 0),
      ...scores.map((score) => {
        const result = difference(pair, score);
        return result ? formatEstimate(result) : '–';
      }),
    ]),
  };
}

type GroupMetric = 'loss' | 'rewards/accuracies';
const groupMetricTitles = { loss: 'Loss', 'rewards/accuracies': 'Reward accuracy' };

function groupTable(methods: readonly Method[], groups: readonly string[], metric: GroupMetric): Table {
  const shown = methods.filter(({ runs }) => runs.some((run) => has(run, metric)));
  return {
    caption: `${groupMetricTitles[metric]} of each group, mean ± standard error over seeds`,
    columns: [
      { title: 'Group' },
      { title: 'Test pairs', numeric: true },
      ...shown.map(({ title }) => ({ title, numeric: true })),
    ],
    rows: groups.map((group) => [
      group,
      // Seeds may split the data anew, so the count can differ between runs.
      range(methods.flatMap(({ runs }) => runs.flatMap((run) => run.groups[group]?.count ?? []))),
      ...shown.map(({ runs }) => overSeeds(runs.map((run) => run.groups[group]?.[metric] ?? null))),
    ]),
  };
}

async function groupBars(methods: readonly Method[], groups: readonly string[]): Promise<Figure[]> {
  const bars = async (shown: readonly Method[], metric: GroupMetric, value: Axis): Promise<Figure> => ({
    svg: await barChart({
      description: `Bar chart: ${value.title} on the test split, by group and method`,
      value,
      colours: new Map(shown.map((method) => [method.title, method.colour])),
      bars: groups.flatMap((group) =>
        shown.flatMap((method) => {
          const values = method.runs.flatMap((run) => run.groups[group]?.[metric] ?? []);
          if (values.length === 0) return [];
          const score = estimate(values);
          return [{ category: group, series: method.title, value: score.mean, ...errorEnds(score) }];
        }),
      ),
    }),
    caption: `${value.title} of each group on the test split${shown.some(({ runs }) => runs.length > 1) ? '; error bars: ± one standard error over seeds' : ''}.`,
  });
  const rewarded = methods.filter(({ runs }) => runs.some((run) => has(run, 'rewards/accuracies')));
  return Promise.all([
    ...byLoss(methods).map((members) => bars(members, 'loss', { title: lossTitle(members[0]) })),
    ...(rewarded.length > 0
      ? [bars(rewarded, 'rewards/accuracies', { title: 'Reward accuracy', domain: [0, 1] })]
      : []),
  ]);
}

async function curves(
  methods: readonly Method[],
  groups: readonly string[],
  colours: ReadonlyMap<string, string>,
): Promise<Figure[]> {
  const figures: Promise<Figure | null>[] = [];
  for (const members of byLoss(methods)) {
    const title = lossTitle(members[0]);
    figures.push(
      curveFigure(
        `Worst-group validation loss over training: ${members.map((method) => method.title).join(', ')}`,
        { title: `Worst-group ${title}` },
        members.map(({ title, colour, runs }) => ({ name: title, colour, points: curve(runs, 'eval_worst/loss') })),
      ),
    );
    const byGroup = members.map(({ title, runs }) => ({
      title,
      series: groups.map((group) => ({
        name: group,
        colour: colours.get(group)!,
        points: curve(runs, `eval_group/${group}/loss`),
      })),
    }));
    // One range for all, so that the figures can be compared by eye.
    const domain = extent(byGroup.flatMap(({ series }) => series.flatMap(({ points }) => points)));
    for (const { title: name, series } of byGroup)
      figures.push(curveFigure(`${name}: validation loss of each group over training`, { title, domain }, series));
  }
  for (const { title, runs } of methods.filter(({ name }) => name.startsWith('gr-')))
    figures.push(
      curveFigure(
        `${title}: group weights α over training`,
        { title: 'Group weight α', zero: true },
        groups.map((group) => ({
          name: group,
          colour: colours.get(group)!,
          points: curve(runs, `group/${group}/alpha`),
        })),
        [{ name: `Uniform, 1/${groups.length}`, y: 1 / groups.length }],
      ),
    );
  return (await Promise.all(figures)).filter((figure) => figure !== null);
}

/** A figure of curves over steps; null where no run has logged any of them. */
async function curveFigure(
  caption: string,
  y: Axis,
  series: readonly { name: string; colour: string; points: readonly Point[] }[],
  references?: readonly { name: string; y: number }[],
): Promise<Figure | null> {
  const shown = series.filter(({ points }) => points.length > 0);
  if (shown.length === 0) return null;
  const banded = shown.some(({ points }) => points.some((point) => point.low !== undefined));
  return {
    svg: await lineChart({
      description: `Line chart. ${caption}`,
      x: { title: 'Optimiser step' },
      y,
      series: shown,
      references,
    }),
    caption: `${caption}${banded ? '; bands: ± one standard error over seeds' : ''}.`,
  };
}

/** Mean over the runs of one logged metric at every step, thinned evenly to what can be seen, both ends kept. */
function curve(runs: readonly Run[], metric: string): Point[] {
  const bySteps = new Map<number, number[]>();
  for (const { metrics } of runs)
    for (const line of metrics) {
      const value = line[metric];
      if (typeof value !== 'number') continue;
      const step = line.step as number;
      bySteps.set(step, [...(bySteps.get(step) ?? []), value]);
    }
  const points = [...bySteps]
    .sort(([a], [b]) => a - b)
    .map(([x, values]) => {
      const value = estimate(values);
      return { x, y: value.mean, ...errorEnds(value) };
    });
  const stride = Math.ceil(points.length / CURVE_POINTS);
  return points.filter((_, i) => i % stride === 0 || i === points.length - 1);
}

function byLoss(methods: readonly Method[]): Method[][] {
  return [...groupBy(methods, (method) => lossKey(method.runs[0])).values()];
}

/** "IPO loss (β = 0.1)" */
function lossTitle({ runs: [{ objective }] }: Method): string {
  const { loss, beta } = objective;
  const unit = loss === 'dpo' || loss === 'sft' ? ' / nats' : '';
  return `${loss === 'hinge' ? 'hinge' : loss.toUpperCase()} loss${unit}${beta === undefined ? '' : ` (β = ${formatNumber(beta)})`}`;
}

function has(run: Run, metric: GroupMetric): boolean {
  return Object.values(run.groups).some((group) => group[metric] !== undefined);
}

function overSeeds(values: readonly (number | null)[]): string {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? '–' : formatEstimate(estimate(known));
}

function range(counts: readonly number[]): string {
  const [low, high] = [Math.min(...counts), Math.max(...counts)];
  return low === high ? formatCount(low) : `${formatCount(low)}–${formatCount(high)}`;
}

/** Smallest and largest value of points and bands, with a little room. */
function extent(points: readonly Point[]): [number, number] | undefined {
  if (points.length === 0) return undefined;
  const low = Math.min(...points.map((point) => point.low ?? point.y));
  const high = Math.max(...points.map((point) => point.high ?? point.y));
  const room = 0.04 * (high - low || Math.abs(high) || 1);
  return [low - room, high + room];
}
