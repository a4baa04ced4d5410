import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createSampler, type SamplerKind } from '../../src/data/pairs/sampler.js';
import { inputError } from './helpers.js';

const KINDS: SamplerKind[] = ['proportional', 'balanced', 'stratified'];

/** Group of each pair, groups mixed through one another. */
function groupsOf(counts: number[]): Int32Array {
  const groups = counts.flatMap((count, group) => Array.from({ length: count }, () => group));
  return Int32Array.from(groups.map((_, i) => groups[(i * 7919) % groups.length]));
}

const settings = fc
  .record({
    counts: fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 4 }),
    batchSize: fc.integer({ min: 4, max: 12 }),
    seed: fc.nat(),
    kind: fc.constantFrom(...KINDS),
  })
  // 7919 is prime: the mixing above is a permutation unless it divides the size, which is far smaller.
  .map(({ counts, ...rest }) => ({ ...rest, groups: groupsOf(counts), groupCount: counts.length }));

describe('createSampler', () => {
  it('proportional: every pair exactly once an epoch, the last batch kept (5 pairs, batch 2)', () => {
    const sampler = createSampler({
      kind: 'proportional',
      groups: groupsOf([4, 1]),
      groupCount: 2,
      batchSize: 2,
      seed: 1,
    });
    for (let epoch = 0; epoch < 3; epoch++) {
      expect(sampler.epoch).toBe(epoch);
      const batches = Array.from({ length: sampler.batchesPerEpoch }, () => sampler.next());
      expect(batches.map((batch) => batch.length)).toEqual([2, 2, 1]);
      expect(batches.flatMap((batch) => [...batch]).sort()).toEqual([0, 1, 2, 3, 4]);
    }
  });

  it('draws the pairs of one group and prompt one after another, and single ones as before', () => {
    fc.assert(
      fc.property(settings, fc.integer({ min: 1, max: 4 }), (options, prompts) => {
        const numbers = options.groups.map((_, pair) => pair % prompts);
        const sampler = createSampler({ ...options, prompts: numbers });
        const draws = Array.from({ length: 20 }, () => [...sampler.next()]).flat();
        for (let group = 0; group < options.groupCount; group++) {
          // Proportional batches have one cycle for all groups; a group's own draws are in units all the same.
          const own = draws.filter((pair) => options.groups[pair] === group);
          const size = options.groups.filter((g) => g === group).length;
          for (let pass = 0; pass + size <= own.length; pass += size) {
            const units = own.slice(pass, pass + size).map((pair) => numbers[pair]);
            const changes = units.filter((unit, i) => i === 0 || unit !== units[i - 1]).length;
            expect(changes).toBe(new Set(units).size);
            expect(new Set(own.slice(pass, pass + size)).size).toBe(size);
          }
        }
        const [single, plain] = [{ ...options, prompts: Int32Array.from(options.groups.keys()) }, options].map(
          createSampler,
        );
        for (let i = 0; i < 9; i++) expect(single.next()).toEqual(plain.next());
      }),
    );
  });

  it('takes the whole set as one batch when the batch is larger', () => {
    const sampler = createSampler({
      kind: 'proportional',
      groups: groupsOf([3]),
      groupCount: 1,
      batchSize: 10,
      seed: 1,
    });
    expect([...sampler.next()].sort()).toEqual([0, 1, 2]);
    expect([...sampler.next()].sort()).toEqual([0, 1, 2]);
    expect(sampler.epoch).toBe(2);
  });

  it('cycles through each group without repeats, whatever the kind', () => {
    fc.assert(
      fc.property(settings, (options) => {
        const sampler = createSampler(options);
        const seen = options.groups.map(() => 0);
        for (let i = 0; i < 20; i++) for (const pair of sampler.next()) seen[pair]++;
        for (let group = 0; group < options.groupCount; group++) {
          const counts = [...seen].filter((_, pair) => options.groups[pair] === group);
          expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
        }
      }),
    );
  });

  it('draws group g with probability p_g (4 standard errors, 40,000 draws)', () => {
    const groups = groupsOf([36, 27, 18, 12, 7]);
    for (const kind of KINDS) {
      const sampler = createSampler({ kind, groups, groupCount: 5, batchSize: 8, seed: 3 });
      const drawn = [0, 0, 0, 0, 0];
      for (let i = 0; i < 5000; i++) for (const pair of sampler.next()) drawn[groups[pair]]++;
      const total = drawn.reduce((sum, count) => sum + count, 0);
      drawn.forEach((count, group) => {
        const p = sampler.groupProbabilities[group];
        expect(Math.abs(count / total - p), `${kind} ${group}`).toBeLessThan(4 * Math.sqrt((p * (1 - p)) / total));
      });
    }
  });

  it('estimates group means without bias: averaged over batches, they are the true means', () => {
    const groups = groupsOf([13, 5, 2]);
    const values = Float64Array.from(groups, (group, pair) => 10 * group + Math.sin(pair));
    const truth = [0, 1, 2].map((group) => {
      const members = values.filter((_, pair) => groups[pair] === group);
      return members.reduce((sum, value) => sum + value, 0) / members.length;
    });
    for (const kind of KINDS) {
      const sampler = createSampler({ kind, groups, groupCount: 3, batchSize: 4, seed: 8 });
      const sums = [0, 0, 0];
      let draws = 0;
      for (let i = 0; i < 20_000; i++)
        for (const pair of sampler.next()) {
          // Inverse-probability weights, as the trainer's estimate of a group's mean loss uses them.
          sums[groups[pair]] += values[pair] / sampler.groupProbabilities[groups[pair]];
          draws++;
        }
      sums.forEach((sum, group) => {
        expect(Math.abs(sum / draws - truth[group]), `${kind} ${group}`).toBeLessThan(0.02 * (1 + truth[group]));
      });
    }
  });

  it('stratified: the same number of each group in every batch, at least one, near the shares', () => {
    const groups = groupsOf([36, 27, 18, 12, 7]);
    const sampler = createSampler({ kind: 'stratified', groups, groupCount: 5, batchSize: 16, seed: 3 });
    for (let i = 0; i < 10; i++) {
      const counts = [0, 0, 0, 0, 0];
      for (const pair of sampler.next()) counts[groups[pair]]++;
      expect(counts).toEqual([6, 4, 3, 2, 1]);
    }
    const tight = createSampler({
      kind: 'stratified',
      groups: groupsOf([90, 5, 5]),
      groupCount: 3,
      batchSize: 3,
      seed: 3,
    });
    expect([...tight.groupProbabilities]).toEqual([1 / 3, 1 / 3, 1 / 3]);
  });

  it('gives out all places of a stratified batch, at least one each', () => {
    fc.assert(
      fc.property(settings, (options) => {
        const { groupProbabilities } = createSampler({ ...options, kind: 'stratified' });
        expect(groupProbabilities.reduce((sum, p) => sum + p, 0)).toBeCloseTo(1, 12);
        for (const p of groupProbabilities) expect(p * options.batchSize).toBeGreaterThan(0.99);
      }),
    );
  });

  it('says what an epoch means: 90 and 10 pairs, balanced, repeat 0.56 and 5 times', () => {
    const sampler = createSampler({
      kind: 'balanced',
      groups: groupsOf([90, 10]),
      groupCount: 2,
      batchSize: 10,
      seed: 1,
    });
    const plan = sampler.describe();
    expect(plan.batchesPerEpoch).toBe(10);
    expect(plan.groups[0]).toMatchObject({ count: 90, probability: 0.5 });
    expect(plan.groups[0].repeatsPerEpoch).toBeCloseTo(0.5556, 4);
    expect(plan.groups[1].repeatsPerEpoch).toBeCloseTo(5, 12);
  });

  it('repeats itself with the same seed, differs with another, and continues from a state through JSON', () => {
    fc.assert(
      fc.property(settings, fc.nat(15), (options, steps) => {
        const [first, second] = [createSampler(options), createSampler(options)];
        for (let i = 0; i < steps; i++) expect(first.next()).toEqual(second.next());
        const resumed = createSampler(options);
        resumed.restore(JSON.parse(JSON.stringify(first.state())));
        for (let i = 0; i < 15; i++) {
          expect(resumed.next()).toEqual(first.next());
          expect(resumed.epoch).toBe(first.epoch);
        }
      }),
    );
    const draw = (seed: number) => [
      ...createSampler({ kind: 'proportional', groups: groupsOf([50]), groupCount: 1, batchSize: 50, seed }).next(),
    ];
    expect(draw(1)).not.toEqual(draw(2));
  });

  it('refuses what it cannot draw from', async () => {
    const groups = groupsOf([2, 3]);
    await inputError(() => createSampler({ kind: 'balanced', groups, groupCount: 3, batchSize: 4, seed: 0 }));
    await inputError(() => createSampler({ kind: 'stratified', groups, groupCount: 2, batchSize: 1, seed: 0 }));
    await inputError(() => createSampler({ kind: 'proportional', groups, groupCount: 2, batchSize: 0, seed: 0 }));
  });
});
