import { expect, it } from 'vitest';
import { bootstrapInterval } from '../../src/numbers/bootstrap.js';
import { Random } from '../../src/numbers/random.js';

const mean = (values: readonly number[], times: Float64Array) =>
  values.reduce((sum, value, i) => sum + value * times[i], 0) / times.reduce((sum, n) => sum + n, 0);

it('is the normal interval of a mean of many', () => {
  const random = Random.stream(1, 'values');
  const values = Array.from({ length: 400 }, () => 5 + 2 * random.normal());
  const centre = values.reduce((sum, value) => sum + value, 0) / 400;
  const error = Math.sqrt(values.reduce((sum, value) => sum + (value - centre) ** 2, 0) / 400 / 400);
  const [low, high] = bootstrapInterval(400, (times) => mean(values, times), Random.stream(2, 'draws'));
  expect(low).toBeGreaterThan(centre - 2.15 * error);
  expect(low).toBeLessThan(centre - 1.75 * error);
  expect(high).toBeLessThan(centre + 2.15 * error);
  expect(high).toBeGreaterThan(centre + 1.75 * error);
});

it('holds the true mean in about 95 of 100 samples', () => {
  let held = 0;
  for (let seed = 0; seed < 300; seed++) {
    const random = Random.stream(seed, 'values');
    const values = Array.from({ length: 40 }, () => random.uniform());
    const [low, high] = bootstrapInterval(40, (times) => mean(values, times), Random.stream(seed, 'draws'));
    if (low < 0.5 && 0.5 < high) held++;
  }
  // Four standard errors around 285, and percentile intervals of 40 values are a little short.
  expect(held).toBeGreaterThan(263);
  expect(held).toBeLessThan(300);
});

it('draws as many units as there are, and is a point where they do not matter', () => {
  const counts = new Set<number>();
  const interval = bootstrapInterval(
    7,
    (times) => {
      counts.add(times.reduce((sum, n) => sum + n, 0));
      return 3;
    },
    Random.stream(1, 'draws'),
  );
  expect(interval).toEqual([3, 3]);
  expect([...counts]).toEqual([7]);
});

it('holds a worst group and a gap about as often as it says, also where all groups are equal', () => {
  const [groups, each, samples] = [4, 60, 100];
  for (const shift of [0, 0.5]) {
    const held = { worst: 0, gap: 0 };
    for (let seed = 0; seed < samples; seed++) {
      const random = Random.stream(seed, 'groups');
      const values = Array.from({ length: groups * each }, (_, i) => (i < each ? shift : 0) + random.normal());
      const means = (times: Float64Array) =>
        Array.from({ length: groups }, (_, g) => {
          const [from, to] = [g * each, (g + 1) * each];
          return mean(values.slice(from, to), times.slice(from, to));
        });
      const worst = (times: Float64Array) => Math.max(...means(times));
      const gap = (times: Float64Array) => worst(times) - Math.min(...means(times));
      for (const [name, statistic] of [
        ['worst', worst],
        ['gap', gap],
      ] as const) {
        const [low, high] = bootstrapInterval(groups * each, statistic, Random.stream(seed, 'draws'));
        if (low <= shift && shift <= high) held[name]++;
      }
    }
    // Percentiles of the draws hold the gap of equal groups in none of 100.
    expect(held.worst).toBeGreaterThan(75);
    expect(held.gap).toBeGreaterThan(70);
  }
});
