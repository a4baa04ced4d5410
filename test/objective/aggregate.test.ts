import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { GroupTotals, robustStep } from '../../src/objective/aggregate.js';
import { groupWeights, type WeightSettings } from '../../src/objective/group-weights.js';
import { MirrorAscent } from '../../src/objective/moving-weights.js';

interface Pair {
  group: number;
  loss: number;
  weight: number;
}

function totalsOf(pairs: Pair[], groupCount: number): GroupTotals {
  const totals = new GroupTotals(groupCount);
  for (const { group, loss, weight } of pairs) totals.add(group, loss, weight);
  return totals;
}

const everyPairOf = (groups: number[][]): Pair[] =>
  groups.flatMap((losses, group) => losses.map((loss) => ({ group, loss, weight: 1 })));

const sizesOf = (groups: number[][]) => groups.map((losses) => losses.length);
const proportional = (sizes: number[]) => sizes.map((n) => n / sizes.reduce((sum, m) => sum + m, 0));

const data = fc.array(fc.array(fc.double({ min: 0, max: 20, noNaN: true }), { minLength: 1, maxLength: 6 }), {
  minLength: 1,
  maxLength: 4,
});

const methods: WeightSettings[] = [
  { weights: 'erm' },
  { weights: 'uniform' },
  { weights: 'importance' },
  { weights: 'mirror-ascent', step: 0.3, chi: 0.7, adjustment: 0.2 },
  { weights: 'optimistic', step: 0.3, ambiguity: { set: 'kl', radius: 0.1, shares: 'uniform' } },
  { weights: 'best-response', ambiguity: { set: 'cvar', level: 0.5, shares: 'uniform' } },
];

describe('robust aggregation', () => {
  it('over the full data the signal is the group mean, and erm is the plain mean', () => {
    fc.assert(
      fc.property(data, (groups) => {
        const sizes = sizesOf(groups);
        const totals = totalsOf(everyPairOf(groups), groups.length);
        const { signal, loss } = robustStep(totals, groupWeights({ weights: 'erm' }, sizes), proportional(sizes));
        groups.forEach((losses, g) => {
          expect(signal[g]).toBeCloseTo(losses.reduce((sum, l) => sum + l, 0) / losses.length, 9);
          expect(totals.means()[g]).toBeCloseTo(signal[g], 9);
        });
        const all = groups.flat();
        expect(loss).toBeCloseTo(all.reduce((sum, l) => sum + l, 0) / all.length, 9);
      }),
    );
  });

  it('is unbiased under proportional sampling: single draws average to the group means', () => {
    // N = (1, 4), losses {1} and {2, 3, 4, 3}: Σ over samples of (1/N)(N/N_g) l = (1, 3).
    const groups = [[1], [2, 3, 4, 3]];
    const mean = new Float64Array(2);
    for (const pair of everyPairOf(groups)) {
      const step = robustStep(totalsOf([pair], 2), groupWeights({ weights: 'uniform' }, [1, 4]), [0.2, 0.8]);
      step.signal.forEach((value, g) => {
        mean[g] += value / 5;
      });
    }
    expect([...mean]).toEqual([1, 3]);
  });

  it('is unbiased under balanced sampling', () => {
    const groups = [[1], [2, 3, 4, 3]];
    const mean = new Float64Array(2);
    groups.forEach((losses, group) => {
      for (const loss of losses) {
        const step = robustStep(
          totalsOf([{ group, loss, weight: 1 }], 2),
          groupWeights({ weights: 'uniform' }, [1, 4]),
          [0.5, 0.5],
        );
        step.signal.forEach((value, g) => {
          mean[g] += (0.5 / losses.length) * value;
        });
      }
    });
    expect([...mean]).toEqual([1, 3]);
  });

  it('weights (0.25, 0.75) on means (1, 2) give 1.75: no stray factor K', () => {
    const totals = totalsOf(everyPairOf([[1], [2]]), 2);
    const weighting = groupWeights({ weights: 'importance', pairWeights: [1, 3] }, [1, 1]);
    expect(robustStep(totals, weighting, [0.5, 0.5]).loss).toBe(1.75);
  });

  it.each(methods)('%j: coefficients give the gradient of the loss in each pair loss', (settings) => {
    fc.assert(
      fc.property(data, (groups) => {
        const sizes = sizesOf(groups);
        const pairs = everyPairOf(groups);
        const start = groupWeights(settings, sizes);
        const step = robustStep(totalsOf(pairs, groups.length), start, proportional(sizes));
        // The θ-weights are constants of the step, so the loss is linear in the pair losses.
        const linear = pairs.reduce((sum, { group, loss }) => sum + step.coefficients[group] * loss, 0);
        expect(linear).toBeCloseTo(step.loss, 9);
        expect(step.weights.reduce((sum, w) => sum + w, 0)).toBeCloseTo(1, 12);
      }),
    );
  });

  it('duplicating a group’s pairs changes nothing for uniform, importance and mirror ascent', () => {
    fc.assert(
      fc.property(data, fc.integer({ min: 2, max: 4 }), (groups, times) => {
        const repeated = groups.map((losses, g) =>
          g === 0 ? Array.from({ length: times }, () => losses).flat() : losses,
        );
        for (const settings of methods.slice(1).map((method) => ({ ...method, adjustment: 0 }))) {
          const [before, after] = [groups, repeated].map((grouped) => {
            const sizes = sizesOf(grouped);
            const totals = totalsOf(everyPairOf(grouped), grouped.length);
            return robustStep(totals, groupWeights(settings as WeightSettings, sizes), proportional(sizes));
          });
          expect(after.loss).toBeCloseTo(before.loss, 9);
          after.weights.forEach((weight, g) => {
            expect(weight).toBeCloseTo(before.weights[g], 9);
          });
        }
      }),
    );
  });

  it('with one group every method is the plain loss, bit for bit', () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0, max: 9, noNaN: true }), { minLength: 1 }), (losses) => {
        const totals = totalsOf(everyPairOf([losses]), 1);
        const plain = robustStep(totals, groupWeights({ weights: 'erm' }, [losses.length]), [1]);
        for (const settings of methods) {
          const step = robustStep(totals, groupWeights(settings, [losses.length]), [1]);
          expect(step.loss).toBe(plain.loss);
          expect(step.coefficients[0]).toBe(plain.coefficients[0]);
        }
      }),
    );
  });

  it('step 0 is uniform, bit for bit', () => {
    const totals = totalsOf(everyPairOf([[1, 2], [5], [0.3]]), 3);
    const zero = robustStep(totals, groupWeights({ weights: 'mirror-ascent', step: 0 }, [2, 1, 1]), [0.5, 0.25, 0.25]);
    const uniform = robustStep(totals, groupWeights({ weights: 'uniform' }, [2, 1, 1]), [0.5, 0.25, 0.25]);
    expect(zero).toEqual(uniform);
  });

  it('an absent group has signal and coefficient 0, never NaN, and only loses relative weight', () => {
    const weighting = new MirrorAscent({ step: 0.5 }, [2, 2]);
    const step = robustStep(totalsOf([{ group: 0, loss: 2, weight: 1 }], 2), weighting, [0.5, 0.5]);
    expect(step.signal[1]).toBe(0);
    expect(step.coefficients[1]).toBe(0);
    expect(weighting.logAlpha[0] - weighting.logAlpha[1]).toBeCloseTo(2, 12);
  });

  it('a duplicated batch leaves the normalised loss and doubles the paper’s', () => {
    const pairs = everyPairOf([[1, 4], [2]]);
    for (const [scaling, factor] of [
      ['normalised', 1],
      ['paper', 2],
    ] as const) {
      const once = robustStep(
        totalsOf(pairs, 2),
        groupWeights({ weights: 'uniform' }, [2, 1]),
        [2 / 3, 1 / 3],
        scaling,
      );
      const twice = robustStep(
        totalsOf([...pairs, ...pairs], 2),
        groupWeights({ weights: 'uniform' }, [2, 1]),
        [2 / 3, 1 / 3],
        scaling,
      );
      expect(twice.loss / once.loss).toBeCloseTo(factor, 12);
    }
  });

  it('batch-mean: signal and gradient are those of the group’s own mean, however many pairs were drawn', () => {
    const pairs: Pair[] = [
      { group: 0, loss: 1, weight: 1 },
      { group: 0, loss: 4, weight: 3 },
      { group: 2, loss: 5, weight: 0.5 },
    ];
    const weighting = groupWeights({ weights: 'importance', pairWeights: [1, 1, 2] }, [1, 1, 1]);
    const step = robustStep(totalsOf(pairs, 3), weighting, [0.9, 0.05, 0.05], 'batch-mean');
    expect([...step.signal]).toEqual([13 / 4, 0, 5]);
    expect(step.loss).toBeCloseTo(0.25 * (13 / 4) + 0.5 * 5, 12);
    expect([...step.coefficients]).toEqual([0.25 / 4, 0, 0.5 / 0.5]);
    const silent = robustStep(
      totalsOf([{ group: 0, loss: 1, weight: 0 }], 1),
      groupWeights({ weights: 'erm' }, [1]),
      [1],
      'batch-mean',
    );
    expect([silent.loss, silent.coefficients[0]]).toEqual([0, 0]);
  });

  it('the authors’ alpha step 5e-7 on sums over 8 pairs equals 4e-6 on normalised losses', () => {
    const pairs = everyPairOf([
      [2500, 2400, 2300, 2200],
      [2600, 2500, 2400, 2300],
    ]);
    const paper = new MirrorAscent({ step: 5e-7 }, [4, 4]);
    const normalised = new MirrorAscent({ step: 4e-6 }, [4, 4]);
    robustStep(totalsOf(pairs, 2), paper, [0.5, 0.5], 'paper');
    robustStep(totalsOf(pairs, 2), normalised, [0.5, 0.5]);
    expect(paper.alpha[0]).toBeCloseTo(normalised.alpha[0], 15);
  });

  it('pair weights (2, 0) within a group equal dropping the second pair', () => {
    const weighted = totalsOf(
      [
        { group: 0, loss: 3, weight: 2 },
        { group: 0, loss: 50, weight: 0 },
      ],
      1,
    );
    const dropped = totalsOf([{ group: 0, loss: 3, weight: 1 }], 1);
    const one = groupWeights({ weights: 'uniform' }, [1]);
    expect(robustStep(weighted, one, [1]).loss).toBe(robustStep(dropped, one, [1]).loss);
    expect(weighted.means()).toEqual(dropped.means());
  });
});
