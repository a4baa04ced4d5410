import { InputError, present } from '../../errors.js';
import { largest, smallest } from '../../numbers/extremes.js';
import { type Estimate, estimate, pairedDifference } from '../../numbers/statistics.js';
import { isMoving, weightingNames } from '../../objective/group-weights.js';
import { type Check, pairedCheck } from '../../terminal/checks.js';
import { counted, formatCount, formatNumber } from '../../terminal/format.js';
import { shortName } from '../../terminal/names.js';
import { groupKey } from '../../train/metrics.js';
import { type Axis, errorEnds, type Point, type Series } from '../charts.js';
import { fewClusters } from '../clusters.js';
import { groupBy } from '../group-by.js';
import type { Figure, Section } from '../html.js';
import { groupColours, lossTitle, methodColours, methodTitle, orderMethods } from '../palette.js';
import {
  commonSplit,
  differingSettings,
  type GroupMeans,
  type Opinions,
  type Run,
  type ScoredSplit,
  type Scores,
} from '../runs.js';
import type { Table } from '../table.js';

/** A run with the scores of one of its policies on the split that the report is about. */
interface ScoredRun extends Run, Scores {}

/** All runs of one method and one choice of its settings, in the order of their seeds. */
interface Method {
  title: string;
  colour: string;
  robust: boolean;
  runs: readonly ScoredRun[];
}

/** One number per run about its final scores; null where the run has no such metric. */
interface Score {
  title: string;
  of(run: ScoredRun): number | null;
  /** Its standard error over the pairs of the split, or their clusters, for a run that has no other seeds; null where it is not known. */
  error(run: ScoredRun): number | null;
}

const losses = (run: ScoredRun) => [...run.groups.values()].map((group) => group.loss);
const accuracies = (run: ScoredRun) => [...run.groups.values()].flatMap((group) => group['rewards/accuracies'] ?? []);
const mean = (values: readonly number[]) => estimate(values).mean;

const errorOf = (group: GroupMeans | undefined, metric: GroupMetric = 'loss') =>
  group?.standard_error?.[metric] ?? null;
const extreme = (run: ScoredRun, metric: GroupMetric, sign: 1 | -1) =>
  [...run.groups.values()].reduce((one, other) =>
    sign * (other[metric] ?? 0) > sign * (one[metric] ?? 0) ? other : one,
  );
/** Of a sum of group means, each times `weight`; null where they are not independent, since they share pairs or clusters. */
const combined = ({ overlap, clusters }: ScoredRun, errors: readonly (number | null)[], weight = 1) => {
  if (overlap || clusters?.crossing) return null;
  const known = errors.filter((error) => error !== null);
  return known.length < errors.length ? null : weight * Math.sqrt(known.reduce((sum, error) => sum + error ** 2, 0));
};

const worstLoss: Score = {
  title: 'Worst-group loss',
  of: (run) => largest(losses(run)),
  error: (run) => errorOf(extreme(run, 'loss', 1)),
};
const spread: Score = {
  title: 'Spread (worst − best group)',
  of: (run) => largest(losses(run)) - smallest(losses(run)),
  error: (run) => combined(run, [errorOf(extreme(run, 'loss', 1)), errorOf(extreme(run, 'loss', -1))]),
};
const groupMean: Score = {
  title: 'Mean over groups',
  of: (run) => mean(losses(run)),
  error: (run) => {
    const groups = [...run.groups.values()];
    return combined(
      run,
      groups.map((group) => errorOf(group)),
      1 / groups.length,
    );
  },
};
const pairMean: Score = { title: 'Mean over pairs', of: (run) => run.pairMean, error: () => null };
const worstAccuracy: Score = {
  title: 'Worst-group reward accuracy',
  of: (run) => (accuracies(run).length > 0 ? smallest(accuracies(run)) : null),
  error: (run) => errorOf(extreme(run, 'rewards/accuracies', -1), 'rewards/accuracies'),
};
const scores = [worstLoss, spread, groupMean, pairMean, worstAccuracy];

/** At most this many groups in a figure: more cannot be told apart. */
const DRAWN_GROUPS = 24;

/** At most this many points per curve: more cannot be seen and make the page heavy. */
const CURVE_POINTS = 200;

const splitTexts: Record<ScoredSplit, string> = {
  test: 'Scores are exact, of the final test split',
  validation:
    'There is no test split on which all runs were scored: scores are exact, of the validation split at the last evaluation',
  training:
    'There is no test or validation split on which all runs were scored: scores are what the batches of the last epoch showed while the policy still moved, no measure of how it generalises',
};

/**
 * Training runs side by side: final scores per method with standard errors over seeds, paired differences between
 * methods, scores of every group, and the curves of worst group, groups and α over steps. Runs of one method whose
 * settings differ are methods of their own, named by what differs.
 *
 * @param runs one per method, settings and seed, in any order
 * @throws InputError when two runs have the same method, settings and seed, or no split in common
 */
export function runsSection(runs: readonly Run[]): Section {
  const split = commonSplit(runs);
  const methods = methodsOn(split, runs);
  const groups = [...new Set(methods.flatMap((method) => method.runs.flatMap((run) => [...run.groups.keys()])))];
  const drawn = groupsToDraw(methods, groups);
  const colours = groupColours(drawn);
  const pairs = comparablePairs(methods);
  const best = split === 'test' ? methods.flatMap(ofBestStep) : [];
  const seeds = new Set(runs.map((run) => run.seed));
  return {
    title: 'Training runs',
    text: [
      `${methods.map((method) => method.title).join('; ')} on ${counted(groups.length, 'group')}, ${counted(seeds.size, 'seed')}. ${splitTexts[split]}; a smaller loss and a larger accuracy are better.${methods.length > 1 ? ' With the same seed, methods see the same batches, so differences are taken seed by seed. Losses are compared only between methods of the same loss and β.' : ''}`,
      ...(drawn.length < groups.length
        ? [
            `Figures show the ${drawn.length} groups with the largest losses; the tables have all ${formatCount(groups.length)}.`,
          ]
        : []),
      ...(best.length > 0
        ? [
            '“Best step” is the policy at the evaluation with the smallest worst-group validation loss; all else is of the last step.',
          ]
        : []),
      ...(best.some(({ runs }) => runs.some(({ tied }) => tied))
        ? [
            'Where the best step is 0, no later evaluation had a smaller worst-group validation loss than the start, where policy and reference are one model: all rewards tie, so there is no reward accuracy (–), and no group is the worst.',
          ]
        : []),
      ...(runs.some(({ overlap }) => overlap)
        ? [
            'Groups overlap: a pair counts in each of its groups, so their pairs add up to more than there are. Means over groups and differences of groups have no standard error over pairs, since groups share them.',
          ]
        : []),
      ...fewClustersOf(methods),
      ...averaged(methods),
      ...robustPairs(methods)
        .filter((pair) => difference(pair, worstLoss) === null)
        .map(
          ({ first, second }) =>
            `${first.title} and ${second.title} have no seed on the same data in common: no paired comparison.`,
        ),
    ],
    checks: robustChecks(runs, 'loss'),
    tables: [
      headline([...methods, ...best], split),
      ...(pairs.length > 0 ? [differences([...pairs, ...comparablePairs(best)])] : []),
      groupTable(methods, groups, 'loss', split),
      groupTable(methods, groups, 'rewards/accuracies', split),
      groupTable(methods, groups, 'logps/accuracies', split),
      similarityTable([...methods, ...best], groups, split),
      calibrationTable([...methods, ...best], groups),
    ].filter((table) => table !== null),
    figures: [...groupBars(methods, drawn, split), ...curves(methods, drawn, groups.length, colours)],
  };
}

/** Of methods of one seed, whose errors are over clusters. */
function fewClustersOf(methods: readonly Method[]): string[] {
  const clusters = methods.flatMap(({ runs }) => (runs.length === 1 ? (runs[0]?.clusters ?? []) : []));
  const few = clusters[0] && fewClusters(clusters[0].column, smallest(clusters.map(({ fewest }) => fewest)));
  return few === undefined ? [] : [`Few clusters: ${few}.`];
}

/** Which methods' policies are means of adapters, and what is none of theirs; methods differ in every setting, so each has one first step. */
function averaged(methods: readonly Method[]): string[] {
  const from = (method: Method) => firstRun(method).settings.get('optimizer.averageFrom') ?? '';
  const averaging = methods.filter((method) => from(method) !== '');
  return [...groupBy(averaging, from)].map(
    ([first, members]) =>
      `The policy of ${members.map(({ title }) => title).join(', ')} is the mean of the adapters from step ${first} on up to the step that is shown (optimizer.averageFrom): saved adapters, test and validation figures are of that mean, figures of training batches of the adapter of their step.`,
  );
}

const claims = {
  loss: { score: worstLoss, verb: 'lowers', of: 'loss', wanted: 'lower' },
  accuracy: { score: worstAccuracy, verb: 'raises', of: 'reward accuracy', wanted: 'higher' },
} as const;

/** Whether each group robust method serves the worst group better than each other method of the same loss, by one score. */
export function robustChecks(runs: readonly Run[], metric: keyof typeof claims): Check[] {
  const { score, verb, of, wanted } = claims[metric];
  const split = commonSplit(runs);
  return robustPairs(methodsOn(split, runs)).flatMap((pair) => {
    const result = difference(pair, score);
    const claim = `${pair.first.title} ${verb} the worst group’s ${split} ${of} against ${pair.second.title}`;
    return result ? [pairedCheck(claim, result, wanted)] : [];
  });
}

function robustPairs(methods: readonly Method[]): Pair[] {
  return comparablePairs(methods).filter(({ first, second }) => first.robust && !second.robust);
}

function methodsOn(split: ScoredSplit, runs: readonly Run[]): Method[] {
  return byMethod(runs.map((run) => ({ ...run, ...present(run.scores[split]) })));
}

function byMethod(runs: readonly ScoredRun[]): Method[] {
  const named = [...groupBy(runs, (run) => run.method).values()].flatMap(variants);
  const names = orderMethods(named.map(({ method }) => method));
  named.sort((a, b) => names.indexOf(a.method) - names.indexOf(b.method) || compareSettings(a.setting, b.setting));
  // The first variant of a method has the method's own colour, others what is free.
  const keys = named.map(({ method, setting }, i) =>
    named[i - 1]?.method === method ? `${method} ${setting}` : method,
  );
  const colours = methodColours(keys);
  return named.map(({ method, setting, members }, i) => {
    for (const [run, same] of groupBy(members, (run) => String(run.seed)).values())
      if (run && same)
        throw new InputError(`has the method, settings and seed of ${run.folder}`, {
          at: { file: same.folder, field: 'seed' },
          fix: 'name one of the two',
        });
    return {
      title: methodTitle(method) + (setting && ` (${setting})`),
      colour: present(colours.get(present(keys[i]))),
      robust: isRobust(present(members[0])),
      runs: members.sort((a, b) => a.seed - b.seed),
    };
  });
}

/** Whether the group weights follow the losses; weights of one's own have no name in the configuration. */
function isRobust({ settings }: Run): boolean {
  const weights = weightingNames.find((name) => name === settings.get('objective.weights'));
  return weights !== undefined && isMoving({ weights });
}

/** The policies of the best steps, as a method of their own. */
function ofBestStep({ title, runs, ...method }: Method): Method[] {
  const kept = runs.flatMap((run) => (run.best ? [{ ...run, ...run.best }] : []));
  return kept.length > 0 ? [{ ...method, title: `${title},\u00a0best\u00a0step`, runs: kept }] : [];
}

/** Word by word, numbers by their size: 0.002 before 0.01. */
function compareSettings(a: string, b: string): number {
  const [first, second] = [a.split(/[ ,]+/), b.split(/[ ,]+/)];
  const at = first.findIndex((word, i) => word !== second[i]);
  return Number(first[at]) - Number(second[at]) || (a < b ? -1 : 1);
}

/** Runs of one method by their settings, each named by the settings that differ: "step 0.01, epochs 2". */
function variants(runs: readonly ScoredRun[]): { method: string; setting: string; members: ScoredRun[] }[] {
  const differing = differingSettings(runs);
  const setting = (run: ScoredRun) =>
    differing.map((key) => `${key.replace(/^objective\./, '')} ${run.settings.get(key) ?? '–'}`).join(', ');
  return [...groupBy(runs, setting)].map(([setting, members]) => ({
    method: present(members[0]).method,
    setting,
    members,
  }));
}

/** Where it does not matter which one is looked at. */
function firstRun({ runs }: Method): ScoredRun {
  return present(runs[0]);
}

/** What the runs of two methods must share for their losses to be in one unit. */
function lossKey(method: Method): string {
  const { loss, beta, labelSmoothing = 0, gamma = 0, reduction = 'sum' } = firstRun(method).objective;
  return JSON.stringify([loss, beta, labelSmoothing, gamma, reduction]);
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
      .filter((second) => lossKey(first) === lossKey(second))
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

/** The end of a table's caption: what its numbers are. */
function seedsCaption(methods: readonly Method[]): string {
  const over = errorsOver(methods);
  return over === undefined ? '' : `, mean ± standard error over ${over}`;
}

/** What the errors are over; undefined where there are none. */
function errorsOver(methods: readonly Method[]): string | undefined {
  const seeds = methods.some(({ runs }) => runs.length > 1);
  const pairs = methods.some(
    (method) => method.runs.length === 1 && errorOf([...firstRun(method).groups.values()][0]) !== null,
  );
  const column = methods.map((method) => firstRun(method).clusters?.column).find((name) => name !== undefined);
  const units = column === undefined ? 'pairs' : `clusters of pairs (${shortName(column)})`;
  return seeds
    ? `seeds${pairs ? `; of one seed, over its ${units}` : ''}`
    : pairs
      ? `the ${units} of the one seed`
      : undefined;
}

/** The settings in which the methods differ, but for those that their names say. */
function settingColumns(methods: readonly Method[]): string[] {
  return differingSettings(methods.flatMap(({ runs }) => runs)).filter(
    (key) => !/^objective\.(loss|weights)$/.test(key),
  );
}

/** Those with the largest losses where there are too many, in the order of all. */
function groupsToDraw(methods: readonly Method[], groups: readonly string[]): readonly string[] {
  if (groups.length <= DRAWN_GROUPS) return groups;
  const loss = (group: string) =>
    largest(methods.flatMap(({ runs }) => runs.map((run) => run.groups.get(group)?.loss ?? Number.NEGATIVE_INFINITY)));
  const ranked = groups.map((group) => ({ group, loss: loss(group) })).sort((a, b) => b.loss - a.loss);
  const drawn = new Set(ranked.slice(0, DRAWN_GROUPS).map(({ group }) => group));
  return groups.filter((group) => drawn.has(group));
}

function headline(methods: readonly Method[], split: ScoredSplit): Table {
  const settings = settingColumns(methods);
  return {
    caption: `Final ${split}${seedsCaption(methods)}`,
    columns: [
      { title: 'Method' },
      { title: 'Seeds', numeric: true },
      ...scores.map(({ title }) => ({ title, numeric: true })),
      { title: 'Worst group (seeds)' },
      { title: 'Step', numeric: true },
      ...settings.map((key) => ({ title: key, numeric: true })),
    ],
    rows: methods.map(({ title, runs }) => [
      title,
      formatCount(runs.length),
      ...scores.map((score) => overSeeds(runs.map(score.of), score.error(present(runs[0])))),
      [
        ...groupBy(
          runs.filter(({ tied }) => !tied),
          worstGroup,
        ),
      ]
        .map(([group, members]) => `${group} (${members.length})`)
        .join(', ') || '–',
      range(runs.map(({ step }) => step)),
      ...settings.map((key) => runs[0]?.settings.get(key) ?? '–'),
    ]),
  };
}

function worstGroup(run: ScoredRun): string {
  return [...run.groups].reduce((worst, group) => (group[1].loss > worst[1].loss ? group : worst))[0];
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
      ...scores.map((score) => difference(pair, score)),
    ]),
  };
}

type GroupMetric = 'loss' | 'rewards/accuracies' | 'logps/accuracies';
const groupMetricTitles = {
  loss: 'Loss',
  'rewards/accuracies': 'Reward accuracy',
  'logps/accuracies': 'Log-probability accuracy',
};

/** Null where no run has the metric: SFT has no rewards. */
function groupTable(
  methods: readonly Method[],
  groups: readonly string[],
  metric: GroupMetric,
  split: ScoredSplit,
): Table | null {
  const shown = methods.filter(({ runs }) => runs.some((run) => has(run, metric)));
  if (shown.length === 0) return null;
  return {
    caption: `${groupMetricTitles[metric]} of each group${seedsCaption(methods)}`,
    columns: [
      { title: 'Group' },
      { title: `${split.replace(/^./, (first) => first.toUpperCase())} pairs`, numeric: true },
      ...shown.map(({ title }) => ({ title, numeric: true })),
    ],
    rows: groups.map((group) => [
      group,
      // Seeds may split the data anew, so the count can differ between runs.
      range(methods.flatMap(({ runs }) => runs.flatMap((run) => run.groups.get(group)?.count ?? []))),
      ...shown.map(({ runs }) => groupScore(runs, group, metric)),
    ]),
  };
}

/** How near the answers of each method are to those of the groups, with references and the uniform distribution beside them. */
function similarityTable(all: readonly Method[], groups: readonly string[], split: ScoredSplit): Table | null {
  const methods = all.filter(({ runs }) => runs.some(({ survey }) => survey));
  if (methods.length === 0) return null;
  const row = (name: string, count: string, of: (opinions: Opinions) => Measure, compared: readonly Compared[]) => [
    name,
    count,
    ...compared.map(({ runs }) => measured(runs, of)),
  ];
  const ofGroup = (group: string) => (opinions: Opinions) => {
    const { similarity = null, standard_error = null } = opinions.groups.get(group) ?? {};
    return { mean: similarity, standard_error };
  };
  const alone = ({ similarity }: { similarity: number }) => ({ mean: similarity, standard_error: null });
  const policies = methods.map(({ title, runs }) => ({ title, runs: runs.map(({ survey }) => survey?.policy) }));
  // By the similarities alone: what stands beside them depends on how many seeds a method has.
  const cells = ({ runs }: Compared) =>
    JSON.stringify([
      ...new Set(runs.map((run) => JSON.stringify(groups.map((group) => run?.groups.get(group)?.similarity ?? null)))),
    ]);
  const references = merged('Reference', methods, ({ survey }) => survey?.reference, cells);
  const uniform = merged('Uniform', methods, ({ survey }) => survey?.uniform, cells);
  const compared = [...policies, ...references, ...uniform];
  return {
    caption: `Similarity of the distribution over all options to each group’s answers (1 − JSD), ${split}${seedsCaption(methods).replace('pairs', 'questions')}`,
    columns: [
      { title: 'Group' },
      { title: 'Questions', numeric: true },
      ...compared.map(({ title }) => ({ title, numeric: true })),
    ],
    rows: [
      ...groups.map((group) =>
        row(
          group,
          range(policies.flatMap(({ runs }) => runs.flatMap((policy) => policy?.groups.get(group)?.questions ?? []))),
          ofGroup(group),
          compared,
        ),
      ),
      row('Worst group', '', ({ worst }) => alone(worst), compared),
      row('Mean over questions', '', ({ mean }) => alone(mean), compared),
      row('Mean over groups', '', ({ group_mean }) => alone(group_mean), compared),
    ],
  };
}

/** Null where there is no survey. */
function calibrationTable(all: readonly Method[], groups: readonly string[]): Table | null {
  const methods = all.filter(({ runs }) => runs.some(({ survey }) => survey));
  if (methods.length === 0) return null;
  return {
    caption: 'Expected calibration error of the win share of one option against another',
    columns: [{ title: 'Group' }, ...methods.map(({ title }) => ({ title, numeric: true }))],
    rows: groups.map((group) => [
      group,
      ...methods.map(({ runs }) =>
        overSeeds(runs.map(({ survey }) => survey?.policy.groups.get(group)?.calibration_error ?? null)),
      ),
    ]),
  };
}

/** A column of distributions, one for each run. */
interface Compared {
  title: string;
  runs: readonly (Opinions | undefined)[];
}
/** Its error is that over questions. */
interface Measure {
  mean: number | null;
  standard_error: number | null;
}

function measured(runs: Compared['runs'], of: (opinions: Opinions) => Measure): Estimate | null {
  const values = runs.map((opinions) => (opinions ? of(opinions) : { mean: null, standard_error: null }));
  return overSeeds(
    values.map(({ mean }) => mean),
    values[0]?.standard_error,
  );
}

/** What methods are compared with, once where it is the same for all of them: runs that start from one model have one reference. */
function merged(
  title: string,
  methods: readonly Method[],
  of: (run: ScoredRun) => Opinions | undefined,
  key: (column: Compared) => string,
): Compared[] {
  const columns = methods
    .map((method) => ({ title: `${title} of ${method.title}`, runs: method.runs.map(of) }))
    .filter(({ runs }) => runs.some((opinions) => opinions));
  const different = [...groupBy(columns, key).values()].map(([first]) => present(first));
  return different.length === 1 ? different.map(({ runs }) => ({ title, runs })) : different;
}

function groupBars(methods: readonly Method[], groups: readonly string[], split: ScoredSplit): Figure[] {
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
function curves(
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
      return { x: Math.round(mean(pairs)), y: value.mean, ...errorEnds(value) };
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

function byLoss(methods: readonly Method[]): Method[][] {
  return [...groupBy(methods, lossKey).values()];
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

function has(run: ScoredRun, metric: GroupMetric): boolean {
  return [...run.groups.values()].some((group) => group[metric] !== undefined);
}

/** @param error of a single value */
function overSeeds(values: readonly (number | null)[], error: number | null = null): Estimate | null {
  const known = values.filter((value) => value !== null);
  const [first] = known;
  if (first === undefined) return null;
  return values.length === 1 ? { mean: first, standard_error: error } : estimate(known);
}

function groupScore(runs: readonly ScoredRun[], group: string, metric: GroupMetric): Estimate | null {
  const values = runs.map((run) => run.groups.get(group)?.[metric] ?? null);
  return overSeeds(values, errorOf(runs[0]?.groups.get(group), metric));
}

function range(counts: readonly number[]): string {
  if (counts.length === 0) return '–';
  const [low, high] = [smallest(counts), largest(counts)];
  return low === high ? formatCount(low) : `${formatCount(low)}–${formatCount(high)}`;
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
