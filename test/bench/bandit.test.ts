import { expect, it } from 'vitest';
import { benchmarkBandit } from '../../src/bench/bandit.js';
import { callsPerSecond, relativeDistance } from '../../src/bench/measure.js';

it('checks both loops against plain ones before it times them', () => {
  const result = benchmarkBandit(0.01);
  expect(result.checked).toBe(true);
  for (const rate of [result.full_batch_iterations_per_second, result.per_sample_steps_per_second])
    expect(rate).toBeGreaterThan(0);
});

it('counts calls over time, the first one left out', () => {
  let calls = 0;
  const rate = callsPerSecond(() => {
    calls++;
    const start = performance.now();
    while (performance.now() - start < 5);
  }, 0.05);
  expect(calls).toBeGreaterThan(1);
  expect(rate).toBeLessThanOrEqual(200);
});

it('measures relative distance', () => {
  expect(relativeDistance([3, 4], [3, 4])).toBe(0);
  expect(relativeDistance([0, 0], [3, 4])).toBe(1);
});
