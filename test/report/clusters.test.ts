import { describe, expect, it } from 'vitest';
import { bootstrapInterval } from '../../src/numbers/bootstrap.js';
import { Random } from '../../src/numbers/random.js';
import { type ClusteredPair, clustersOf, fewClusters, overClusters } from '../../src/report/clusters.js';
import { GroupMetrics } from '../../src/train/metrics.js';
import { inputError, writeLines } from '../data/helpers.js';
import { temporaryFolder } from '../temporary-folder.js';

const names = ['a', 'b'];

/** Pairs of both groups, of 12 people whose own mean differs, some of them in both groups. */
function somePairs(seed: number, weightOf = (random: Random) => 0.5 + random.uniform()): ClusteredPair[] {
  const random = Random.stream(seed, 'pairs');
  const own = Array.from({ length: 12 }, () => 2 * random.normal());
  return Array.from({ length: 90 }, (_, i) => {
    const person = random.integer(12);
    const group = person < 3 ? i % 2 : person % 2;
    const loss = own[person] + random.normal() + group;
    const values = { loss, 'rewards/accuracies': Number(loss < 0.5) };
    return { groups: [group], weight: weightOf(random), cluster: `user${person}`, values };
  });
}

/** The weighted mean of some pairs, each as often as its cluster was drawn. */
function drawnMean(
  pairs: readonly ClusteredPair[],
  times: ReadonlyMap<string, number>,
  metric: 'loss' | 'rewards/accuracies' = 'loss',
): number {
  const copies = pairs.flatMap((pair) => Array.from({ length: times.get(pair.cluster) ?? 0 }, () => pair));
  return (
    copies.reduce((sum, { weight, values }) => sum + weight * (values[metric] ?? Number.NaN), 0) /
    copies.reduce((sum, { weight }) => sum + weight, 0)
  );
}

describe('errors and intervals over clusters', () => {
  it('come with a warning where a group has fewer than ten of them', () => {
    const pairs = (count: number, group: number) =>
      Array.from({ length: 2 * count }, (_, i) => ({
        groups: [group],
        weight: 1,
        cluster: `${group} ${i % count}`,
        values: { loss: i },
      }));
    const fewest = (a: number, b: number) => overClusters(names, [...pairs(a, 0), ...pairs(b, 1)]).fewest;
    expect([fewest(12, 10), fewest(12, 9), fewest(1, 30)]).toEqual([10, 9, 1]);
    expect(fewClusters('town', 10)).toBeUndefined();
    expect(fewClusters('town', 9)).toMatch(/^a group has pairs of only 9 clusters \(town\)/);
    expect(fewClusters('town', 1)).toContain('only 1 cluster (town)');
    expect(fewClusters(undefined, 9)).toMatch(/^a group has only 9 pairs: fewer than 10 /);
  });

  it('are those over pairs where each pair is by itself', () => {
    const pairs = somePairs(1).map((pair, i) => ({ ...pair, cluster: String(i) }));
    const metrics = new GroupMetrics(names);
    metrics.add(
      pairs.map(({ groups }) => groups[0]!),
      pairs.map(({ weight }) => weight),
      { loss: Float64Array.from(pairs, ({ values }) => values.loss ?? Number.NaN) },
    );
    const { groups, count, crossing } = overClusters(names, pairs);
    expect([count, crossing]).toEqual([90, false]);
    for (const name of names)
      expect(groups[name].standard_error?.loss).toBeCloseTo(
        metrics.summaryWithErrors().groups[name].standard_error?.loss ?? Number.NaN,
        12,
      );
  });

  it('do not change when each pair stands there ten times: they are no ten observations', () => {
    const pairs = somePairs(2, () => 1).map((pair, i) => ({ ...pair, cluster: String(i) }));
    const once = overClusters(names, pairs);
    const often = overClusters(
      names,
      pairs.flatMap((pair) => Array.from({ length: 10 }, () => pair)),
    );
    for (const of of ['mean', 'group_mean', 'worst'] as const) {
      expect(often[of].loss?.[0]).toBeCloseTo(once[of].loss?.[0] ?? Number.NaN, 10);
      expect(often[of].loss?.[1]).toBeCloseTo(once[of].loss?.[1] ?? Number.NaN, 10);
    }
    expect(often.groups.a.standard_error?.loss).toBeCloseTo(once.groups.a.standard_error?.loss ?? Number.NaN, 12);
  });

  it('of equal clusters are s/√G over their means', () => {
    const means = [1, 2, 4, 9];
    const pairs = means.flatMap((mean, c) =>
      [-1, 1].map((noise) => ({ groups: [0], weight: 3, cluster: `c${c}`, values: { loss: mean + noise } })),
    );
    const variance = means.reduce((sum, mean) => sum + (mean - 4) ** 2, 0) / 3;
    expect(overClusters(['a'], pairs).groups.a.standard_error?.loss).toBeCloseTo(Math.sqrt(variance / 4), 12);
  });

  it('are those of means in which the pairs of a cluster are repeated as often as it is drawn', () => {
    const pairs = somePairs(3);
    const clusters = [...new Set(pairs.map(({ cluster }) => cluster))];
    const interval = (statistic: (times: ReadonlyMap<string, number>) => number) =>
      bootstrapInterval(
        clusters.length,
        (times) => statistic(new Map(clusters.map((name, i) => [name, times[i]]))),
        Random.stream(0, 'clusters'),
      );
    const of = (g: number) => pairs.filter(({ groups }) => groups[0] === g);
    const over = overClusters(names, pairs);
    expect(over.crossing).toBe(true);
    for (const [ours, brute] of [
      [over.mean, interval((times) => drawnMean(pairs, times))],
      [over.groups.b.interval, interval((times) => drawnMean(of(1), times))],
      [over.worst, interval((times) => Math.max(drawnMean(of(0), times), drawnMean(of(1), times)))],
      [over.group_mean, interval((times) => (drawnMean(of(0), times) + drawnMean(of(1), times)) / 2)],
    ] as const) {
      expect(ours?.loss?.[0]).toBeCloseTo(brute[0], 10);
      expect(ours?.loss?.[1]).toBeCloseTo(brute[1], 10);
    }
    // Of accuracies the worst is the smallest.
    const worst = (times: ReadonlyMap<string, number>) =>
      Math.min(...[0, 1].map((g) => drawnMean(of(g), times, 'rewards/accuracies')));
    expect(over.worst['rewards/accuracies']?.[0]).toBeCloseTo(interval(worst)[0], 10);
    expect(over.worst['rewards/accuracies']?.[1]).toBeCloseTo(interval(worst)[1], 10);
  });

  it('hold the truth about as often as they say, where those over pairs do not', () => {
    const held = { clusters: 0, pairs: 0 };
    for (let seed = 0; seed < 100; seed++) {
      const random = Random.stream(seed, 'people');
      const pairs = Array.from({ length: 30 }, (_, person) => {
        const own = random.normal();
        return Array.from({ length: 8 }, (_, i) => ({
          groups: [0],
          weight: 1,
          cluster: `user${person}`,
          alone: `pair${person}.${i}`,
          values: { loss: own + random.normal() },
        }));
      }).flat();
      const holds = (of: ClusteredPair[]) => {
        const [low, high] = overClusters(['a'], of).groups.a.interval?.loss ?? [Number.NaN, Number.NaN];
        return Number(low < 0 && 0 < high);
      };
      held.clusters += holds(pairs);
      held.pairs += holds(pairs.map((pair) => ({ ...pair, cluster: pair.alone })));
    }
    // 95 of 100 but for four standard errors; over pairs the interval is about half as wide as it should be.
    expect(held.clusters).toBeGreaterThan(85);
    expect(held.pairs).toBeLessThan(80);
  });

  it('are not given for a group of one cluster, nor for what it is a part of', () => {
    const pairs = somePairs(4).map((pair) => (pair.groups[0] === 1 ? { ...pair, cluster: 'one' } : pair));
    const over = overClusters(names, pairs);
    expect(over.groups.b).toEqual({ clusters: 1 });
    expect(over.groups.a.interval?.loss).toHaveLength(2);
    expect([over.worst, over.group_mean]).toEqual([{}, {}]);
    expect(over.mean.loss).toHaveLength(2);
    const alone = overClusters(
      names,
      pairs.map((pair) => ({ ...pair, cluster: 'one' })),
    );
    expect(alone).toMatchObject({ count: 1, mean: {}, groups: { a: { clusters: 1 }, b: { clusters: 1 } } });
  });

  it('leave out pairs of weight 0 and groups without others', () => {
    const pairs = somePairs(5);
    const idle = { groups: [0], weight: 0, cluster: 'nobody', values: { loss: 99 } };
    expect(overClusters([...names, 'c'], [idle, ...pairs, { ...idle, groups: [2] }])).toEqual(
      overClusters(names, pairs),
    );
  });
});

it('clusters are the values of a column, as text, by line', async () => {
  const folder = temporaryFolder();
  const file = writeLines(folder, 'pairs.jsonl', ['{"user_id": 7}', '', '{"user_id": "7"}', '{"user_id": true}']);
  expect([...(await clustersOf(file, 'user_id'))]).toEqual([
    [1, '7'],
    [3, '7'],
    [4, 'true'],
  ]);
  expect((await inputError(() => clustersOf(file, 'user'))).message).toMatch(
    /:1, field "user": there is no such column/,
  );
  const blank = writeLines(folder, 'blank.jsonl', [{ user_id: 1 }, { user_id: ' ' }]);
  expect((await inputError(() => clustersOf(blank, 'user_id'))).message).toMatch(
    /:2, field "user_id": expected text or/,
  );
});

it('clusters are the values of a field of the people, where it is none of the pairs', async () => {
  const folder = temporaryFolder();
  const pairs = writeLines(folder, 'pairs.jsonl', [
    { who: 1, turn: 'a' },
    { who: 2, turn: 'b' },
    { who: '1', turn: 'a' },
  ]);
  const rows = [
    { who: 1, home: { city: 'Oslo' }, age: 30 },
    { who: 2, home: { city: 'Rome' }, age: null },
  ];
  const people = { file: writeLines(folder, 'people.jsonl', rows), key: 'who' };
  const by = async (column: string) => [...(await clustersOf(pairs, column, people))].map(([, name]) => name);
  expect(await by('home.city')).toEqual(['Oslo', 'Rome', 'Oslo']);
  expect(await by('turn')).toEqual(['a', 'b', 'a']);
  expect(await by('who')).toEqual(['1', '2', '1']);
  const error = async (column: string, source = people) =>
    (await inputError(() => clustersOf(pairs, column, source))).message;
  expect(await error('age')).toMatch(/people\.jsonl:2, field "age": expected text or a number to cluster by, found /);
  expect(await error('sex')).toMatch(/pairs\.jsonl:1, field "sex".*people\.jsonl \(home\.city, age\), or by another/s);
  const both = {
    file: writeLines(
      folder,
      'both.jsonl',
      rows.map((row) => ({ ...row, turn: 'x' })),
    ),
    key: 'who',
  };
  expect(await error('turn', both)).toContain('is a column of the pairs and of');
  const few = { file: writeLines(folder, 'few.jsonl', rows.slice(0, 1)), key: 'who' };
  expect(await error('home.city', few)).toMatch(/pairs\.jsonl:2, field "who": "2" is not in .*few\.jsonl/);
});
