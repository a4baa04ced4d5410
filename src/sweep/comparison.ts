import { present } from '../errors.js';
import { type TwoLevel, twoLevelBootstrap, twoLevelInterval } from '../numbers/bootstrap.js';
import { Random } from '../numbers/random.js';
import { clustersOf, fewClusters } from '../report/clusters.js';
import {
  fewestUnits,
  groupMeans,
  type Measure,
  type Metric,
  measureNames,
  measures,
  type Tested,
  valuesOf,
} from '../report/group-measures.js';
import { readTestScores, type TestScore } from '../report/pair-scores.js';
import { methodTitle } from '../report/palette.js';
import { type Check, outcomeOf } from '../terminal/checks.js';
import { counted, formatNumber } from '../terminal/format.js';
import { type Cell, lossUnit } from './cells.js';
import type { Candidate, Trained } from './selection.js';

/** The test figures of the chosen settings, and their differences, seed by seed and pair by pair. */

export interface Interval {
  mean: number;
  /** 95 %; null where nothing tells of chance. */
  interval: [low: number, high: number] | null;
}

/** Absent: a measure that a method has not, or that two have in other units. */
export type Measured = Readonly<Record<string, Interval>>;

export interface Comparison {
  /** What the intervals are over, and of what. */
  over: string;
  methods: { name: string; measured: Measured }[];
  /** The first minus the second, which stands before it in the sweep. */
  differences: { first: string; second: string; measured: Measured }[];
  /** What was claimed of the differences, each at the level that leaves all of them together 95 %. */
  checks: Check[];
  /** Sentences on what could not be compared. */
  notes: string[];
}

/** What a method that is added is for; each is judged. */
const claims: Partial<Record<Measure, string>> = {
  'worst-group loss': 'lowers the worst group’s test loss',
  'worst-group reward accuracy': 'raises the worst group’s test reward accuracy',
};

/** A method with what it made of the test pairs. */
interface TestedMethod {
  name: string;
  /** Losses compare where it is equal. */
  unit: string;
  /** Which pairs it was tested on. */
  test: string;
  /** By seed. */
  seeds: readonly (readonly TestScore[])[];
  /** Seeds whose rewards all tie: then the method has no reward accuracy. */
  tied: readonly number[];
}

/**
 * @param chosen one setting of each method, of the same seeds
 * @param cluster column of the test file, or field of its people, whose values are drawn as wholes
 * @throws InputError where a file is damaged, or lacks the column
 */
export async function compareChosen(chosen: readonly Candidate<Trained>[], cluster?: string): Promise<Comparison> {
  const methods: TestedMethod[] = [];
  for (const { method, runs } of chosen) {
    const { config } = present(runs[0]).cell;
    const file = present(config.data.test);
    const seeds: TestScore[][] = [];
    const tied: number[] = [];
    for (const { cell, seed } of runs) {
      const scores = await readTestScores(cell.folder);
      seeds.push(scores.pairs);
      if (scores.tied) tied.push(seed);
    }
    const lines = seeds.map((pairs) => pairs.map(({ line, groups }) => [line, groups]));
    methods.push({ name: method, unit: lossUnit(config), test: JSON.stringify([file, ...lines]), seeds, tied });
  }
  // Units are those of one test file: methods that were tested on other pairs stand alone.
  const reference = methods[0]?.test;
  const others = methods.filter(({ test }) => test !== reference);
  const compared = methods.filter(({ test }) => test === reference);
  const { test, people } = present(present(chosen[0]).runs[0]).cell.config.data;
  const clusters = cluster === undefined ? undefined : await clustersOf(present(test), cluster, people);
  const result = compareOnOneTest(compared, clusters, cluster);
  const notes = others.map(
    ({ name }) =>
      `${methodTitle(name)} was tested on other pairs than ${methodTitle(present(methods[0]).name)}, so its test figures are not compared.`,
  );
  return { ...result, notes: [...notes, ...result.notes] };
}

/**
 * What {@link compareChosen} will read of the test files, before runs take their time for it.
 * @throws InputError where a file or its people lack the column
 */
export async function checkClusters(cells: readonly Pick<Cell, 'config'>[], cluster: string): Promise<void> {
  const sources = new Map(cells.map(({ config: { data } }) => [JSON.stringify([data.test, data.people]), data]));
  for (const { test, people } of sources.values()) await clustersOf(present(test), cluster, people);
}

function compareOnOneTest(
  methods: readonly TestedMethod[],
  clusters: ReadonlyMap<number, string> | undefined,
  cluster: string | undefined,
): Comparison {
  const [first] = methods;
  const names = [...new Set(first?.seeds.flat().flatMap(({ groups }) => groups))];
  const units = new Map<string, number>();
  const unitOf = (line: number) => {
    const name = clusters?.get(line) ?? String(line);
    const unit = units.get(name) ?? units.size;
    units.set(name, unit);
    return unit;
  };
  const tested = methods.map(({ seeds }) =>
    seeds.map((pairs) =>
      pairs.map(
        ({ line, groups, weight, ...scores }): Tested => ({
          scores,
          weight,
          groups: groups.map((name) => names.indexOf(name)),
          unit: unitOf(line),
        }),
      ),
    ),
  );
  const metrics = [...new Set(measureNames.map((measure) => measures[measure].metric))];
  const has = (method: number, metric: Metric) =>
    present(tested[method]).every((pairs) => pairs.every(({ scores }) => scores[metric] !== undefined));
  const values = tested.map((seeds, m) =>
    metrics.map((metric) => (has(m, metric) ? seeds.map((pairs) => valuesOf(pairs, names.length, metric)) : undefined)),
  );
  /** What is measured: of one method, or of the difference of two. */
  const asked = [
    ...methods.map((_, method) => ({ method, minus: undefined })),
    ...methods.flatMap((_, method) => Array.from({ length: method }, (_, minus) => ({ method, minus }))),
  ].flatMap(({ method, minus }) =>
    measureNames.flatMap((measure) => {
      const { metric } = measures[measure];
      const own = [method, ...(minus === undefined ? [] : [minus])];
      if (!own.every((m) => has(m, metric))) return [];
      if (metric === 'loss' && new Set(own.map((m) => methods[m]?.unit)).size > 1) return [];
      return [{ method, minus, measure }];
    }),
  );
  const statistics = (times: Float64Array): number[][] => {
    // [methods][metrics][seeds], each the means of all groups.
    const means = values.map((ofMethod) =>
      ofMethod.map((seeds) => seeds?.map((ofGroups) => groupMeans(ofGroups, times)) ?? []),
    );
    const of = (method: number, measure: Measure) => {
      const { metric, of: over } = measures[measure];
      return present(means[method]?.[metrics.indexOf(metric)]).map((ofGroups) => over(ofGroups));
    };
    return asked.map(({ method, minus, measure }) => {
      const own = of(method, measure);
      if (minus === undefined) return own;
      const other = of(minus, measure);
      return own.map((value, seed) => value - present(other[seed]));
    });
  };
  const found = twoLevelBootstrap(units.size, statistics, Random.stream(0, 'sweep'));
  const entries = asked.map((one, i) => ({ ...one, level: present(found[i]) }));
  // Each measure is over all groups, and each metric is of the same pairs.
  const fewest = fewestUnits(present(values[0]?.[metrics.indexOf('loss')]?.[0]));
  const unit = cluster === undefined ? 'pair' : 'cluster';
  const known = fewest > 1;
  const measured = (method: number, minus: number | undefined): Measured =>
    Object.fromEntries(
      entries
        .filter((entry) => entry.method === method && entry.minus === minus)
        .map(({ measure, level }) => [measure, { mean: level.mean, interval: known ? twoLevelInterval(level) : null }]),
    );
  const few = known
    ? fewClusters(cluster, fewest)
    : 'a group has only one, which tells nothing of its spread, so figures over groups have no interval, and all verdicts are unclear';
  const name = (method: number) => present(methods[method]).name;
  const pairs = methods.flatMap((_, method) => Array.from({ length: method }, (_, minus) => ({ method, minus })));
  const tiesOf = (method: number) => {
    const { tied } = present(methods[method]);
    return tied.length === 0 ? [] : [`${methodTitle(name(method))} with seed ${tied.join(', ')}`];
  };
  const ties = methods.flatMap((_, method) => tiesOf(method));
  // A claim that ties leave open is one of the comparisons all the same.
  const claimed = pairs.flatMap(({ method, minus }) =>
    measureNames.flatMap((measure) => {
      const own = [method, minus];
      const level = entries.find(
        (one) => one.method === method && one.minus === minus && one.measure === measure,
      )?.level;
      const open =
        measures[measure].metric === 'reward_accuracy' &&
        own.every((m) => has(m, 'reward_accuracy') || tiesOf(m).length > 0);
      if (claims[measure] === undefined || (level === undefined && !open)) return [];
      const claim = `${methodTitle(name(method))} ${claims[measure]} against ${methodTitle(name(minus))}`;
      return [{ claim, measure, level, tied: own.flatMap(tiesOf) }];
    }),
  );
  return {
    over: `${(first?.seeds.length ?? 0) > 1 ? 'seeds and test pairs together (two-level bootstrap: seeds and pairs are drawn anew, the same pairs for all seeds)' : 'test pairs; one seed says nothing about training with another'}, of ${counted(present(tested[0]?.[0]).length, 'pair')}${cluster === undefined ? '' : ` in ${counted(units.size, 'cluster')} of one ${cluster}, which are drawn as wholes`}. Differences are taken seed by seed and pair by pair. Worst groups are those of each seed, and of each draw`,
    methods: methods.map(({ name }, method) => ({ name, measured: measured(method, undefined) })),
    differences: pairs.map(({ method, minus }) => ({
      first: name(method),
      second: name(minus),
      measured: measured(method, minus),
    })),
    checks: claimed.map(({ claim, measure, level, tied }): Check => {
      if (level && known) return judge(claim, measures[measure].wanted, level, claimed.length, 'seeds and test pairs');
      const detail = level
        ? `difference ${formatNumber(level.mean, 3)}; no interval, since a group has only one ${unit}`
        : `no reward accuracy of ${tied.join(' and ')}, whose rewards all tie`;
      return { claim, outcome: 'unclear', detail, finding: true };
    }),
    notes: [
      ...(few === undefined ? [] : [`Few ${unit}s: ${few}.`]),
      ...(ties.length === 0
        ? []
        : [
            `No test reward accuracy: ${ties.join('; ')}. The policy that is judged there is the reference itself, as at a best step 0, so all rewards tie; a method with such a seed has no reward accuracy, and claims on it are unclear.`,
          ]),
      ...pairs.flatMap(({ method, minus }) =>
        methods[method]?.unit === methods[minus]?.unit
          ? []
          : [
              `${methodTitle(name(method))} and ${methodTitle(name(minus))} have losses of different units, which are not compared.`,
            ],
      ),
    ],
  };
}

/** Holds, or fails, where the whole interval says so that leaves all `count` comparisons together 95 % (Bonferroni). */
export function judge(claim: string, wanted: 'lower' | 'higher', level: TwoLevel, count: number, over: string): Check {
  const joint = twoLevelInterval(level, 1 - 0.05 / count);
  const text = (interval: readonly number[]) => interval.map((end) => formatNumber(end, 3)).join(' to ');
  return {
    claim,
    outcome: outcomeOf(joint, wanted),
    detail: `difference ${formatNumber(level.mean, 3)}, 95 % interval over ${over} ${text(twoLevelInterval(level))}${count > 1 ? `; as one of ${counted(count, 'comparison')} ${text(joint)}` : ''}`,
    finding: true,
  };
}
