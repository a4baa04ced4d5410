import type { Random } from './random.js';

/** Enough that an end of the interval moves by a few hundredths of its width from one seed to the next. */
const SAMPLES = 2000;

/**
 * The 95 % interval of a statistic of `count` independent units (basic bootstrap): the units are drawn anew with replacement, and what the
 * statistic of a draw is away from that of the sample, the truth is taken to be away on the other side. So the upward bias of a maximum
 * over groups is taken off; percentiles of the draws would add it a second time, and never hold a gap of zero.
 * @param statistic given how often each unit counts, [count]; that of the sample itself counts each once
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
  const at = (share: number) => values[Math.round(share * (SAMPLES - 1))];
  const sample = statistic(new Float64Array(count).fill(1));
  return [2 * sample - at(0.975), 2 * sample - at(0.025)];
}
