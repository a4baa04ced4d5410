import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { GroupTotals, robustStep } from '../../src/objective/aggregate.js';
import { groupWeights, inverseFrequency, type WeightSettings } from '../../src/objective/group-weights.js';
import { MirrorAscent } from '../../src/objective/moving-weights.js';
import { entropy, logSumExp, raiseToFloor } from '../../src/objective/simplex.js';

/** α after one move from the given start on the given losses. */
function moved(alpha: number[], losses: number[], settings: Partial<ConstructorParameters<typeof MirrorAscent>[0]>) {
  const weights = new MirrorAscent(
    { step: 0, ...settings },
    losses.map(() => 1),
  );
  weights.restore({ logAlpha: alpha.map(Math.log), alpha });
  weights.next(Float64Array.from(losses));
  return [...weights.alpha];
}

function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>, digits = 9) {
  expect(actual.length).toBe(expected.length);
  for (let i = 0; i < expected.length; i++) expect(actual[i]).toBeCloseTo(expected[i], digits);
}

const losses = fc.array(fc.double({ min: 0, max: 50, noNaN: true }), { minLength: 1, maxLength: 6 });

describe('mirror ascent on alpha', () => {
  it('matches worked steps', () => {
    expectClose(moved([0.5, 0.5], [1, 2], { step: 0.5 }), [0.377540668798, 0.622459331202]);
    expectClose(moved([0.2, 0.3, 0.5], [3, 0, 1], { step: 0.1 }), [0.2404971048, 0.267246955885, 0.492255939315]);
    const weights = new MirrorAscent({ step: 0.1 }, [1, 1, 1]);
    for (let t = 0; t < 10; t++) weights.next(Float64Array.of(1, 2, 3));
    expectClose(weights.alpha, [0.09003057, 0.24472847, 0.66524096], 8);
  });

  it('is unmoved by a shift of all losses and by step 0', () => {
    fc.assert(
      fc.property(losses, fc.double({ min: -1e3, max: 1e3, noNaN: true }), (values, shift) => {
        const uniform = values.map(() => 1 / values.length);
        expectClose(
          moved(uniform, values, { step: 0.3 }),
          moved(
            uniform,
            values.map((v) => v + shift),
            { step: 0.3 },
          ),
        );
        expectClose(moved(uniform, values, { step: 0 }), uniform, 14);
      }),
    );
  });

  it('follows a permutation of the groups', () => {
    fc.assert(
      fc.property(losses, fc.integer({ min: 1, max: 5 }), (values, turn) => {
        const turned = (xs: number[]) => xs.map((_, g) => xs[(g + turn) % xs.length]);
        const uniform = values.map(() => 1 / values.length);
        expectClose(moved(uniform, turned(values), { step: 0.7 }), turned(moved(uniform, values, { step: 0.7 })));
      }),
    );
  });

  it('stays finite on huge exponents, and a floor keeps every group alive', () => {
    const [first, second] = moved([0.5, 0.5], [25000, 0], { step: 1 });
    expect(first).toBeCloseTo(1, 12);
    expect(Number.isFinite(second)).toBe(true);
    expectClose(moved([0.5, 0.5], [1e6, 0], { step: 1, floor: 1e-3 }), [0.999, 0.001], 12);
    // A group that was driven to nothing comes back once it is the worst.
    const weights = new MirrorAscent({ step: 1 }, [1, 1]);
    weights.next(Float64Array.of(25000, 0));
    weights.next(Float64Array.of(0, 25000));
    expectClose(weights.alpha, [0.5, 0.5]);
  });

  it('adds C/sqrt(n_g) in the alpha step only, per group, zeros allowed', () => {
    const equal = Float64Array.of(0.5, 0.5);
    const weights = new MirrorAscent({ step: 0.5, adjustment: 1 }, [60, 240]);
    weights.next(equal);
    expectClose(weights.alpha, [0.508068014968, 0.491931985032]);
    const one = new MirrorAscent({ step: 1, adjustment: [0, 1] }, [4, 100]);
    one.next(equal);
    expect(one.logAlpha[1] - one.logAlpha[0]).toBeCloseTo(0.1, 12);
    // adjusted losses (1.0, 0.6) for C = 1, n = (4, 100)
    const both = new MirrorAscent({ step: 1, adjustment: 1 }, [4, 100]);
    both.next(equal);
    expect(both.logAlpha[0] - both.logAlpha[1]).toBeCloseTo(0.4, 12);
  });

  it('chi scales the exponent and mixes the theta weights with uniform', () => {
    const weights = new MirrorAscent({ step: 0.5, chi: 0.4 }, [1, 1]);
    const theta = weights.next(Float64Array.of(1, 2));
    const alpha1 = 1 / (1 + Math.exp(-0.2));
    expectClose(weights.alpha, [1 - alpha1, alpha1]);
    expectClose(theta, [0.3 + 0.4 * (1 - alpha1), 0.3 + 0.4 * alpha1]);
    expectClose(new MirrorAscent({ step: 0.5, chi: 0 }, [1, 1]).next(Float64Array.of(1, 2)), [0.5, 0.5], 15);
  });

  it('knows the weights on theta apart from alpha, at the start, after a step, and put back', () => {
    const start = new MirrorAscent({ step: 5, chi: 0.1 }, [1, 1, 1]);
    expectClose(start.weights, [1 / 3, 1 / 3, 1 / 3], 15);
    const weighting = new MirrorAscent({ step: 5, chi: 0.1, order: 'simultaneous' }, [1, 1, 1]);
    const used = weighting.next(Float64Array.of(1000, 0, 0));
    // α is all on one group; a tenth of it is what θ sees, from the next step on.
    expectClose(weighting.alpha, [1, 0, 0], 12);
    expectClose(weighting.weights, [0.4, 0.3, 0.3], 12);
    expectClose(used, [1 / 3, 1 / 3, 1 / 3], 15);
    start.restore(weighting.state());
    expectClose(start.weights, [0.4, 0.3, 0.3], 12);
    const fixed = groupWeights({ weights: 'erm' }, [1, 3]);
    expect(fixed.weights).toEqual(fixed.alpha);
  });

  it('alternating steps use the new alpha, simultaneous ones the old', () => {
    // Algorithm 1, N = (1, 4), θ = 0, DPO β = 1, η_α = 0.1, draw of group 0 with d = 1: signal (5 ln 2, 0).
    const signal = Float64Array.of(5 * Math.LN2, 0);
    const alternating = new MirrorAscent({ step: 0.1 }, [1, 4]).next(signal);
    const simultaneous = new MirrorAscent({ step: 0.1, order: 'simultaneous' }, [1, 4]).next(signal);
    expectClose(alternating, [0.585786437627, 0.414213562373]);
    expectClose(simultaneous, [0.5, 0.5], 15);
    // θ = η_θ (N/N_0) α_0 / 2 with η_θ = 0.2
    expect(0.2 * 5 * alternating[0] * 0.5).toBeCloseTo(0.2928932188134525, 9);
    expect(0.2 * 5 * simultaneous[0] * 0.5).toBeCloseTo(0.25, 12);
    const second = new MirrorAscent({ step: 0.1 }, [1, 4]).next(Float64Array.of(0, 1.25 * Math.LN2));
    expectClose(second, [0.47835269125, 0.52164730875]);
  });

  it('survives the authors’ default setting that overflows single precision', () => {
    // IPO β = 0.01, 8 pairs, sums not means, rate 0.01: exponents of 200 and more.
    const totals = new GroupTotals(2);
    for (let i = 0; i < 8; i++) totals.add(i % 2, 2500);
    const weights = new MirrorAscent({ step: 0.01 }, [4, 4]);
    for (let t = 0; t < 50; t++) robustStep(totals, weights, [0.5, 0.5], 'paper');
    expectClose(weights.alpha, [0.5, 0.5]);
  });
});

describe('fixed weights', () => {
  it('erm is N_g/N, uniform and importance are 1/K, inverse frequencies of 60/240 are .8/.2', () => {
    const sizes = [60, 240];
    expectClose(groupWeights({ weights: 'erm' }, sizes).alpha, [0.2, 0.8], 15);
    expectClose(groupWeights({ weights: 'uniform' }, sizes).alpha, [0.5, 0.5], 15);
    expectClose(groupWeights({ weights: 'importance' }, sizes).alpha, [0.5, 0.5], 15);
    expectClose(groupWeights({ weights: 'importance', pairWeights: [1, 1] }, sizes).alpha, [0.2, 0.8], 15);
    expectClose(inverseFrequency(sizes), [0.8, 0.2], 15);
  });

  it.each<[WeightSettings, string]>([
    [{ weights: 'mirror-ascent', step: -1 }, 'step'],
    [{ weights: 'mirror-ascent', step: 1, chi: 1.5 }, 'chi'],
    [{ weights: 'mirror-ascent', step: 1, floor: 0.6 }, 'floor'],
    [{ weights: 'mirror-ascent', step: 1, adjustment: [1] }, 'adjustment'],
    [{ weights: 'mirror-ascent', step: 1, adjustment: -1 }, 'adjustment'],
    [{ weights: 'importance', pairWeights: [1] }, 'pairWeights'],
    [{ weights: 'importance', pairWeights: [0, 0] }, 'pairWeights'],
    [{ weights: 'best' } as unknown as WeightSettings, 'weights'],
  ])('refuses %j, naming the field', (settings, field) => {
    expect(() => groupWeights(settings, [3, 5])).toThrow(`"${field}"`);
  });

  it('refuses an empty group', () => {
    expect(() => groupWeights({ weights: 'uniform' }, [3, 0])).toThrow('at least one pair');
  });
});

describe('simplex', () => {
  it('logSumExp agrees with the plain sum where that is finite, and is finite where it is not', () => {
    expect(logSumExp([0.1, -2, 3])).toBeCloseTo(Math.log(Math.exp(0.1) + Math.exp(-2) + Math.exp(3)), 12);
    expect(logSumExp([1e6, 1e6])).toBeCloseTo(1e6 + Math.LN2, 6);
  });

  it('raising to a floor keeps the sum, the floor, and the order of the rest', () => {
    fc.assert(
      fc.property(losses, fc.double({ min: 0, max: 1, noNaN: true }), (z, share) => {
        const total = logSumExp(z);
        const before = z.map((v) => Math.exp(v - total));
        const floor = share / z.length;
        const after = raiseToFloor(
          Float64Array.from(z, (v) => v - total),
          floor,
        ).map(Math.exp);
        expect(after.reduce((sum, v) => sum + v, 0)).toBeCloseTo(1, 9);
        for (const weight of after) expect(weight).toBeGreaterThanOrEqual(floor - 1e-12);
        const free = before.map((_, g) => g).filter((g) => after[g] > floor * (1 + 1e-9) && before[g] > 0);
        for (const g of free) expect(after[g] / before[g]).toBeCloseTo(after[free[0]] / before[free[0]], 6);
      }),
    );
  });

  it('entropy of uniform weights is log K', () => {
    expect(entropy([0.25, 0.25, 0.25, 0.25])).toBeCloseTo(Math.log(4), 12);
    expect(entropy([1, 0])).toBe(0);
  });
});
