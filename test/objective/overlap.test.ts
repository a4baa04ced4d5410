import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createSampler } from '../../src/data/pairs/sampler.js';
import { GroupTotals, robustStep, type Scaling } from '../../src/objective/aggregate.js';
import { groupWeights, type WeightSettings } from '../../src/objective/group-weights.js';
import { CellWeights } from '../../src/objective/overlap.js';
import { GroupMetrics } from '../../src/train/metrics.js';

/** Pairs of several groups each, and what the loader makes of these. */
interface Overlapping {
  groupCount: number;
  /** [pairs] the groups of each. */
  memberships: number[][];
  /** [pairs] mean 1. */
  weights: number[];
  losses: number[];
  /** [pairs] index of the cell. */
  cell: number[];
  cells: number[][];
}

function overlapping(memberships: number[][], raw: number[], losses: number[]): Overlapping {
  const keys = [...new Set(memberships.map((groups) => groups.join()))];
  const mean = raw.reduce((sum, weight) => sum + weight, 0) / raw.length;
  return {
    groupCount: Math.max(...memberships.flat()) + 1,
    memberships,
    weights: raw.map((weight) => weight / mean),
    losses,
    cell: memberships.map((groups) => keys.indexOf(groups.join())),
    cells: keys.map((key) => key.split(',').map(Number)),
  };
}

/** Three groups, none of which is empty or without weight. */
const problems = fc
  .array(
    fc.record({
      groups: fc.subarray([0, 1, 2], { minLength: 1 }),
      weight: fc.constantFrom(0, 0.5, 1, 3),
      loss: fc.double({ min: 0, max: 4, noNaN: true }),
    }),
    { minLength: 1, maxLength: 12 },
  )
  .map((rows) => [{ groups: [0, 1], weight: 1, loss: 1 }, { groups: [2], weight: 2, loss: 0.5 }, ...rows])
  .map((rows) =>
    overlapping(
      rows.map(({ groups }) => groups),
      rows.map(({ weight }) => weight),
      rows.map(({ loss }) => loss),
    ),
  );

/** Pairs of the group among those with these indices. */
const membersOf = ({ memberships }: Overlapping, group: number, among = [...memberships.keys()]) =>
  among.filter((i) => memberships[i].includes(group));
const sum = (values: number[]) => values.reduce((total, value) => total + value, 0);

/** A step on the pairs with these indices, by cells. */
function stepOn(problem: Overlapping, settings: WeightSettings, batch: number[], scaling: Scaling) {
  const { groupCount, cells, cell, weights, losses } = problem;
  const sizes = Array.from({ length: groupCount }, (_, g) => membersOf(problem, g).length);
  const weighting = groupWeights(settings, sizes);
  const window = (indices: number[]) => {
    const totals = new GroupTotals(cells.length);
    for (const i of indices) totals.add(cell[i], losses[i], weights[i]);
    return totals;
  };
  const all = window([...cell.keys()]);
  const ofCells = new CellWeights(weighting, cells, all.counts, all.weightSums);
  const totals = window(batch);
  const chances = Array.from(all.counts, (count) => count / cell.length);
  return { weighting, robust: robustStep(totals, ofCells.of(totals, scaling), chances, scaling) };
}

describe('a step on groups that overlap', () => {
  const ascent = { weights: 'mirror-ascent', step: 0.7, adjustment: 0.3 } as const;

  it('has group means over members, α over all groups, and a coefficient of a pair that is the sum over its groups', () => {
    fc.assert(
      fc.property(problems, (problem) => {
        const { groupCount, memberships, weights, losses, cell } = problem;
        const everything = [...cell.keys()];
        const { robust, weighting } = stepOn(problem, ascent, everything, 'normalised');
        const groups = Array.from({ length: groupCount }, (_, g) => membersOf(problem, g));
        const masses = groups.map((members) => sum(members.map((i) => weights[i])));
        const means = groups.map((members, g) => sum(members.map((i) => weights[i] * losses[i])) / masses[g]);
        const powers = means.map((mean, g) => Math.exp(0.7 * (mean + 0.3 / Math.sqrt(groups[g].length))));
        const alpha = powers.map((power) => power / sum(powers));
        for (const g of groups.keys()) expect(weighting.alpha[g]).toBeCloseTo(alpha[g], 10);
        expect(robust.loss).toBeCloseTo(sum(means.map((mean, g) => alpha[g] * mean)), 10);
        for (const i of everything)
          expect(robust.coefficients[cell[i]]).toBeCloseTo(sum(memberships[i].map((g) => alpha[g] / masses[g])), 10);
      }),
    );
  });

  it('has the means over the members in the batch with batch-mean signals, n_g of which divides the coefficient', () => {
    fc.assert(
      fc.property(problems, fc.integer({ min: 1, max: 4 }), (problem, every) => {
        const { groupCount, memberships, weights, losses, cell } = problem;
        const batch = [...cell.keys()].filter((i) => i % every === 0);
        const { robust, weighting } = stepOn(problem, ascent, batch, 'batch-mean');
        const masses = Array.from({ length: groupCount }, (_, g) =>
          sum(membersOf(problem, g, batch).map((i) => weights[i])),
        );
        const means = masses.map((mass, g) =>
          mass === 0 ? 0 : sum(membersOf(problem, g, batch).map((i) => weights[i] * losses[i])) / mass,
        );
        expect(robust.loss).toBeCloseTo(sum(means.map((mean, g) => weighting.alpha[g] * mean)), 10);
        for (const i of batch)
          if (weights[i] > 0)
            expect(robust.coefficients[cell[i]]).toBeCloseTo(
              sum(memberships[i].map((g) => weighting.alpha[g] / masses[g])),
              10,
            );
      }),
    );
  });

  it('of erm is that of the plain mean over pairs, of importance that of the pairs’ summed weights', () => {
    fc.assert(
      fc.property(problems, (problem) => {
        const { groupCount, memberships, weights, losses, cell } = problem;
        const everything = [...cell.keys()];
        const erm = stepOn(problem, { weights: 'erm' }, everything, 'normalised').robust;
        expect(erm.loss).toBeCloseTo(sum(everything.map((i) => weights[i] * losses[i])) / cell.length, 10);
        for (const i of everything) expect(erm.coefficients[cell[i]]).toBeCloseTo(1 / cell.length, 12);
        const masses = Array.from({ length: groupCount }, (_, g) => sum(membersOf(problem, g).map((i) => weights[i])));
        const even = stepOn(problem, { weights: 'importance' }, everything, 'normalised').robust;
        for (const i of everything)
          expect(even.coefficients[cell[i]]).toBeCloseTo(
            sum(memberships[i].map((g) => 1 / masses[g])) / groupCount,
            10,
          );
      }),
    );
  });

  it('is the step on groups, to the bit, where each pair is of one', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(2), fc.double({ min: 0, max: 9, noNaN: true })), { minLength: 3 }),
        (rows) => {
          const groups = [0, 1, 2, ...rows.map(([group]) => group)];
          const losses = [1, 2, 3, ...rows.map(([, loss]) => loss)];
          for (const scaling of ['normalised', 'paper', 'batch-mean'] as const)
            for (const settings of [ascent, { weights: 'erm' }, { weights: 'exp3', step: 0.2, chi: 0.5 }] as const) {
              const totals = new GroupTotals(3);
              for (const [i, group] of groups.entries()) totals.add(group, losses[i]);
              const chances = Array.from(totals.counts, (count) => count / groups.length);
              const plain = groupWeights(settings, totals.counts);
              const expected = robustStep(totals, plain, chances, scaling);
              const lifted = groupWeights(settings, totals.counts);
              const cells = new CellWeights(lifted, [[0], [1], [2]], totals.counts, totals.counts);
              const { loss, signal, coefficients } = robustStep(totals, cells.of(totals, scaling), chances, scaling);
              expect({ loss, signal, coefficients, alpha: lifted.alpha }).toEqual({
                loss: expected.loss,
                signal: expected.signal,
                coefficients: expected.coefficients,
                alpha: plain.alpha,
              });
            }
        },
      ),
      { numRuns: 30 },
    );
  });
});

describe('metrics of groups that overlap', () => {
  it('are means over all members of each, and count a pair once in the mean over pairs', () => {
    fc.assert(
      fc.property(problems, (problem) => {
        const { groupCount, weights, losses, cell, cells } = problem;
        const names = Array.from({ length: groupCount }, (_, g) => `g${g}`);
        const metrics = new GroupMetrics(names, cells);
        metrics.add(cell, weights, { loss: Float64Array.from(losses) });
        const whole = metrics.summaryWithErrors();
        const means = names.map((name, g) => {
          const members = membersOf(problem, g);
          const mass = sum(members.map((i) => weights[i]));
          const mean = sum(members.map((i) => weights[i] * losses[i])) / mass;
          expect(whole.groups[name].count).toBe(members.length);
          expect(whole.groups[name].loss).toBeCloseTo(mean, 10);
          const used = members.filter((i) => weights[i] > 0);
          const squares = sum(used.map((i) => (weights[i] * (losses[i] - mean)) ** 2));
          const error = Math.sqrt((squares * used.length) / (used.length - 1)) / mass;
          if (used.length > 1) expect(whole.groups[name].standard_error?.loss).toBeCloseTo(error, 7);
          return mean;
        });
        expect(whole.worst.loss).toBeCloseTo(Math.max(...means), 10);
        expect(whole.group_mean.loss).toBeCloseTo(sum(means) / groupCount, 10);
        expect(whole.mean.loss).toBeCloseTo(sum(losses.map((loss, i) => weights[i] * loss)) / sum(weights), 10);
        // As several processes add them up.
        const halves = [0, 1].map((half) => {
          const own = [...cell.keys()].filter((i) => i % 2 === half);
          const part = new GroupMetrics(names, cells);
          part.add(
            own.map((i) => cell[i]),
            own.map((i) => weights[i]),
            { loss: Float64Array.from(own, (i) => losses[i]) },
          );
          return part.numbers();
        });
        const joined = new GroupMetrics(names, cells);
        joined.setNumbers(halves[0].map((value, i) => value + halves[1][i]));
        expect(joined.summary().worst.loss).toBeCloseTo(whole.worst.loss ?? Number.NaN, 10);
      }),
    );
  });
});

describe('draws of groups that overlap', () => {
  // Groups of 6, 4 and 2 members.
  const problem = overlapping(
    [[0, 1], [0], [0, 1, 2], [0, 1], [0], [0], [1, 2]],
    new Array(7).fill(1),
    new Array(7).fill(1),
  );
  const groups = Int32Array.from(problem.cell);
  const options = { groups, cells: problem.cells, groupCount: 3, batchSize: 5, seed: 4 };
  const sizes = [0, 1, 2].map((g) => membersOf(problem, g).length);

  it.each([
    ['proportional', undefined],
    ['balanced', [1 / 3, 1 / 3, 1 / 3]],
    ['stratified', [2 / 5, 2 / 5, 1 / 5]],
  ] as const)('%s: come as often as they say, by cell and by group', (kind, drawnFor) => {
    const sampler = createSampler({ ...options, kind });
    const chance = problem.memberships.map((own) =>
      drawnFor ? sum(own.map((g) => drawnFor[g] / sizes[g])) : 1 / groups.length,
    );
    const ofCells = problem.cells.map((_, c) => sum(chance.filter((_, i) => problem.cell[i] === c)));
    for (const [c, expected] of ofCells.entries()) expect(sampler.cellProbabilities[c]).toBeCloseTo(expected, 12);
    for (const g of sizes.keys())
      expect(sampler.groupProbabilities[g]).toBeCloseTo(sum(membersOf(problem, g).map((i) => chance[i])), 12);
    const seen = problem.memberships.map(() => 0);
    let draws = 0;
    while (draws < 14_000)
      for (const pair of sampler.next()) {
        seen[pair]++;
        draws++;
      }
    for (const [i, expected] of chance.entries()) expect(Math.abs(seen[i] / draws - expected)).toBeLessThan(0.012);
    expect(sampler.describe().groups.map(({ count }) => count)).toEqual(sizes);
  });

  it.each(['proportional', 'balanced', 'stratified'] as const)('%s: estimate the group means without bias', (kind) => {
    const sampler = createSampler({ ...options, batchSize: 3, kind });
    const losses = problem.cell.map((_, i) => (i + 1) ** 2);
    const all = new GroupTotals(problem.cells.length);
    for (const c of problem.cell) all.add(c, 0);
    // Weights that see what they are given.
    const seen: Float64Array[] = [];
    const weighting = groupWeights({ weights: 'uniform' }, sizes);
    const next = (signal: Float64Array) => {
      seen.push(signal.slice());
      return weighting.next(signal);
    };
    const spy = { ...weighting, next };
    const cells = new CellWeights(spy, problem.cells, all.counts, all.counts);
    for (let step = 0; step < 9000; step++) {
      const totals = new GroupTotals(problem.cells.length);
      for (const i of sampler.next()) totals.add(problem.cell[i], losses[i]);
      robustStep(totals, cells.of(totals, 'normalised'), sampler.cellProbabilities);
    }
    for (const [g, size] of sizes.entries()) {
      const values = seen.map((signal) => signal[g]);
      const mean = sum(values) / values.length;
      const error = Math.sqrt(sum(values.map((value) => (value - mean) ** 2))) / values.length;
      const exact = sum(membersOf(problem, g).map((i) => losses[i])) / size;
      expect(Math.abs(mean - exact)).toBeLessThan(4 * error);
    }
  });

  it('stay the same where cells are given and no group overlaps', () => {
    const plain = { groups: Int32Array.of(0, 1, 0, 2, 1, 0), groupCount: 3, batchSize: 3, seed: 9 };
    for (const kind of ['proportional', 'balanced', 'stratified'] as const) {
      const [one, other] = [
        createSampler({ ...plain, kind }),
        createSampler({ ...plain, kind, cells: [[0], [1], [2]] }),
      ];
      for (let i = 0; i < 8; i++) expect(other.next()).toEqual(one.next());
      expect(other.cellProbabilities).toEqual(one.groupProbabilities);
    }
  });
});
