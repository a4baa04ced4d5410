import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { trueTheta } from '../../src/bandit/environment.js';
import { allMethodNames, type MethodSettings, methodNames, methodSettings } from '../../src/bandit/methods.js';
import { initialTheta, trainingProblem } from '../../src/bandit/preferences.js';
import { train } from '../../src/bandit/training.js';
import { createSampler } from '../../src/data/pairs/sampler.js';
import { InputError } from '../../src/errors.js';
import { marginLoss } from '../../src/objective/losses.js';
import { groupLosses } from '../../src/policy/group-losses.js';
import type { LogLinearProblem } from '../../src/policy/log-linear-problem.js';
import { minimax } from '../../src/theory/minimax.js';

const setting = { features: 'swapped', responses: 'uneven', data: 'imbalanced' } as const;

/** Groups of scalar pairs: each list holds the differences of one group. */
function scalarProblem(...groups: number[][]): LogLinearProblem {
  return {
    dimension: 1,
    groups: groups.map((d) => ({ count: d.length, differences: Float64Array.from(d) })),
  };
}

function regression(weights: MethodSettings['weights'], iterations: number): MethodSettings {
  return { solver: 'regression', loss: { loss: 'ipo', beta: 0.5 }, weights, iterations };
}

function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number): void {
  expect(actual.length).toBe(expected.length);
  for (let i = 0; i < actual.length; i++) expect(Math.abs(actual[i] - expected[i])).toBeLessThan(tolerance);
}

describe('scalar IPO (oracles O11, O12)', () => {
  const pair = scalarProblem([1], [2]);

  test('the trajectory of Algorithm 2', () => {
    const seen: number[][] = [];
    const settings = regression({ weights: 'mirror-ascent', step: 1 }, 3);
    train(pair, settings, [0], ({ theta, alpha }) => seen.push([...alpha, theta[0]]));
    expectClose(seen[0], [0.5, 0.5, 0], 1e-15);
    expectClose(seen[1], [0.5, 0.5, 0.6], 1e-12);
    expectClose(seen[2], [0.529964051765, 0.470035948235, 0.6099461281221541], 1e-11);
    expectClose(seen[3], [0.555715023235, 0.444284976765, 0.619106211024458], 1e-11);
    expect(seen).toHaveLength(4);
  });

  test('the limit is the minimax point θ = 2c/(a+b), α = (b, a)/(a+b), for regression and gradient alike', () => {
    const part = fc.double({ min: 0.5, max: 2, noNaN: true });
    fc.assert(
      fc.property(part, part, (a, b) => {
        const problem = scalarProblem([a], [b]);
        const weights = { weights: 'mirror-ascent', step: 0.2 } as const;
        const loss = { loss: 'ipo', beta: 0.5 } as const;
        for (const solver of [{ solver: 'regression' }, { solver: 'gradient', learningRate: 0.1 }] as const) {
          const { theta, alpha } = train(problem, { ...solver, loss, weights, iterations: 20_000 }, [0]);
          expectClose(theta, [2 / (a + b)], 1e-3);
          expectClose(
            groupLosses(problem, marginLoss(loss), theta),
            [1, 1].map(() => ((b - a) / (a + b)) ** 2),
            1e-3,
          );
          // Nearly equal differences leave α all but free.
          if (Math.abs(a - b) > 0.3) expectClose(alpha, [b / (a + b), a / (a + b)], 1e-3);
        }
      }),
      { numRuns: 5, seed: 1 },
    );
  });

  test('plain and importance weights with sizes (1, 4)', () => {
    const problem = scalarProblem([1], [2, 2, 2, 2]);
    const plain = train(problem, regression({ weights: 'erm' }, 1), [0]);
    expectClose(plain.theta, [9 / 17], 1e-12);
    expectClose(
      groupLosses(problem, marginLoss({ loss: 'ipo', beta: 0.5 }), plain.theta),
      [0.22145328719723184, 0.003460207612456749],
      1e-12,
    );
    expectClose(plain.alpha, [0.2, 0.8], 1e-15);
    const importance = train(problem, regression({ weights: 'importance' }, 1), [0]);
    expectClose(importance.theta, [0.6], 1e-12);
    expectClose(importance.alpha, [0.5, 0.5], 1e-15);
  });
});

test('two GR-DPO steps by hand', () => {
  // Group 0: one pair d = 1; group 1: four pairs d = −2. β = 1, η_θ = 0.2, η_α = 0.1.
  const problem = scalarProblem([1], [-2, -2, -2, -2]);
  const settings: MethodSettings = {
    solver: 'gradient',
    learningRate: 0.2,
    loss: { loss: 'dpo', beta: 1 },
    weights: { weights: 'mirror-ascent', step: 0.1 },
    iterations: 2,
  };
  const seen: number[][] = [];
  train(problem, settings, [0], ({ theta, alpha }) => seen.push([...alpha, theta[0]]));
  // At θ = 0 both losses are ln 2, so α stays; the group gradients are −½·1 and −½·(−2): θ = −0.2·(½·(−½) + ½·1).
  expectClose(seen[1], [0.5, 0.5, -0.05], 1e-15);
  const losses = [Math.log(1 + Math.exp(0.05)), Math.log(1 + Math.exp(-0.1))];
  const rises = losses.map((loss) => 0.5 * Math.exp(0.1 * loss));
  const alpha = rises.map((rise) => rise / (rises[0] + rises[1]));
  const slopes = [-1 / (1 + Math.exp(-0.05)), 2 / (1 + Math.exp(0.1))];
  expectClose(seen[2], [...alpha, -0.05 - 0.2 * (alpha[0] * slopes[0] + alpha[1] * slopes[1])], 1e-15);
});

describe('against a plain loop over pairs', () => {
  /** Full-batch GR-DPO as one would write it from the paper, pair by pair, with a linear-domain α. */
  function plainLoop(problem: LogLinearProblem, start: Float64Array, iterations: number, chi: number) {
    const { dimension, groups } = problem;
    let theta = [...start];
    let alpha = groups.map(() => 1 / groups.length);
    for (let t = 0; t < iterations; t++) {
      const losses: number[] = [];
      const gradients: number[][] = [];
      for (const { count, differences } of groups) {
        let loss = 0;
        const gradient = new Array<number>(dimension).fill(0);
        for (let i = 0; i < count; i++) {
          const d = [...differences.slice(i * dimension, (i + 1) * dimension)];
          const h = d.reduce((sum, value, j) => sum + value * theta[j], 0);
          loss += Math.log(1 + Math.exp(-h)) / count;
          d.forEach((value, j) => {
            gradient[j] -= value / (1 + Math.exp(h)) / count;
          });
        }
        losses.push(loss);
        gradients.push(gradient);
      }
      const raised = alpha.map((a, g) => a * Math.exp(0.5 * chi * losses[g]));
      const total = raised.reduce((sum, value) => sum + value, 0);
      alpha = raised.map((value) => value / total);
      const weights = alpha.map((a) => (1 - chi) / groups.length + chi * a);
      theta = theta.map((value, j) => value - 0.9 * weights.reduce((sum, q, g) => sum + q * gradients[g][j], 0));
    }
    return { theta, alpha };
  }

  test.each([
    { chi: 1, groups: 2, dimension: 4 },
    { chi: 0.4, groups: 2, dimension: 4 },
    { chi: 1, groups: 3, dimension: 6 },
    { chi: 0.7, groups: 5, dimension: 2 },
  ])('GR-DPO with χ = $chi, $groups groups and d = $dimension agrees to 1e-12', ({ chi, groups, dimension }) => {
    const problem = trainingProblem({ ...setting, groups, dimension }, 2021);
    const start = initialTheta(2021, dimension);
    const settings = methodSettings('gr-dpo', { iterations: 60, chi });
    const expected = plainLoop(problem, start, 60, chi);
    const actual = train(problem, settings, start);
    expectClose(actual.theta, expected.theta, 1e-12);
    expectClose(actual.alpha, expected.alpha, 1e-12);
  });
});

describe('options', () => {
  const problem = trainingProblem(setting, 2021);
  const start = initialTheta(2021);

  test('a reference in the policy class shifts θ: training from θ⁰ is the uniform reference from θ⁰ − θ_ref', () => {
    const referenceTheta = [0.5, -1, 2, 0.25];
    const shifted = trainingProblem({ ...setting, referenceTheta }, 2021);
    for (const name of methodNames) {
      const settings = methodSettings(name, { iterations: 200 });
      const { theta, alpha } = train(shifted, settings, start);
      const plain = train(
        problem,
        settings,
        start.map((value, j) => value - referenceTheta[j]),
      );
      expectClose(
        theta,
        plain.theta.map((value, j) => value + referenceTheta[j]),
        1e-9,
      );
      expectClose(alpha, plain.alpha, 1e-9);
    }
  });

  test('average: what is observed is the mean of the iterates after θ⁰, whose path it leaves alone', () => {
    const settings = methodSettings('gr-dpo', { iterations: 7 });
    const path: number[][] = [];
    const alphas: number[][] = [];
    train(problem, settings, start, ({ theta, alpha }) => {
      path.push([...theta]);
      alphas.push([...alpha]);
    });
    const averaged = methodSettings('gr-dpo', { iterations: 7, average: true });
    train(problem, averaged, start, ({ iteration, theta, alpha }) => {
      const seen = iteration === 0 ? path.slice(0, 1) : path.slice(1, iteration + 1);
      expectClose(
        theta,
        path[0].map((_, j) => seen.reduce((sum, at) => sum + at[j], 0) / seen.length),
        1e-12,
      );
      expect([...alpha]).toEqual(alphas[iteration]);
    });
    expect(methodSettings('ipo', { average: true }).average).toBeUndefined();
  });

  test('radius: GR-DPO in a ball reaches the certified minimax value there, on its surface', () => {
    const radius = 10;
    const settings = { ...methodSettings('gr-dpo', { radius, iterations: 20_000 }), average: true };
    const weights = { weights: 'mirror-ascent', step: 0.05 } as const;
    const { value } = minimax(problem, marginLoss({ loss: 'dpo', beta: 1 }), radius);
    const { theta } = train(problem, { ...settings, weights }, [0, 0, 0, 0]);
    const worst = Math.max(...groupLosses(problem, marginLoss({ loss: 'dpo', beta: 1 }), theta));
    expect(worst).toBeGreaterThan(value - 1e-9);
    expect(worst).toBeLessThan(value + 5e-3);
    const last = train(problem, { ...settings, weights, average: false }, [0, 0, 0, 0]);
    expect(Math.hypot(...last.theta)).toBeCloseTo(radius, 9);
    expect(() => train(problem, { ...methodSettings('gr-ipo'), radius }, start)).toThrow(/"radius"/);
    expect(() => train(problem, { ...settings, radius: 0 }, start)).toThrow(/"radius"/);
  });

  test('ridge: gradient steps reach the point that the regression gives', () => {
    for (const name of ['ipo', 'is-ipo', 'gr-ipo'] as const) {
      const exact = train(problem, methodSettings(name, { ridge: 0.05, iterations: 3000 }), start);
      const descent = train(problem, methodSettings(name, { ridge: 0.05, ipoSolver: 'gradient' }), start);
      expectClose(descent.theta, exact.theta, 1e-6);
      const without = train(problem, methodSettings(name, { iterations: 3000 }), start);
      expect(Math.hypot(...without.theta)).toBeGreaterThan(1.5 * Math.hypot(...exact.theta));
    }
  });

  test('ridge with DPO: at the end Σ_g q_g ∇L_g + 2λθ = 0, by differences', () => {
    const ridge = 0.01;
    const { theta, alpha } = train(problem, methodSettings('is-dpo', { ridge }), start);
    const objective = (at: Float64Array) =>
      groupLosses(problem, marginLoss({ loss: 'dpo', beta: 1 }), at).reduce(
        (sum, loss, g) => sum + alpha[g] * loss,
        0,
      ) +
      ridge * at.reduce((sum, value) => sum + value * value, 0);
    theta.forEach((_, j) => {
      const moved = (by: number) => theta.map((value, k) => value + (j === k ? by : 0));
      expect(Math.abs((objective(moved(1e-4)) - objective(moved(-1e-4))) / 2e-4)).toBeLessThan(1e-7);
    });
  });

  test('adaptive steps by hand', () => {
    // One pair d = 1 in group 0, four of d = −2 in group 1; β = 1; η_θ,t = 0.3/√Σ, η_α,t = 0.5·0.7/√Σ; λ = 0.05.
    const settings: MethodSettings = {
      solver: 'gradient',
      learningRate: 0,
      loss: { loss: 'dpo', beta: 1 },
      weights: { weights: 'mirror-ascent', step: 0.5 },
      iterations: 3,
      ridge: 0.05,
      adaptive: { theta: 0.3, alpha: 0.7 },
    };
    const actual = train(scalarProblem([1], [-2, -2, -2, -2]), settings, [0.4]);
    let theta = 0.4;
    let alpha = 0.5;
    let sum = 0;
    for (let t = 0; t < 3; t++) {
      const losses = [Math.log(1 + Math.exp(-theta)), Math.log(1 + Math.exp(2 * theta))];
      const slopes = [-1 / (1 + Math.exp(theta)), 2 / (1 + Math.exp(-2 * theta))];
      sum += ((slopes[0] + 4 * slopes[1]) / 5 + 2 * 0.05 * theta) ** 2;
      const rise = losses.map((loss) => Math.exp(((0.5 * 0.7) / Math.sqrt(sum)) * loss));
      alpha = (alpha * rise[0]) / (alpha * rise[0] + (1 - alpha) * rise[1]);
      theta -= (0.3 / Math.sqrt(sum)) * (alpha * slopes[0] + (1 - alpha) * slopes[1] + 2 * 0.05 * theta);
    }
    expectClose(actual.theta, [theta], 1e-14);
    expectClose(actual.alpha, [alpha, 1 - alpha], 1e-14);
  });

  test('every option reaches the methods that have it, and no other', () => {
    const options = { ridge: 0.1, adaptive: { theta: 0.3, alpha: 0.7 } };
    const adaptive = methodNames.map((name) => methodSettings(name, options).adaptive);
    expect(adaptive).toEqual([{ theta: 0.3 }, { theta: 0.3 }, options.adaptive, undefined, undefined, { alpha: 0.7 }]);
    for (const name of methodNames) expect(methodSettings(name, options).ridge).toBe(0.1);
    expect(methodSettings('ipo')).not.toHaveProperty('ridge');
  });

  test.each([
    ['gr-dpo', { ridge: -1 }, /ridge/],
    ['gr-dpo', { adaptive: { theta: 0 } }, /adaptive\.theta/],
    ['gr-dpo', { adaptive: { alpha: Number.NaN } }, /adaptive\.alpha/],
    ['gr-ipo', { adaptive: { theta: 1 } }, /adaptive\.theta.*no effect on the regression/],
    ['dpo', { adaptive: { alpha: 1 } }, /adaptive\.alpha.*no effect on erm weights/],
  ] as const)('%s with %o is refused', (name, options, says) => {
    expect(() => train(problem, { ...methodSettings(name), ...options }, start)).toThrow(InputError);
    expect(() => train(problem, { ...methodSettings(name), ...options }, start)).toThrow(says);
  });
});

describe('properties', () => {
  const seeds = fc.integer({ min: 0, max: 1000 });
  const names = fc.constantFrom(...methodNames);
  const problemOf = (seed: number): LogLinearProblem => {
    const { dimension, groups } = trainingProblem(setting, seed);
    const cut = groups.map(({ differences }, g) => {
      const count = [6, 15][g];
      return { count, differences: differences.slice(0, count * dimension) };
    });
    return { dimension, groups: cut };
  };

  test("repeating a group's pairs changes nothing but the plain methods", () => {
    fc.assert(
      fc.property(seeds, names, fc.integer({ min: 2, max: 4 }), (seed, name, times) => {
        const problem = problemOf(seed);
        const [first, second] = problem.groups;
        const repeated = Float64Array.from(Array.from({ length: times }, () => [...first.differences]).flat());
        const larger = { dimension: 4, groups: [{ count: first.count * times, differences: repeated }, second] };
        const settings = methodSettings(name, { iterations: 50 });
        const before = train(problem, settings, initialTheta(seed));
        const after = train(larger, settings, initialTheta(seed));
        const gap = Math.max(...before.theta.map((value, j) => Math.abs(value - after.theta[j])));
        if (name === 'dpo' || name === 'ipo') expect(gap).toBeGreaterThan(1e-6);
        else expect(gap).toBeLessThan(1e-7);
      }),
      { numRuns: 60, seed: 1 },
    );
  });

  test('exchanging the groups exchanges α and leaves θ', () => {
    fc.assert(
      fc.property(seeds, names, (seed, name) => {
        const problem = problemOf(seed);
        const settings = methodSettings(name, { iterations: 50 });
        const before = train(problem, settings, initialTheta(seed));
        const after = train({ dimension: 4, groups: problem.groups.toReversed() }, settings, initialTheta(seed));
        expectClose(after.theta, before.theta, 1e-7);
        expectClose(after.alpha, before.alpha.toReversed(), 1e-9);
      }),
      { numRuns: 60, seed: 1 },
    );
  });

  test('one group: every method of a family is the plain one, bit for bit', () => {
    const problem = { dimension: 4, groups: [problemOf(3).groups[1]] };
    for (const family of ['dpo', 'ipo'] as const) {
      const thetaOf = (name: (typeof methodNames)[number]) =>
        train(problem, methodSettings(name, { iterations: 20 }), initialTheta(3)).theta;
      expect(thetaOf(`gr-${family}`)).toEqual(thetaOf(family));
      expect(thetaOf(`is-${family}`)).toEqual(thetaOf(family));
    }
  });

  test('χ = 0 is importance sampling by group means', () => {
    const problem = problemOf(4);
    for (const family of ['dpo', 'ipo'] as const) {
      const robust = train(problem, methodSettings(`gr-${family}`, { iterations: 20, chi: 0 }), initialTheta(4));
      const importance = train(problem, methodSettings(`is-${family}`, { iterations: 20 }), initialTheta(4));
      expectClose(robust.theta, importance.theta, 1e-9);
    }
  });
});

test('the IPO family by gradient reaches the regression', () => {
  const problem = trainingProblem({ ...setting, responses: 'even' }, 2021);
  for (const name of ['ipo', 'is-ipo'] as const) {
    const exact = train(problem, methodSettings(name), initialTheta(2021));
    const descent = train(problem, methodSettings(name, { ipoSolver: 'gradient', iterations: 5000 }), trueTheta(0));
    expectClose(descent.theta, exact.theta, 1e-8);
  }
});

test('GR-IPO satisfies the conditions of the minimax point', () => {
  const problem = trainingProblem(setting, 2021);
  const settings = methodSettings('gr-ipo', { iterations: 1000 });
  const { theta, alpha } = train(problem, settings, initialTheta(2021));
  const [first, second] = groupLosses(problem, marginLoss(settings.loss), theta);
  expect(Math.min(...alpha)).toBeGreaterThan(0.05);
  expect(Math.abs(first - second)).toBeLessThan(1e-4);
});

describe('mini-batches', () => {
  const problem = trainingProblem(setting, 7);
  const start = initialTheta(7);
  const pairs = problem.groups.flatMap(({ count, differences }, group) =>
    Array.from({ length: count }, (_, i) => ({ group, d: [...differences.slice(4 * i, 4 * i + 4)] })),
  );
  const sizes = problem.groups.map(({ count }) => count);

  test('of all pairs take the steps of the full batch', () => {
    for (const name of ['dpo', 'is-ipo', 'gr-dpo', 'gr-hinge'] as const) {
      const options = { iterations: 40, thetaStep: 0.2 };
      const full = train(problem, methodSettings(name, options), start);
      const mini = train(problem, { ...methodSettings(name, { ...options, batch: 300 }), seed: 3 }, start);
      expectClose(mini.theta, full.theta, 1e-11);
      expectClose(mini.alpha, full.alpha, 1e-12);
    }
  });

  test('take the steps of a plain loop over the batches, each pair once an epoch', () => {
    const batch = 64;
    const sampler = createSampler({
      kind: 'proportional',
      groups: Int32Array.from(pairs, ({ group }) => group),
      groupCount: 2,
      batchSize: batch,
      seed: 11,
    });
    const seen: number[] = [];
    let [theta, logs] = [[...start], [0, 0]];
    for (let t = 0; t < 5; t++) {
      const drawn = sampler.next();
      seen.push(...drawn);
      const losses = [0, 0];
      const gradients = [0, 1].map(() => [0, 0, 0, 0]);
      for (const { group, d } of Array.from(drawn, (i) => pairs[i])) {
        const h = d.reduce((sum, value, j) => sum + value * theta[j], 0);
        // N/(N_g |S|) of a pair of group g: unbiased estimates of the group means.
        const share = 300 / (sizes[group] * drawn.length);
        losses[group] += share * Math.log(1 + Math.exp(-2 * h));
        d.forEach((value, j) => {
          gradients[group][j] -= (share * 2 * value) / (1 + Math.exp(2 * h));
        });
      }
      logs = logs.map((log, g) => log + 0.3 * (losses[g] + 1.5 / Math.sqrt(sizes[g])));
      const total = logs.reduce((sum, log) => sum + Math.exp(log), 0);
      theta = theta.map(
        (value, j) => value - 0.1 * logs.reduce((sum, log, g) => sum + (Math.exp(log) / total) * gradients[g][j], 0),
      );
    }
    expect(seen.slice(0, 300).sort((a, b) => a - b)).toEqual([...pairs.keys()]);
    const options = { iterations: 5, batch, beta: 2, thetaStep: 0.1, alphaStep: 0.3, adjustment: 1.5 };
    const found = train(problem, { ...methodSettings('gr-dpo', options), seed: 11 }, start);
    expectClose(found.theta, theta, 1e-11);
    const total = logs.reduce((sum, log) => sum + Math.exp(log), 0);
    expectClose(
      found.alpha,
      logs.map((log) => Math.exp(log) / total),
      1e-12,
    );
    expect(train(problem, { ...methodSettings('gr-dpo', options), seed: 12 }, start).theta).not.toEqual(found.theta);
  });

  test.each([
    [{ ...methodSettings('ipo'), batch: 5 }, /batch.*no effect on the regression/],
    [{ ...methodSettings('dpo'), batch: 301 }, /whole number in \[1, 300\]/],
    [{ ...methodSettings('dpo', { adaptive: { theta: 1 } }), batch: 5 }, /adaptive steps/],
  ] as const)('that mean nothing are refused: %#', (settings, says) =>
    expect(() => train(problem, settings, start)).toThrow(says),
  );
});

const response = { weights: 'best-response' } as const;
test.each<[Parameters<typeof methodSettings>[0], Parameters<typeof methodSettings>[1], RegExp]>([
  ['gr-dpo', { weighting: response, chi: 0.5 }, /"chi": does nothing with weighting/],
  ['gr-ipo', { weighting: response, alphaStep: 1 }, /"alphaStep": does nothing with weighting/],
  ['gr-hinge', { weighting: response, adjustment: 1 }, /"adjustment": does nothing with weighting/],
  [
    'gr-dpo',
    { weighting: response, adaptive: { alpha: 1 } },
    /"adaptive\.alpha": has no effect on best-response weights/,
  ],
  ['ipo', { ipoSolver: 'regression', thetaStep: 1 }, /"thetaStep": does nothing with ipoSolver: regression/],
  ['gr-ipo', { ipoSolver: 'regression', batch: 5 }, /"batch": does nothing with ipoSolver: regression/],
  ['dpo', { thetaStep: 1, adaptive: { theta: 1 } }, /"thetaStep": does nothing with adaptive\.theta/],
])('options of %s that cancel each other are refused: %o', (name, options, says) => {
  expect(() => methodSettings(name, options)).toThrow(InputError);
  expect(() => methodSettings(name, options)).toThrow(says);
});

test('options that cancel each other are none to methods that read neither', () => {
  const options = { weighting: response, chi: 0.5, ipoSolver: 'regression', thetaStep: 1 } as const;
  expect(methodSettings('is-dpo', options)).toEqual(methodSettings('is-dpo', { thetaStep: 1 }));
});

test('options of methods reach those that have them, and no other', () => {
  const options = { beta: 3, thetaStep: 0.25, alphaStep: 0.125, adjustment: [1, 2], labelSmoothing: 0.1, batch: 9 };
  for (const name of allMethodNames) {
    const settings = methodSettings(name, options);
    const smoothed = name.endsWith('dpo');
    const loss = name.replace(/.*-/, '');
    expect(settings).toMatchObject({ solver: 'gradient', learningRate: 0.25, batch: 9, iterations: 10_000 });
    expect(settings.loss).toEqual({ loss, beta: 3, ...(smoothed && { labelSmoothing: 0.1 }) });
    if (name.startsWith('gr-')) expect(settings.weights).toMatchObject({ step: 0.125, adjustment: [1, 2] });
    else expect(settings.weights).not.toHaveProperty('step');
  }
  // Nothing of it changes the paper's methods.
  expect(methodSettings('ipo')).toEqual({
    solver: 'regression',
    loss: { loss: 'ipo', beta: 0.1 },
    weights: { weights: 'erm' },
    iterations: 1,
  });
});
