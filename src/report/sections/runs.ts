import { smallest } from '../../numbers/extremes.js';
import { counted, formatCount } from '../../terminal/format.js';
import { fewClusters } from '../clusters.js';
import { groupBy } from '../group-by.js';
import type { Section } from '../html.js';
import {
  comparablePairs,
  difference,
  firstRun,
  type Method,
  methodsOn,
  ofBestStep,
  robustChecks,
  robustPairs,
  worstLoss,
} from '../methods.js';
import { groupColours } from '../palette.js';
import { commonSplit, type Run, type ScoredSplit } from '../runs.js';
import { curves, groupBars, groupsToDraw } from './run-figures.js';
import { calibrationTable, differences, groupTable, headline, similarityTable } from './run-tables.js';

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
            'Where the best step is 0, no later evaluation had a smaller worst-group validation loss than the start, where policy and reference are one model: all rewards tie, so there is no reward accuracy (–), neither of that seed nor over seeds, and no group is the worst.',
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
