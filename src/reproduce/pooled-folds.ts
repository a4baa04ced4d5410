import { InputError, present } from '../errors.js';
import { bootstrapInterval } from '../numbers/bootstrap.js';
import { smallest } from '../numbers/extremes.js';
import { Random } from '../numbers/random.js';
import { isMoving } from '../objective/group-weights.js';
import { parseMethod } from '../objective/method-name.js';
import { fewClusters } from '../report/clusters.js';
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
import type { Section } from '../report/html.js';
import { methodTitle } from '../report/palette.js';
import type { Table } from '../report/table.js';
import { type Check, outcomeOf } from '../terminal/checks.js';
import { counted, formatNumber } from '../terminal/format.js';
import type { Method } from './stages.js';
import type { TestedPair } from './tested-pairs.js';

/**
 * The tests of all folds of a seed together: each question is tested once, so that small groups have all their questions in one mean. What
 * chance does is then a matter of the questions that the survey happened to ask: intervals are over these, drawn anew as wholes, with the
 * answers of all countries and seeds.
 */

/** What a robust method is for; each is judged. */
const claims: Partial<Record<Measure, string>> = {
  'worst-group loss': 'lowers the worst group’s test loss',
  'gap between groups in loss': 'narrows the gap between groups in test loss',
  'worst-group reward accuracy': 'raises the worst group’s reward accuracy',
  'gap between groups in reward accuracy': 'narrows the gap between groups in reward accuracy',
};

/** Of NaN, null in JSON, where no pair of a seed has the metric. */
interface Interval {
  mean: number;
  /** 95 %, over questions; of NaN where a group of a seed has only one, too. */
  interval: [number, number];
  /** Questions of the group of a seed that has the fewest. */
  fewest: number;
  /** Of each seed by itself. */
  seeds: number[];
}

export interface Pooled {
  seeds: number[];
  /** Different questions that were tested. */
  questions: number;
  /** Pairs that reward accuracies leave out, of every method and over all seeds: there one chose the model that it began with, whose rewards are all equal. */
  ties: number;
  /** Of those questions how many each seed has tested: fewer where a seed lacks folds. */
  questionsOfSeeds: number[];
  methods: Record<string, { measures: Record<Measure, Interval>; groups: Record<string, GroupMean> }>;
  /** "gr-ipo - ipo": the first minus the second. */
  differences: Record<string, Record<Measure, Interval>>;
  checks: Check[];
}

/** Over all seeds; `pairs` are those of one seed. */
interface GroupMean {
  pairs: number;
  loss: number;
  rewardAccuracy: number;
  policyAccuracy: number;
}

/**
 * @param pairs tested by several methods on the same folds of one or more seeds
 * @throws InputError where a method has not tested what the others have
 */
export function poolFolds(pairs: readonly TestedPair[]): Pooled {
  const ties = new Set(pairs.filter(({ reward_accuracy }) => reward_accuracy === undefined).map(testName));
  const questions = new Map<number, number>();
  const groups: string[] = [];
  const tested = new Map<Method, Map<number, Tested[]>>();
  for (const pair of pairs) {
    const { method, seed } = pair;
    const ofMethod = tested.get(method) ?? new Map<number, Tested[]>();
    tested.set(method, ofMethod);
    const ofSeed = ofMethod.get(seed) ?? [];
    ofMethod.set(seed, ofSeed);
    const question = questions.get(pair.question) ?? questions.size;
    questions.set(pair.question, question);
    if (!groups.includes(pair.group)) groups.push(pair.group);
    // Where one method has none, the others have none there too: theirs would be of other questions.
    const scores = ties.has(testName(pair)) ? { ...pair, reward_accuracy: undefined } : pair;
    ofSeed.push({ scores, weight: 1, unit: question, groups: [groups.indexOf(pair.group)] });
  }
  checkSameTests(pairs);
  const once = new Float64Array(questions.size).fill(1);
  const seeds = [...new Set(pairs.map(({ seed }) => seed))];
  /** Mean over seeds of a measure of a method, or of the difference of two. */
  const measured = (measure: Measure, method: Method, minus?: Method): Interval => {
    const { metric, of } = measures[measure];
    const ofSeeds = (name: Method) =>
      seeds.map((seed) => valuesOf(having(metric, present(tested.get(name)?.get(seed))), groups.length, metric));
    const own = ofSeeds(method);
    if (own.some((values) => values.length === 0))
      return { mean: Number.NaN, interval: [Number.NaN, Number.NaN], fewest: 0, seeds: own.map(() => Number.NaN) };
    const others = minus === undefined ? [] : ofSeeds(minus);
    const bySeed = (times: Float64Array) =>
      own.map((values, i) => {
        const other = others[i];
        return of(groupMeans(values, times)) - (other === undefined ? 0 : of(groupMeans(other, times)));
      });
    const mean = (times: Float64Array) => bySeed(times).reduce((sum, ofSeed) => sum + ofSeed, 0) / seeds.length;
    const fewest = smallest(own.map(fewestUnits));
    return {
      mean: mean(once),
      // The same draws for all, so that differences are paired.
      interval:
        fewest > 1
          ? bootstrapInterval(questions.size, mean, Random.stream(0, 'pooled-folds'))
          : [Number.NaN, Number.NaN],
      fewest,
      seeds: bySeed(once),
    };
  };
  const all = <T>(of: (measure: Measure) => T) =>
    Object.fromEntries(measureNames.map((measure) => [measure, of(measure)])) as Record<Measure, T>;

  const methods = [...tested.keys()];
  const differences: Pooled['differences'] = {};
  const checks: Check[] = [];
  for (const [robust, plain] of robustPairs(methods)) {
    const difference = all((measure) => measured(measure, robust, plain));
    differences[`${robust} - ${plain}`] = difference;
    for (const measure of measureNames) {
      const claim = claims[measure];
      if (claim !== undefined)
        checks.push(
          judged(`${methodTitle(robust)} ${claim} against ${methodTitle(plain)}`, measure, difference[measure]),
        );
    }
  }
  return {
    seeds,
    questions: questions.size,
    ties: pairs.filter((pair) => pair.method === methods[0] && ties.has(testName(pair))).length,
    questionsOfSeeds: seeds.map(
      (seed) => new Set(pairs.flatMap((pair) => (pair.seed === seed ? [pair.question] : []))).size,
    ),
    methods: Object.fromEntries(
      [...tested].map(([method, bySeed]) => [
        method,
        {
          measures: all((measure) => measured(measure, method)),
          groups: Object.fromEntries(groups.map((name, group) => [name, groupSummary(bySeed, group)])),
        },
      ]),
    ),
    differences,
    checks,
  };
}

/** Those that have it. */
function having(metric: Metric, pairs: readonly Tested[]): Tested[] {
  return pairs.filter(({ scores }) => scores[metric] !== undefined);
}

function testName({ seed, question, group }: TestedPair): string {
  return `question ${question} of "${group}" in seed ${seed}`;
}

/**
 * Differences of methods mean something only between tests of the same pairs. A group may be asked one question several times: a region
 * in each of its countries.
 */
function checkSameTests(pairs: readonly TestedPair[]): void {
  const tests = new Map<string, Map<Method, number>>();
  for (const pair of pairs) {
    const { method } = pair;
    const name = testName(pair);
    const times = tests.get(name) ?? new Map<Method, number>();
    tests.set(name, times);
    times.set(method, (times.get(method) ?? 0) + 1);
  }
  const methods = [...new Set(pairs.map(({ method }) => method))];
  for (const [name, times] of tests) {
    const most = Math.max(...times.values());
    const fewer = methods.find((method) => (times.get(method) ?? 0) < most);
    if (fewer !== undefined)
      throw new InputError(
        `${methodTitle(fewer)} has tested ${name} ${times.get(fewer) ?? 0} times, another method ${most} times`,
        { fix: 'pool runs of the same seeds and folds, each once' },
      );
  }
}

/** Each robust method with each other one of the same loss. */
function robustPairs(methods: readonly Method[]): [Method, Method][] {
  const named = methods.map((name) => ({ name, ...present(parseMethod(name)) }));
  return named
    .filter(isMoving)
    .flatMap((robust) =>
      named
        .filter((other) => !isMoving(other) && other.loss === robust.loss)
        .map((plain): [Method, Method] => [robust.name, plain.name]),
    );
}

/** Holds where the whole interval says so and each seed does too; fails where the whole interval says the contrary. */
function judged(claim: string, measure: Measure, { mean, interval, seeds }: Interval): Check {
  const { wanted } = measures[measure];
  const outcome = outcomeOf(interval, wanted);
  const number = (value: number) => formatNumber(value, 3);
  const chance = isKnown(interval)
    ? `, 95 % interval over questions ${interval.map(number).join(' to ')}`
    : '; no interval, since a group has only one question';
  return {
    claim,
    outcome: outcome === 'holds' ? outcomeOf([...interval, ...seeds], wanted) : outcome,
    detail: Number.isNaN(mean)
      ? 'no pair of a seed has a reward of every method'
      : `difference ${number(mean)}${chance}; by seed ${seeds.map(number).join(', ')}`,
  };
}

function isKnown(interval: Interval['interval']): boolean {
  return !interval.some(Number.isNaN);
}

function groupSummary(bySeed: ReadonlyMap<number, readonly Tested[]>, group: number): GroupMean {
  const pairs = [...bySeed.values()].flat().filter((tested) => tested.groups.includes(group));
  const mean = (metric: Metric) => {
    const known = having(metric, pairs);
    return known.reduce((sum, { scores }) => sum + present(scores[metric]), 0) / known.length;
  };
  return {
    pairs: pairs.length / bySeed.size,
    loss: mean('loss'),
    rewardAccuracy: mean('reward_accuracy'),
    policyAccuracy: mean('policy_accuracy'),
  };
}

/** For a page. */
export function pooledSection(pooled: Pooled): Section {
  const { seeds, questions, ties, questionsOfSeeds, methods, differences, checks } = pooled;
  const whole = questionsOfSeeds.every((count) => count === questions);
  const tested = whole
    ? `Each of ${questions} questions is tested once${seeds.length === 1 ? '' : ` in each of ${seeds.length} seeds`}`
    : `Of ${questions} questions ${seeds.map((seed, i) => `${present(questionsOfSeeds[i])} are tested in seed ${seed}`).join(', ')}, which all count the same below, each question once a seed`;
  const number = (value: number) => (Number.isNaN(value) ? '–' : formatNumber(value, 3));
  const cell = ({ mean, interval }: Interval) =>
    isKnown(interval) ? `${number(mean)} (${interval.map(number).join(' to ')})` : number(mean);
  const byMeasure = (caption: string, columns: Record<string, Record<Measure, Interval>>): Table => ({
    caption,
    columns: [{ title: 'Measure' }, ...Object.keys(columns).map((title) => ({ title, numeric: true }))],
    rows: measureNames.map((measure) => [
      measure,
      ...Object.values(columns).map((intervals) => cell(intervals[measure])),
    ]),
  });
  const intervals = Object.values(methods).flatMap(({ measures }) => Object.values(measures));
  const few = fewClusters(
    'question',
    smallest(intervals.filter(({ interval }) => isKnown(interval)).map(({ fewest }) => fewest)),
  );
  const groups = Object.keys(Object.values(methods)[0]?.groups ?? {});
  const byGroup = (caption: string, of: (group: GroupMean) => number): Table => ({
    caption,
    columns: [
      { title: 'Group' },
      { title: 'Pairs', numeric: true },
      ...Object.keys(methods).map((name) => ({ title: methodTitle(name), numeric: true })),
    ],
    rows: groups.map((group) => [
      group,
      String(Math.round(Object.values(methods)[0]?.groups[group]?.pairs ?? 0)),
      ...Object.values(methods).map((method) => number(of(present(method.groups[group])))),
    ]),
  });
  return {
    title: 'All folds together',
    text: [
      `${tested}, by a model that saw it neither in training nor in validation. In brackets 95 % intervals over questions (basic bootstrap): what another sample of questions could show. Those of a worst group or a gap are approximate where groups are close: in simulations of 95 % they hold the truth in 83 to 94 %.`,
      ...(ties === 0
        ? []
        : [
            `Reward accuracies leave out ${counted(ties, 'pair')} of which a method is tested as it began, with all rewards equal, since its best step was the first.`,
          ]),
      ...(intervals.some(({ mean, interval }) => !Number.isNaN(mean) && !isKnown(interval))
        ? [
            'Figures without an interval are over groups of which one has a single question, which tells nothing of its spread.',
          ]
        : []),
      ...(few === undefined ? [] : [`Few questions: ${few}.`]),
    ],
    checks,
    tables: [
      byMeasure(
        'Test scores',
        Object.fromEntries(Object.entries(methods).map(([name, { measures }]) => [methodTitle(name), measures])),
      ),
      ...(Object.keys(differences).length === 0
        ? []
        : [
            byMeasure(
              'Differences',
              Object.fromEntries(
                Object.entries(differences).map(([name, measures]) => [
                  name.split(' - ').map(methodTitle).join(' − '),
                  measures,
                ]),
              ),
            ),
          ]),
      byGroup('Loss by group', ({ loss }) => loss),
      byGroup('Reward accuracy by group', ({ rewardAccuracy }) => rewardAccuracy),
    ],
  };
}
