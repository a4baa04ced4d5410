import { expect, it } from 'vitest';
import { benchmarkDistributed, projections } from '../../src/bench/distributed.js';
import { GemmaPolicy } from '../../src/policy/gemma.js';

it('projects the least time of a ring from sizes and rates alone', () => {
  const of = (cards: number, rate: number) =>
    projections(1.25e9).find((one) => one.cards === cards && one.gigabits_per_second === rate)?.seconds;
  // 10 Gbit/s take a second for 1.25 GB, of which each link carries 2 (N − 1)/N.
  expect(of(2, 10)).toBeCloseTo(1, 12);
  expect(of(8, 10)).toBeCloseTo(14 / 8, 12);
  expect(of(64, 100)).toBeCloseTo(126 / 640, 12);
  // 39,223,296 bytes: Gemma-2B's adapter of rank 8, in float32.
  expect(projections()[0]?.seconds).toBeCloseTo(39_223_296 / 1.25e9, 12);
});

it('measures one process beside two, and what they exchange', async () => {
  const step = ['--shape', 'tiny', '--batch', '4', '--steps', '2'];
  const result = await benchmarkDistributed({ processes: 2, threads: 2, rounds: 1, step });
  expect(result.efficiency).toBeCloseTo(result.alone_seconds / result.shared_seconds, 10);
  expect(result.exchange.processes).toBe(2);
  expect(result.exchange.seconds).toBeGreaterThan(0);
  using policy = await GemmaPolicy.open('random:tiny', { threads: 1 });
  await policy.addAdapter({ rank: 8, alpha: 32 });
  const numbers = policy.native.trainable().reduce((sum, { shape }) => sum + shape[0] * shape[1], 0);
  expect(result.exchange.gradient_bytes).toBe(4 * numbers);
  // Two groups: 13 numbers each, and ten more.
  expect(result.exchange.sums_bytes).toBe(8 * (2 * 13 + 10));
  expect(result.exchange.bytes).toBe(4 * numbers + 8 * 36);
});
