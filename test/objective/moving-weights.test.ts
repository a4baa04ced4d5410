import { describe, expect, it } from 'vitest';
import { train } from '../../src/bandit/training.js';
import type { AmbiguitySettings } from '../../src/objective/ambiguity.js';
import { type GroupWeights, groupWeights, type WeightSettings } from '../../src/objective/group-weights.js';
import { Exp3, MirrorAscent } from '../../src/objective/moving-weights.js';

const sizes = [20, 50, 130];

function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>, digits = 10) {
  expect(actual.length).toBe(expected.length);
  for (let g = 0; g < expected.length; g++) expect(actual[g]).toBeCloseTo(expected[g], digits);
}

const softmax = (logits: number[]) => {
  const powers = logits.map((value) => Math.exp(value - Math.max(...logits)));
  const total = powers.reduce((sum, value) => sum + value, 0);
  return powers.map((value) => value / total);
};

/** Signals of five steps. */
const signals = [
  [1, 2, 3],
  [4, 1, 0],
  [2, 2, 5],
  [0, 7, 1],
  [3, 1, 1],
].map((values) => Float64Array.from(values));

/** One of each form. */
const every: WeightSettings[] = [
  { weights: 'mirror-ascent', step: 0.3, schedule: 'adaptive', iterate: 'average', order: 'simultaneous' },
  { weights: 'mirror-ascent', step: 0.3, schedule: 'inverse-root', ambiguity: { set: 'kl', radius: 0.1 } },
  { weights: 'optimistic', step: 0.2, chi: 0.7, mixture: 'pairs', ambiguity: { set: 'cvar', level: 0.6 } },
  { weights: 'optimistic', step: 0.2, iterate: 'average', floor: 0.05 },
  { weights: 'best-response', ambiguity: { set: 'chi-square', radius: 0.3 }, iterate: 'average' },
  { weights: 'best-response', adjustment: 2, order: 'simultaneous' },
  { weights: 'exp3', step: 0.05, chi: 0.5, schedule: 'inverse-root' },
];

describe.each(every)('%j', (settings) => {
  it('gives weights with sum one, and goes on from its state as if nothing had been', () => {
    const whole = groupWeights(settings, sizes, 3);
    let broken = groupWeights(settings, sizes, 3);
    for (const signal of signals) {
      const weights = whole.next(signal);
      expect(weights.reduce((sum, value) => sum + value, 0)).toBeCloseTo(1, 12);
      expect([...broken.next(signal)]).toEqual([...weights]);
      const state = JSON.parse(JSON.stringify(broken.state?.()));
      broken = groupWeights(settings, sizes, 99);
      broken.restore?.(state);
      expect([...broken.alpha]).toEqual([...whole.alpha]);
      expect([...broken.weights]).toEqual([...whole.weights]);
    }
  });
});

describe('schedules of the step on α', () => {
  /** log(α_2/α_0), which moves by η_t times the difference of the signals. */
  const ratios = (schedule: 'constant' | 'inverse-root' | 'adaptive') => {
    const weights = new MirrorAscent({ step: 0.4, schedule }, sizes);
    return signals.map((signal) => {
      weights.next(signal);
      return weights.logAlpha[2] - weights.logAlpha[0];
    });
  };
  const expected = (rate: (t: number) => number) => {
    let sum = 0;
    return signals.map((signal, t) => {
      sum += rate(t) * (signal[2] - signal[0]);
      return sum;
    });
  };
  const ranges = [2, 4, 3, 7, 2];

  it('constant', () =>
    expectClose(
      ratios('constant'),
      expected(() => 0.4),
    ));
  it('inverse-root', () =>
    expectClose(
      ratios('inverse-root'),
      expected((t) => 0.4 / Math.sqrt(t + 1)),
    ));
  it('adaptive', () => {
    const squares = (t: number) => ranges.slice(0, t + 1).reduce((sum, range) => sum + range ** 2, 0);
    expectClose(
      ratios('adaptive'),
      expected((t) => 0.4 / Math.sqrt(squares(t))),
    );
    const still = new MirrorAscent({ step: 1, schedule: 'adaptive' }, sizes);
    still.next(Float64Array.of(2, 2, 2));
    expectClose(still.alpha, [1 / 3, 1 / 3, 1 / 3], 15);
  });
});

describe('what θ sees of α', () => {
  it('average: the mean of the α so far; before the first step, α', () => {
    const last = new MirrorAscent({ step: 0.3 }, sizes);
    const average = new MirrorAscent({ step: 0.3, iterate: 'average', chi: 1 }, sizes);
    expectClose(average.weights, [1 / 3, 1 / 3, 1 / 3], 15);
    const sum = [0, 0, 0];
    signals.forEach((signal, t) => {
      last.next(signal).forEach((value, g) => {
        sum[g] += value;
      });
      expectClose(
        average.next(signal),
        sum.map((value) => value / (t + 1)),
      );
      expectClose(average.alpha, last.alpha, 15);
    });
  });

  it('chi mixes α with the given μ', () => {
    const of = (mixture: 'pairs' | 'uniform' | number[]) => [
      ...groupWeights({ weights: 'best-response', chi: 0.4, mixture }, sizes).next(Float64Array.of(0, 9, 0)),
    ];
    expectClose(of('pairs'), [0.06, 0.55, 0.39]);
    expectClose(of('uniform'), [0.2, 0.6, 0.2]);
    expectClose(of([1, 1, 8]), [0.06, 0.46, 0.48]);
  });
});

describe('optimistic mirror ascent', () => {
  it('on the simplex is log α ← log α + η (2 ℓ_t − ℓ_{t−1})', () => {
    const weights = groupWeights({ weights: 'optimistic', step: 0.3 }, sizes);
    let logits = [0, 0, 0];
    let before = Float64Array.of(0, 0, 0);
    for (const signal of signals) {
      weights.next(signal);
      logits = logits.map((value, g) => value + 0.3 * (2 * signal[g] - before[g]));
      before = signal;
      expectClose(weights.alpha, softmax(logits));
    }
  });

  it('reaches the equilibrium of a game in which mirror ascent goes round it', () => {
    // θ in R plays θ (α_0 − α_1) + 0.3 α_1 against α: the saddle is θ = 0.15, α = (1/2, 1/2). Both move at once, by gradients.
    const distance = (weights: 'mirror-ascent' | 'optimistic') => {
      const weighting = groupWeights({ weights, step: 0.1, order: 'simultaneous' }, [1, 1]);
      let theta = 1;
      let gradient = 0;
      for (let t = 0; t < 20_000; t++) {
        const used = weighting.next(Float64Array.of(theta, 0.3 - theta));
        const now = used[0] - used[1];
        theta -= 0.1 * (weights === 'optimistic' ? 2 * now - gradient : now);
        gradient = now;
      }
      return Math.abs(theta - 0.15) + Math.abs(weighting.alpha[0] - 0.5);
    };
    expect(distance('optimistic')).toBeLessThan(1e-6);
    expect(distance('mirror-ascent')).toBeGreaterThan(0.1);
  });
});

describe('exp3', () => {
  const settings = { weights: 'exp3' as const, step: 0.1, chi: 0.6, adjustment: [2, 0, 0] };

  it('tells the group of the coming step, which is the one that counts, and draws it once', () => {
    const [asked, plain] = [new Exp3(settings, sizes, 3), new Exp3(settings, sizes, 3)];
    for (let step = 0; step < 20; step++) {
      const group = asked.draw();
      expect(asked.draw()).toBe(group);
      // Nothing is known of the other groups.
      const weights = asked.next(Float64Array.from({ length: 3 }, (_, g) => (g === group ? g + 1 : Number.NaN)));
      expect([...weights]).toEqual([0, 1, 2].map((g) => (g === group ? 1 : 0)));
      expect(plain.next(Float64Array.of(1, 2, 3))).toEqual(weights);
      expect(asked.state()).toEqual(plain.state());
    }
  });
  const signal = Float64Array.of(1, 2, 3);
  const first = (seed: number): [GroupWeights, number] => {
    const weights = groupWeights(settings, sizes, seed);
    return [weights, weights.next(signal).indexOf(1)];
  };

  it('raises the group drawn alone, by its signal over its chance', () => {
    for (let seed = 0; seed < 20; seed++) {
      const [{ alpha }, drawn] = first(seed);
      const raised = [0, 0, 0];
      // η χ (ℓ_G + C_G/√N_G) / w_G, with w = 1/3 at the start
      raised[drawn] = 0.1 * 0.6 * 3 * (signal[drawn] + [2 / Math.sqrt(20), 0, 0][drawn]);
      expectClose(alpha, softmax(raised));
    }
  });

  it('draws groups by the weights on θ, so that a step is unbiased', () => {
    const weights = groupWeights(settings, sizes, 1);
    for (let t = 0; t < 30; t++) weights.next(signal);
    const state = weights.state?.() as object;
    const chances = [...weights.weights];
    const counts = [0, 0, 0];
    const draws = 20_000;
    const drawer = groupWeights({ ...settings, step: 0 }, sizes, 7);
    const { random } = (drawer.state?.() ?? {}) as { random?: number[] };
    drawer.restore?.({ ...state, random });
    for (let t = 0; t < draws; t++) counts[drawer.next(signal).indexOf(1)]++;
    // Five standard errors.
    counts.forEach((count, g) => {
      expect(Math.abs(count / draws - chances[g])).toBeLessThan(5 * Math.sqrt(chances[g] / draws));
    });
    expect(Math.max(...chances) - Math.min(...chances)).toBeGreaterThan(0.1);
  });

  it('another seed draws others', () => {
    const drawn = (seed: number) => Array.from({ length: 20 }, (_, i) => first(seed + i)[1]);
    expect(drawn(0)).toEqual(drawn(0));
    expect(drawn(0)).not.toEqual(drawn(100));
  });
});

/**
 * min over θ of max over α in the set of Σ α_g L_g(θ), for groups of scalar pairs with IPO, L_g = (d_g θ − 1)²: by thirds over θ, and for
 * each θ over a grid of all α that the definition of the set allows.
 */
describe('training on log-linear policies finds the robust optimum', () => {
  const differences = [0.3, 1, 3];
  const problem = {
    dimension: 1,
    groups: differences.map((d, g) => ({ count: sizes[g] / 10, differences: new Float64Array(sizes[g] / 10).fill(d) })),
  };
  const p = sizes.map((n) => n / 200);
  const sum = (values: number[]) => values.reduce((total, value) => total + value, 0);
  const allowed: Record<string, (alpha: number[]) => boolean> = {
    simplex: () => true,
    cvar: (alpha) => alpha.every((a, g) => a <= p[g] / 0.4 + 1e-12),
    kl: (alpha) => sum(alpha.map((a, g) => (a === 0 ? 0 : a * Math.log(a / p[g])))) <= 0.3,
    'chi-square': (alpha) => sum(alpha.map((a, g) => (a - p[g]) ** 2 / p[g])) <= 0.5,
  };
  const settings: AmbiguitySettings[] = [
    { set: 'simplex' },
    { set: 'cvar', level: 0.4 },
    { set: 'kl', radius: 0.3 },
    { set: 'chi-square', radius: 0.5 },
  ];
  const steps = 100;
  const grid = Array.from({ length: steps + 1 }, (_, i) =>
    Array.from({ length: steps + 1 - i }, (_, j) => [i / steps, j / steps, (steps - i - j) / steps]),
  ).flat();

  describe.each(settings)('$set', (ambiguity) => {
    const points = grid.filter((alpha) => allowed[ambiguity.set](alpha));
    const value = (theta: number) => {
      const [first, second, third] = differences.map((d) => (d * theta - 1) ** 2);
      return points.reduce((most, [a, b, c]) => Math.max(most, a * first + b * second + c * third), 0);
    };
    // It is convex in θ.
    let [low, high] = [0, 2];
    for (let n = 0; n < 40; n++) {
      const [a, b] = [low + (high - low) / 3, high - (high - low) / 3];
      if (value(a) < value(b)) high = b;
      else low = a;
    }
    const least = value(low);

    it.each<[string, WeightSettings, number]>([
      ['mirror ascent', { weights: 'mirror-ascent', step: 0.1, ambiguity }, 5e-4],
      ['1/√t', { weights: 'mirror-ascent', step: 0.5, schedule: 'inverse-root', ambiguity }, 5e-4],
      ['adaptive', { weights: 'mirror-ascent', step: 1, schedule: 'adaptive', ambiguity }, 5e-4],
      ['optimistic', { weights: 'optimistic', step: 0.1, ambiguity }, 5e-4],
      ['fictitious play', { weights: 'best-response', iterate: 'average', ambiguity }, 5e-4],
      ['exp3', { weights: 'exp3', step: 0.01, chi: 0.95, mixture: 'pairs', ambiguity }, 4.5e-3],
    ])('%s', (_, weights, tolerance) => {
      let total = 0;
      let count = 0;
      const iterations = 6000;
      const method = { solver: 'gradient', learningRate: 0.005, loss: { loss: 'ipo', beta: 0.5 }, iterations } as const;
      train(problem, { ...method, weights }, [0], ({ iteration, theta }) => {
        if (iteration <= iterations / 2) return;
        total += theta[0];
        count++;
      });
      const reached = value(total / count);
      expect(Math.abs(reached - least)).toBeLessThan(tolerance);
      // Plain training is worse by more than that.
      const plain = train(problem, { ...method, weights: { weights: 'erm' } }, [0]);
      expect(value(plain.theta[0]) - least).toBeGreaterThan(2 * tolerance);
    });
  });
});
