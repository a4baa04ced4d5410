import type { TokenisedPair } from '../data/pairs/dataset.js';
import { promptNumbers } from '../data/pairs/prompt-numbers.js';
import { sumByRank, type Team } from '../distributed/team.js';
import { present } from '../errors.js';
import type { GroupTotals } from '../objective/aggregate.js';
import type { GroupMetrics } from './metrics.js';
import { NonFiniteError } from './non-finite.js';
import { pairsAt } from './scoring.js';

/** A step of several processes: each takes its share of the batch, and all go on with the sums of the whole batch. */

/**
 * The indices of a batch that one process takes, in the order of the batch. Pairs of one prompt and group stay together, since that is
 * computed once; the largest of these trees come first, each to the process that has the fewest tokens so far.
 */
export function ownShare(
  data: { readonly pairs: readonly TokenisedPair[] },
  batch: Int32Array,
  { rank, size }: Pick<Team, 'rank' | 'size'>,
): Int32Array {
  const pairs = pairsAt(data, batch);
  const trees = new Map<string, { places: number[]; tokens: number }>();
  for (const [place, prompt] of promptNumbers(pairs).entries()) {
    const { group, prompt: ids, chosen, rejected } = present(pairs[place]);
    const key = `${group}:${prompt}`;
    const tree = trees.get(key) ?? { places: [], tokens: ids.length };
    trees.set(key, tree);
    tree.places.push(place);
    tree.tokens += chosen.length + rejected.length;
  }
  const loads = new Float64Array(size);
  const own: number[] = [];
  // The sort is stable, so equal trees keep the order of the batch.
  for (const { places, tokens } of [...trees.values()].sort((a, b) => b.tokens - a.tokens)) {
    const least = loads.indexOf(Math.min(...loads));
    loads[least] = present(loads[least]) + tokens;
    if (least === rank) own.push(...places);
  }
  return Int32Array.from(
    own.sort((a, b) => a - b),
    (place) => present(batch[place]),
  );
}

/**
 * Has `add` sum up this process's share of the batch, then puts the sums over all processes in their place: one exchange of some numbers a
 * group, after which all processes hold the same bits.
 * @throws NonFiniteError on all processes, where `add` throws one on any
 */
export async function sumOverTeam(
  team: Team,
  totals: GroupTotals,
  metrics: GroupMetrics,
  add: () => Promise<void>,
): Promise<void> {
  let problem = '';
  try {
    await add();
  } catch (error) {
    if (!(error instanceof NonFiniteError)) throw error;
    problem = error.problem;
  }
  const own = joined([[problem === '' ? 0 : 1], ...partsOf(totals), metrics.numbers()]);
  const sums = sumByRank(await team.gather(own));
  if (sums[0] !== 0) {
    const problems = await team.gatherJson(problem);
    throw new NonFiniteError(present(problems.find((one) => one !== '')));
  }
  let start = 1;
  for (const part of partsOf(totals)) {
    part.set(sums.subarray(start, start + part.length));
    start += part.length;
  }
  metrics.setNumbers(sums.subarray(start));
}

function joined(parts: readonly ArrayLike<number>[]): Float64Array {
  const all = new Float64Array(parts.reduce((sum, { length }) => sum + length, 0));
  let start = 0;
  for (const part of parts) {
    all.set(part, start);
    start += part.length;
  }
  return all;
}

/** All that a window sums, by group. */
function partsOf({ lossSums, weightSums, counts }: GroupTotals): readonly (Float64Array | Int32Array)[] {
  return [lossSums, weightSums, counts];
}
