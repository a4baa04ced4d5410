import { join } from 'node:path';
import { groupText } from '../data/pairs/groups.js';
import { InputError } from '../errors.js';
import { clustersOf, overClusters } from './clusters.js';
import { readPairMetrics } from './pair-scores.js';
import type { Run, Scores } from './runs.js';

/**
 * The run with errors of its test scores over clusters of pairs, in place of those over pairs.
 * @param column of the test file, which is read for it, or a field of the run's people
 * @throws InputError where the run has tested no pairs, its files are damaged, or the test file lacks the column or a line that was tested
 */
export async function withClusters(run: Run, column: string): Promise<Run> {
  const { folder, testFile: file, people, scores, best } = run;
  if (scores.test === undefined || file === undefined)
    throw new InputError('is about test pairs, of which this run has scored none', {
      at: { file: folder, field: '--cluster' },
      fix: 'leave it out, or train with data.test',
    });
  const clusters = await clustersOf(file, column, people);
  const over = async (of: Scores, name: string): Promise<Scores> => {
    const names = [...of.groups.keys()];
    const pairs = (await readPairMetrics(join(folder, name))).map(({ line, groups, ...pair }) => {
      const cluster = clusters.get(line);
      if (cluster === undefined || !groups.every((name) => of.groups.has(name)))
        throw new InputError(`has no pair that ${folder} tested under this number, in group "${groupText(groups)}"`, {
          at: { file, line },
          fix: 'put the file back as the run had it',
        });
      return { ...pair, groups: groups.map((name) => names.indexOf(name)), cluster };
    });
    const { groups, crossing, fewest } = overClusters(names, pairs);
    return {
      ...of,
      clusters: { column, crossing, fewest },
      groups: new Map(
        [...of.groups].map(([group, means]) => [group, { ...means, standard_error: groups[group]?.standard_error }]),
      ),
    };
  };
  return {
    ...run,
    scores: { ...scores, test: await over(scores.test, 'evaluation-pairs.jsonl') },
    best: best && (await over(best, 'evaluation-best-pairs.jsonl')),
  };
}
