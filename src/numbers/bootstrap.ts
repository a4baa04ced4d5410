import { present } from '../errors.js';
import type { Random } from './random.js';

/** Enough that an end of the interval moves by a few hundredths of its width from one seed to the next. */
const SAMPLES = 2000;

/**
 * The 95 % interval of a statistic of `count` independent units (percentile bootstrap): the units are drawn anew with replacement, and the
 * statistic is computed of each draw.
 * @param statistic given how often each unit was drawn, [count]
 * @returns the 2.5th and 97.5th percentile
 */
export function bootstrapInterval(
  count: number,
  statistic: (times: Float64Array) => number,
  random: Random,
): [low: number, high: number] {
  const times = new Float64Array(count);
  const values = Float64Array.from({ length: SAMPLES }, () => {
    times.fill(0);
    for (let i = 0; i < count; i++) times[random.integer(count)]++;
    return statistic(times);
  }).sort();
  const at = (share: number) => present(values[Math.round(share * (SAMPLES - 1))]);
  return [at(0.025), at(0.975)];
}
