import { InputError, present } from '../errors.js';
import { largest, smallest } from '../numbers/extremes.js';
import { type Estimate, estimate, pairedDifference } from '../numbers/statistics.js';
import { isMoving, weightingNames } from '../objective/group-weights.js';
import { type Check, pairedCheck } from '../terminal/checks.js';
import { shortName } from '../terminal/names.js';
import { groupBy } from './group-by.js';
import { methodColours, methodTitle, orderMethods } from './palette.js';
import { commonSplit, differingSettings, type GroupMeans, type Run, type ScoredSplit, type Scores } from './runs.js';

/** What reports compare: runs by method and settings, their scores, and the claims of the robust ones. */

/** A run with the scores of one of its policies on the split that the report is about. */
export interface ScoredRun extends Run, Scores {}

/** All runs of one method and one choice of its settings, in the order of their seeds. */
export interface Method {
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

export type GroupMetric = 'loss' | 'rewards/accuracies' | 'logps/accuracies';

export const groupMetricTitles = {
  loss: 'Loss',
  'rewards/accuracies': 'Reward accuracy',
  'logps/accuracies': 'Log-probability accuracy',
};

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

export const worstLoss: Score = {
  title: 'Worst-group loss',
  of: (run) => largest(losses(run)),
  error: (run) => errorOf(extreme(run, 'loss', 1)),
};

const spread: Score = {
  title: 'Spread (worst − best group)',
  of: (run) => largest(losses(run)) - smallest(losses(run)),
  error: (run) => {
    const [worst, best] = [extreme(run, 'loss', 1), extreme(run, 'loss', -1)];
    // One group, or groups all alike, of which no two are told apart.
    return worst === best ? null : combined(run, [errorOf(worst), errorOf(best)]);
  },
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

export const scores = [worstLoss, spread, groupMean, pairMean, worstAccuracy];

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

export function robustPairs(methods: readonly Method[]): Pair[] {
  return comparablePairs(methods).filter(({ first, second }) => first.robust && !second.robust);
}

export function methodsOn(split: ScoredSplit, runs: readonly Run[]): Method[] {
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
export function ofBestStep({ title, runs, ...method }: Method): Method[] {
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
export function firstRun({ runs }: Method): ScoredRun {
  return present(runs[0]);
}

/** What the runs of two methods must share for their losses to be in one unit. */
function lossKey(method: Method): string {
  const { loss, beta, labelSmoothing = 0, gamma = 0, reduction = 'sum' } = firstRun(method).objective;
  return JSON.stringify([loss, beta, labelSmoothing, gamma, reduction]);
}

/** The later method in the order of reports minus the earlier: what going from plain to robust changes. */
export interface Pair {
  first: Method;
  second: Method;
}

export function comparablePairs(methods: readonly Method[]): Pair[] {
  return methods.flatMap((first, i) =>
    methods
      .slice(0, i)
      .filter((second) => lossKey(first) === lossKey(second))
      .map((second) => ({ first, second })),
  );
}

/** Score by seed, for the seeds at which both methods trained on the same data. */
export function difference({ first, second }: Pair, score: Score) {
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

/** What the errors are over; undefined where there are none. */
export function errorsOver(methods: readonly Method[]): string | undefined {
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

export function byLoss(methods: readonly Method[]): Method[][] {
  return [...groupBy(methods, lossKey).values()];
}

export function has(run: ScoredRun, metric: GroupMetric): boolean {
  return [...run.groups.values()].some((group) => group[metric] !== undefined);
}

/** @param error of a single value */
export function overSeeds(values: readonly (number | null)[], error: number | null = null): Estimate | null {
  const known = values.filter((value) => value !== null);
  const [first] = known;
  if (first === undefined) return null;
  return values.length === 1 ? { mean: first, standard_error: error } : estimate(known);
}

export function groupScore(runs: readonly ScoredRun[], group: string, metric: GroupMetric): Estimate | null {
  const values = runs.map((run) => run.groups.get(group)?.[metric] ?? null);
  return overSeeds(values, errorOf(runs[0]?.groups.get(group), metric));
}
