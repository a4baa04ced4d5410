import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Random } from '../../src/numbers/random.js';
import { marginLoss } from '../../src/objective/losses.js';
import type { LogLinearProblem } from '../../src/policy/log-linear-problem.js';
import { type PerSampleSettings, runByObjective } from '../../src/theory/objective-run.js';
import { arbitraryProblem, plainLosses, rowsOf } from './problems.js';

const variants = ['every-group', 'optimistic', 'exp3'] as const;
const ipo = { loss: 'ipo', beta: 0.5 } as const;

/** The definitions, on the weights themselves and not on their logarithms, with the loss (h − 1)² written out. */
function plainRun(problem: LogLinearProblem, settings: PerSampleSettings, count: number, random: Random) {
  const { algorithm, steps, radius = Number.POSITIVE_INFINITY, order = 'alternating', exploration = 0 } = settings;
  const groups = rowsOf(problem);
  const K = groups.length;
  const N = groups.flat().length;
  const flat = groups.flatMap((rows, g) => rows.map((row) => ({ g, row })));
  const normalised = (a: number[]) => a.map((x) => x / a.reduce((sum, y) => sum + y));
  const projected = (x: number[]) => {
    const length = Math.sqrt(x.reduce((sum, y) => sum + y * y, 0));
    return length > radius ? x.map((y) => (y * radius) / length) : x;
  };
  let theta: number[] = new Array(problem.dimension).fill(0);
  let baseTheta = theta;
  let alpha: number[] = new Array(K).fill(1 / K);
  let baseAlpha = alpha;
  const seen = (a: number[]) => (algorithm === 'exp3' ? a.map((x) => (1 - exploration) * x + exploration / K) : a);
  const sums = { theta: theta.map(() => 0), alpha: alpha.map(() => 0) };
  for (let step = 0; step < count; step++) {
    const old = theta;
    /** l, and l' d, of one pair at the θ of before the step. */
    const of = ({ d, o }: { d: number[]; o: number }) => {
      const h = d.reduce((sum, x, j) => sum + x * old[j], -o);
      return { value: (h - 1) ** 2, gradient: d.map((x) => 2 * (h - 1) * x) };
    };
    const losses: number[] = new Array(K).fill(0);
    const gradients: number[][] = groups.map(() => theta.map(() => 0));
    const put = (g: number, row: { d: number[]; o: number }, onLoss: number, onGradient: number) => {
      const { value, gradient } = of(row);
      losses[g] = value * onLoss;
      gradients[g] = gradient.map((x) => x * onGradient);
    };
    let direction: (weights: number[]) => number[] = (weights) =>
      theta.map((_, j) => gradients.reduce((sum, gradient, g) => sum + weights[g] * gradient[j], 0));
    if (algorithm === 'every-group')
      for (let g = 0; g < K; g++) put(g, groups[g][random.integer(groups[g].length)], 1, 1);
    else if (algorithm === 'optimistic') {
      const { g, row } = flat[random.integer(N)];
      put(g, row, N / groups[g].length, N / groups[g].length);
    } else {
      const w = seen(alpha);
      const g = random.categorical(w);
      put(g, groups[g][random.integer(groups[g].length)], (1 - exploration) / w[g], 1);
      direction = () => gradients[g];
    }
    const ascend = (from: number[]) => normalised(from.map((x, g) => x * Math.exp(steps.alpha * losses[g])));
    const before = alpha;
    if (algorithm === 'optimistic') {
      baseAlpha = ascend(baseAlpha);
      alpha = ascend(baseAlpha);
    } else alpha = ascend(alpha);
    const way = direction(order === 'simultaneous' ? before : alpha);
    const descend = (from: number[]) => projected(from.map((x, j) => x - steps.theta * way[j]));
    if (algorithm === 'optimistic') {
      baseTheta = descend(baseTheta);
      theta = descend(baseTheta);
    } else theta = descend(theta);
    sums.theta = sums.theta.map((x, j) => x + theta[j] / count);
    sums.alpha = sums.alpha.map((x, g) => x + seen(alpha)[g] / count);
  }
  return { averageTheta: sums.theta, averageAlpha: sums.alpha, lastTheta: theta, lastAlpha: seen(alpha) };
}

describe.each(variants)('%s', (algorithm) => {
  it('is its definition, step by step', () => {
    fc.assert(
      fc.property(
        arbitraryProblem(),
        fc.record({
          order: fc.constantFrom('alternating' as const, 'simultaneous' as const),
          radius: fc.constantFrom(undefined, 0.4, 3),
          exploration: fc.constantFrom(0, 0.3, 1),
        }),
        fc.constantFrom(1, 2, 40),
        fc.integer(),
        (problem, given, count, seed) => {
          const settings = { ...given, loss: ipo, algorithm, steps: { theta: 0.01, alpha: 0.02 } };
          const run = runByObjective(problem, settings, count, Random.stream(seed, 'variant'));
          const plain = plainRun(problem, settings, count, Random.stream(seed, 'variant'));
          for (const key of ['lastTheta', 'lastAlpha', 'averageTheta', 'averageAlpha'] as const)
            for (let n = 0; n < plain[key].length; n++)
              expect(Math.abs(run[key][n] - plain[key][n]), key).toBeLessThan(1e-9 * (1 + Math.abs(plain[key][n])));
        },
      ),
      { numRuns: 60 },
    );
  });

  // The first draw is the first pair of the first group; all draws of the second step are gone through.
  it('has unbiased estimates away from the start too, by enumeration of every draw', () => {
    fc.assert(
      fc.property(arbitraryProblem({ groups: [2, 3], dimension: [1, 3] }), (problem) => {
        const steps = { theta: 0.05, alpha: 0.03 };
        const exploration = 0.2;
        const settings = { loss: ipo, algorithm, steps, exploration, order: 'simultaneous' as const };
        const sizes = problem.groups.map(({ count }) => count);
        const K = sizes.length;
        const single = (g: number, i: number): number[] =>
          algorithm === 'exp3' ? [g, i] : [sizes.slice(0, g).reduce((a, b) => a + b, 0) + i];
        let draws: number[][] = [[]];
        if (algorithm === 'every-group')
          for (const size of sizes)
            draws = draws.flatMap((head) => Array.from({ length: size }, (_, i) => [...head, i]));
        else draws = sizes.flatMap((size, g) => Array.from({ length: size }, (_, i) => single(g, i)));
        fc.pre(draws.length <= 400);
        const first = algorithm === 'every-group' ? sizes.map(() => 0) : single(0, 0);

        const run = (drawn: number[], count: number) => {
          const left = [...drawn];
          let chance = 1;
          const integer = (n: number) => {
            chance /= n;
            return left.shift();
          };
          const categorical = (weights: ArrayLike<number>) => {
            const g = left.shift() as number;
            chance *= weights[g] / Array.from(weights).reduce((a, b) => a + b);
            return g;
          };
          const result = runByObjective(problem, settings, count, { integer, categorical } as unknown as Random);
          expect(left).toEqual([]);
          // log α_g − log α_0, of the α that EXP3 mixes with the uniform one.
          const alpha = result.lastAlpha.map((x) => (algorithm === 'exp3' ? (x - exploration / K) / 0.8 : x));
          return { ...result, chance, levels: Array.from(alpha, (x) => Math.log(x / alpha[0])) };
        };
        const one = run(first, 1);
        const meanTheta = new Array<number>(problem.dimension).fill(0);
        const meanLevels = new Array<number>(K).fill(0);
        let all = 0;
        for (const draw of draws) {
          const two = run([...first, ...draw], 2);
          const chance = two.chance / one.chance;
          all += chance;
          for (let j = 0; j < meanTheta.length; j++) meanTheta[j] += chance * two.lastTheta[j];
          for (let g = 0; g < K; g++) meanLevels[g] += chance * two.levels[g];
        }
        expect(all).toBeCloseTo(1, 10);

        const exact = plainLosses(problem, marginLoss(ipo), one.lastTheta);
        // Optimistic: the base is half as far from the start as the point after one step, and two steps are taken from it.
        const [share, times] = algorithm === 'optimistic' ? [0.5, 2] : [1, 1];
        const onAlpha = algorithm === 'exp3' ? 1 - exploration : 1;
        for (let j = 0; j < meanTheta.length; j++) {
          const gradient = exact.reduce((sum, group, g) => sum + one.lastAlpha[g] * group.gradient[j], 0);
          expect(meanTheta[j]).toBeCloseTo(share * one.lastTheta[j] - times * steps.theta * gradient, 8);
        }
        for (let g = 0; g < K; g++) {
          const ascent = steps.alpha * onAlpha * (exact[g].value - exact[0].value);
          expect(meanLevels[g]).toBeCloseTo(share * one.levels[g] + times * ascent, 7);
        }
      }),
      { numRuns: 25 },
    );
  });
});

it('draws one pair a step, every-group one of each group', () => {
  const problem = { dimension: 1, groups: [3, 5, 2].map((count) => ({ count, differences: new Float64Array(count) })) };
  const bounds = (algorithm: PerSampleSettings['algorithm']) => {
    const random = Random.stream(1, 'counted');
    const drawn: number[] = [];
    const integer = (n: number) => {
      drawn.push(n);
      return random.integer(n);
    };
    const categorical = (weights: ArrayLike<number>) => random.categorical(weights);
    const settings = { loss: ipo, algorithm, steps: { theta: 0.1, alpha: 0.1 } };
    runByObjective(problem, settings, 7, { integer, categorical } as unknown as Random);
    return drawn;
  };
  expect(bounds('every-group')).toEqual(Array.from({ length: 7 }, () => [3, 5, 2]).flat());
  expect(bounds('optimistic')).toEqual(new Array(7).fill(10));
  expect(bounds('exp3')).toHaveLength(7);
});
