import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FullBatch } from '../../src/bandit/full-batch.js';
import { loadSimulator } from '../../src/native/simulator.js';
import { Random } from '../../src/numbers/random.js';
import { type LossSettings, marginLoss } from '../../src/objective/losses.js';
import type { LogLinearProblem } from '../../src/policy/log-linear-problem.js';

const simulator = loadSimulator();
if (!simulator)
  console.warn("the full batch is summed in TypeScript only: the simulator's addon is not built (npm run build)");

const losses: LossSettings[] = [
  { loss: 'dpo', beta: 1 },
  { loss: 'dpo', beta: 0.3, labelSmoothing: 0.2 },
  { loss: 'ipo', beta: 0.1 },
  { loss: 'hinge', beta: 0.7 },
];

/** Straight from the definition: every pair's value and derivative. */
function definition({ groups, dimension }: LogLinearProblem, settings: LossSettings, theta: ArrayLike<number>) {
  const loss = marginLoss(settings);
  return groups.map(({ count, differences, offsets }) => {
    const gradient = new Array<number>(dimension).fill(0);
    let sum = 0;
    for (let i = 0; i < count; i++) {
      const row = differences.subarray(i * dimension, (i + 1) * dimension);
      const h = row.reduce((total, d, j) => total + d * theta[j], -(offsets?.[i] ?? 0));
      sum += loss.value(h);
      row.forEach((d, j) => {
        gradient[j] += loss.derivative(h) * d;
      });
    }
    return { sum, gradient };
  });
}

const ways: [string, number | undefined][] = [
  ['in TypeScript', undefined],
  ...(simulator?.widths ?? []).map((width): [string, number] => [`in vectors of ${width}`, width]),
];

describe.each(ways)('%s', (_, width) => {
  const batchOf = (problem: LogLinearProblem, loss: LossSettings, theta: Float64Array) =>
    new FullBatch(problem, marginLoss(loss), theta, width === undefined ? null : simulator, width);

  it('losses and gradients are those of the definition, for any shape', () => {
    const shape = fc.record({
      dimension: fc.integer({ min: 1, max: 9 }),
      counts: fc.array(fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 500, max: 1100 })), {
        minLength: 1,
        maxLength: 4,
      }),
      offsets: fc.boolean(),
      spread: fc.constantFrom(0.1, 1, 30),
      loss: fc.constantFrom(...losses),
      seed: fc.integer(),
    });
    fc.assert(
      fc.property(shape, ({ dimension, counts, offsets, spread, loss, seed }) => {
        const random = Random.stream(seed, 'full batch');
        const numbers = (length: number) => Float64Array.from({ length }, () => random.normal());
        const problem = {
          dimension,
          groups: counts.map((count) => ({
            count,
            differences: numbers(count * dimension),
            ...(offsets && { offsets: numbers(count) }),
          })),
        };
        const theta = numbers(dimension);
        const batch = batchOf(problem, loss, theta);
        // The second one must not see what the first one summed.
        for (let turn = 0; turn < 2; turn++) {
          theta.forEach((_, j) => {
            theta[j] = spread * random.normal();
          });
          const { lossSums, counts: found } = batch.evaluate();
          expect([...found]).toEqual(counts);
          for (const [g, { sum, gradient }] of definition(problem, loss, theta).entries()) {
            expect(Math.abs(lossSums[g] - sum)).toBeLessThanOrEqual(1e-12 * sum);
            for (const [j, value] of gradient.entries())
              expect(Math.abs(batch.gradients[g][j] - value)).toBeLessThanOrEqual(1e-11 * counts[g] * (1 + spread));
          }
        }
      }),
      { numRuns: 100 },
    );
  });

  it('small losses keep their digits: pairs as good as won, beside others or alone', () => {
    for (const h of [1e-9, 1, 20, 36, 50, 300, 700, -700])
      for (const beside of [h, 40, 2]) {
        const differences = Float64Array.from({ length: 200 }, (_, i) => (i % 3 === 0 ? beside : h));
        const problem = { dimension: 1, groups: [{ count: 200, differences }] };
        const loss: LossSettings = { loss: 'dpo', beta: 1 };
        const batch = batchOf(problem, loss, Float64Array.of(1));
        const [{ sum }] = definition(problem, loss, [1]);
        expect(Math.abs(batch.evaluate().lossSums[0] / sum - 1)).toBeLessThanOrEqual(1e-12);
      }
  });

  it('hides no NaN, and bears margins beyond all bounds', () => {
    const problem = { dimension: 1, groups: [{ count: 5, differences: Float64Array.of(1, 1, -1, 1, 1) }] };
    for (const loss of losses) {
      const theta = Float64Array.of(Number.NaN);
      const batch = batchOf(problem, loss, theta);
      expect(batch.evaluate().lossSums[0]).toBeNaN();
      theta[0] = 1e6;
      const [{ sum, gradient }] = definition(problem, loss, theta);
      expect(batch.evaluate().lossSums[0] / sum).toBeCloseTo(1, 12);
      expect(batch.gradients[0][0] / gradient[0]).toBeCloseTo(1, 12);
    }
  });
});

it.skipIf(!simulator)('the addon refuses arrays that are too short, losses and widths that it has not', () => {
  const { fullBatch, stepRuns, padding } = simulator!;
  const group = { count: 3, columns: new Float64Array(2 * padding) };
  const logistic = { kind: 'logistic', beta: 1, smoothing: 0 } as const;
  const [two, one] = [new Float64Array(2), new Float64Array(1)];
  expect(() => fullBatch(2, logistic, [group], 2, two, one, two)).not.toThrow();
  expect(() => fullBatch(2, logistic, [group], 2, one, one, two)).toThrow(/theta must be 2 doubles/);
  expect(() => fullBatch(2, logistic, [{ ...group, count: 9 }], 2, two, one, two)).toThrow(/columns must be 32/);
  expect(() => fullBatch(3, logistic, [group], 2, two, one, two)).toThrow(/vectors of 3/);
  expect(() => fullBatch(2, { kind: 'cubic' } as never, [group], 2, two, one, two)).toThrow(/cubic/);
  const pairs = { count: 1, columns: 4, groups: 1, rows: new Float64Array(4), starts: Float64Array.of(0, 1) };
  const state = new Float64Array((8 + 5 + 2) * 16);
  expect(() => stepRuns(2, logistic, pairs, false, new BigUint64Array(32), state, 1)).not.toThrow();
  expect(() => stepRuns(2, logistic, pairs, false, new BigUint64Array(31), state, 1)).toThrow(/random/);
  expect(() => stepRuns(2, logistic, pairs, false, new BigUint64Array(32), two, 1)).toThrow(/state must be 240/);
  const beyond = { ...pairs, starts: Float64Array.of(0, 2) };
  expect(() => stepRuns(2, logistic, beyond, false, new BigUint64Array(32), state, 1)).toThrow(/starts/);
});
