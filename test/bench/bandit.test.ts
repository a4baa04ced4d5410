import { spawnSync } from 'node:child_process';
import { expect, it, vi } from 'vitest';
import { benchmarkBandit } from '../../src/bench/bandit.js';
import { callsPerSecond, relativeDistance } from '../../src/bench/measure.js';

it('checks both loops against plain ones before it times them', async () => {
  const result = await benchmarkBandit(0.05);
  expect(result.checked).toBe(true);
  for (const rate of [result.full_batch_iterations_per_second, result.per_sample_steps_per_second])
    expect(rate).toBeGreaterThan(1000);
  expect(result.full_batch_ratio).toBeGreaterThan(1);
  // Far more in vectors; where the machine is busy, and the time short, less.
  if (result.vector_width !== null) expect(result.per_sample_ratio).toBeGreaterThan(2);
  expect(result.two_workers_ratio).toBeGreaterThan(0);
});

const python = process.env.PYTHON ?? 'python3';
const present = spawnSync(python, ['-c', 'import numpy']).status === 0;
if (!present) console.warn('NumPy is not compared: set PYTHON to an interpreter with test/requirements.txt');

it.skipIf(!present)('holds NumPy to the same outcome, and times it (skipped where Python lacks it)', async () => {
  const { numpy, full_batch_iterations_per_second: ours } = await benchmarkBandit(0.01, { numpy: true });
  expect(numpy!.version).toMatch(/^\d+\./);
  expect(numpy!.full_batch_iterations_per_second).toBeGreaterThan(100);
  expect(numpy!.full_batch_ratio).toBeCloseTo(ours / numpy!.full_batch_iterations_per_second, 6);
});

it('says what to do where there is no NumPy', async () => {
  vi.stubEnv('PYTHON', 'no-such-python');
  await expect(benchmarkBandit(0.01, { numpy: true })).rejects.toThrow(/--numpy.*no-such-python(.|\n)*PYTHON/);
  vi.unstubAllEnvs();
});

it('counts calls over processor time, the first one left out, of each work for itself', () => {
  const calls = [0, 0];
  const busy = (n: number, milliseconds: number) => () => {
    calls[n]++;
    const start = process.cpuUsage();
    while (process.cpuUsage(start).user + process.cpuUsage(start).system < milliseconds * 1000);
  };
  const [quick, slow] = callsPerSecond([busy(0, 2), busy(1, 10)], 0.1);
  expect(Math.min(...calls)).toBeGreaterThan(5);
  expect(quick).toBeLessThanOrEqual(500);
  expect(quick).toBeGreaterThan(100);
  expect(slow).toBeLessThanOrEqual(100);
  expect(slow).toBeGreaterThan(20);
});

it('measures relative distance', () => {
  expect(relativeDistance([3, 4], [3, 4])).toBe(0);
  expect(relativeDistance([0, 0], [3, 4])).toBe(1);
});
