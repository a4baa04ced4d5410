import type { Random } from '../numbers/random.js';
import { average, fitRate, type Interval, meanInterval, type RateFit } from './rate-fit.js';

/** What is measured at one horizon: `runs` independent runs of T steps. */
export interface HorizonMeasurement {
  T: number;
  /** ε_T = max_g L_g(θ̄) − v of each run. */
  errors: number[];
  /** max_g L_g(θ̄) − q(ᾱ) of each run; ε_T can never exceed it. */
  gaps: number[];
  /** ε of the last iterate θ_T; shown, not judged: the theorem says nothing about it. */
  lastErrors: number[];
  /** The bound of Proposition 4.1 on the mean of `errors`. */
  bound: number;
}

export interface HorizonSummary {
  T: number;
  /** Mean ε_T. */
  error: number;
  /** 95 % bootstrap interval of the mean. */
  error_interval: Interval;
  /** Mean duality gap of the averages. */
  duality_gap: number;
  /** 95 % bootstrap interval of that mean. */
  duality_gap_interval: Interval;
  /** Mean ε of the last iterate. */
  last_error: number;
  bound: number;
  /** Whether the horizon counts for the rate, see {@link burnInShare}. */
  past_burn_in: boolean;
}

export interface Verdict {
  horizons: HorizonSummary[];
  /** Over the horizons past burn-in; null where these are too few or an error is not positive. */
  rate: RateFit | null;
  holds: boolean;
  /** Why the claim does not hold, one sentence each; empty when it holds. */
  reasons: string[];
}

/** The rate the theorem promises is T^−½; its interval may reach up to this. */
export const shallowestAllowed = -0.5 + 0.1;

/** An error below −this contradicts the minimax value: rounding explains no more. */
export const negativeTolerance = 1e-9;

/**
 * A horizon is past burn-in once the mean error is at most this share of the error of the starting point. Before that, the
 * start is what is seen, and the slope says nothing about the rate.
 */
export const burnInShare = 0.25;

/** Least number of horizons past burn-in: with two, the interval of the slope still says how sure it is. */
export const leastHorizons = 2;

/**
 * The verdict on Proposition 4.1: every mean error below its bound, no error below −1e-9 or above the duality gap, and a rate
 * whose interval lies at or below −0.4, which the last two horizons alone do not contradict: a step that does not shrink
 * with T first makes the error fall faster, and then not at all.
 *
 * @param measurements by ascending T
 * @param startError max_g L_g(θ⁰) − v
 */
export function judge(measurements: readonly HorizonMeasurement[], startError: number, random: Random): Verdict {
  const reasons: string[] = [];
  const horizons = measurements.map(({ T, errors, gaps, lastErrors, bound }): HorizonSummary => {
    const error = average(errors);
    if (!(error <= bound)) reasons.push(`at T = ${T} the mean error ${show(error)} is above the bound ${show(bound)}`);
    const least = Math.min(...errors);
    if (!(least >= -negativeTolerance))
      reasons.push(`at T = ${T} an error is ${show(least)}: θ̄ beats the minimax value, so it has left the ball`);
    if (errors.some((value, run) => !(value <= gaps[run] + negativeTolerance)))
      reasons.push(`at T = ${T} an error exceeds the duality gap of its own run`);
    return {
      T,
      error,
      error_interval: meanInterval(errors, random),
      duality_gap: average(gaps),
      duality_gap_interval: meanInterval(gaps, random),
      last_error: average(lastErrors),
      bound,
      past_burn_in: false,
    };
  });

  const first = horizons.findIndex(({ error }) => error <= burnInShare * startError);
  if (first >= 0) for (const horizon of horizons.slice(first)) horizon.past_burn_in = true;
  const counted = measurements.filter((_, n) => horizons[n].past_burn_in);
  const rate =
    counted.length >= leastHorizons && counted.every(({ errors }) => average(errors) > 0)
      ? fitRate(counted, random)
      : null;
  if (counted.length < leastHorizons)
    reasons.push(
      `only ${counted.length} of the ${horizons.length} horizons are past burn-in (mean error at most ${burnInShare} of the ` +
        `starting point's ${show(startError)}); a rate needs ${leastHorizons}, at larger T`,
    );
  else if (rate === null) reasons.push('a mean error is not positive, so there is no rate');
  else if (!(rate.interval[1] <= shallowestAllowed))
    reasons.push(
      `the rate ${show(rate.slope)}, interval [${rate.interval.map(show).join(', ')}], is not surely at or below ${shallowestAllowed}`,
    );
  else if (counted.length > 2) {
    const [before, last] = counted.slice(-2);
    const end = fitRate([before, last], random);
    if (end.interval[0] > shallowestAllowed)
      reasons.push(
        `the error stops falling: from T = ${before.T} to ${last.T} the rate is ${show(end.slope)}, surely above ${shallowestAllowed}`,
      );
  }
  return { horizons, rate, holds: reasons.length === 0, reasons };
}

function show(value: number): string {
  return value.toPrecision(4);
}
