import type { Random } from './random.js';
import { type Estimate, estimate, studentT } from './statistics.js';

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
  const [interval] = bootstrapIntervals(count, (times) => [statistic(times)], random);
  return interval;
}

/** The same for several statistics, all of the same draws. */
export function bootstrapIntervals(
  count: number,
  statistics: (times: Float64Array) => readonly number[],
  random: Random,
): [low: number, high: number][] {
  const times = new Float64Array(count);
  const sample = statistics(new Float64Array(count).fill(1));
  const draws = sample.map(() => new Float64Array(SAMPLES));
  for (let draw = 0; draw < SAMPLES; draw++)
    statistics(drawn(times, random)).forEach((value, i) => {
      draws[i][draw] = value;
    });
  return sample.map((value, i) => {
    const sorted = draws[i].sort();
    const at = (share: number) => sorted[Math.round(share * (SAMPLES - 1))];
    return [2 * value - at(0.975), 2 * value - at(0.025)];
  });
}

/** How often each of as many units as there are is drawn, with replacement, in place of what `times` held. */
function drawn(times: Float64Array, random: Random): Float64Array {
  times.fill(0);
  for (let i = 0; i < times.length; i++) times[random.integer(times.length)]++;
  return times;
}

/** What a two-level bootstrap says of a mean over seeds. */
export interface TwoLevel extends Estimate {
  /** The error over seeds and units together. */
  standard_error: number;
  /** What the mean over draws is above that of the sample: a maximum over groups has some. */
  bias: number;
  /** Degrees of freedom of the error, at least those of the seeds: few seeds know little of their own spread. */
  degrees: number;
}

/**
 * Means over seeds of statistics of `count` independent units, which all seeds share, as where each seed's model is tested on the same
 * pairs. Both levels are drawn anew, crossed: units once for all seeds, since they are the same ones. Of n seeds n − 1 are drawn, so that
 * the variance of their mean is that of a mean of n (Rao and Wu 1988; n of n would make it smaller by 1/n, which is a third for three);
 * a single seed stays as it is, and the error is then over units alone. What a unit does to one seed alone is counted up to three times
 * (Owen 2007), so the error is rather too large than too small.
 *
 *   ν = (n − 1) (V / V_s)²,   V: variance of all draws, V_s = s²/n: the seeds' part of it             (Satterthwaite)
 *
 * In simulations of means, intervals of 95 % hold the truth in 93 to 96 % with three seeds or more, and in 90 to 95 % with two.
 *
 * @param statistics of each seed, [statistics][seeds], given how often each unit counts, [count]
 * @returns one of each statistic, all of the same draws
 */
export function twoLevelBootstrap(
  count: number,
  statistics: (times: Float64Array) => readonly (readonly number[])[],
  random: Random,
): TwoLevel[] {
  const sample = statistics(new Float64Array(count).fill(1));
  const seeds = sample[0]?.length ?? 0;
  const taken = Math.max(1, seeds - 1);
  const draws = sample.map(() => new Float64Array(SAMPLES));
  const times = new Float64Array(count);
  for (let draw = 0; draw < SAMPLES; draw++) {
    const values = statistics(drawn(times, random));
    const chosen = Array.from({ length: taken }, () => random.integer(seeds));
    values.forEach((ofSeeds, i) => {
      draws[i][draw] = chosen.reduce((sum, seed) => sum + ofSeeds[seed], 0) / taken;
    });
  }
  return sample.map((ofSeeds, i) => {
    const { mean, standard_error: seedError } = estimate(ofSeeds);
    const centre = draws[i].reduce((sum, value) => sum + value, 0) / SAMPLES;
    const variance = draws[i].reduce((sum, value) => sum + (value - centre) ** 2, 0) / (SAMPLES - 1);
    const ratio = seedError ? Math.max(1, variance / seedError ** 2) : Number.POSITIVE_INFINITY;
    return { mean, standard_error: Math.sqrt(variance), bias: centre - mean, degrees: taken * ratio ** 2 };
  });
}

/**
 * Holds the truth with this chance: mean − bias ± t error.
 * @param chance of all of several intervals together is at least 1 − 0.05 where each has 1 − 0.05/(their number) (Bonferroni)
 */
export function twoLevelInterval(
  { mean, bias, standard_error: error, degrees }: TwoLevel,
  chance = 0.95,
): [low: number, high: number] {
  const reach = studentT(chance, degrees) * error;
  return [mean - bias - reach, mean - bias + reach];
}
