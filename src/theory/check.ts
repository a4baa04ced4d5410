import { jointOutcome, type Outcome } from '../terminal/checks.js';
import type { Minimax } from './minimax.js';
import { average, fitRate, type Interval, meanInterval, type RateFit } from './rate-fit.js';

/** What is measured at one horizon: `runs` independent runs of T steps. */
export interface HorizonMeasurement {
  T: number;
  /** ε_T = max_g L_g(θ̄) − v of each run. */
  errors: number[];
  /** max_g L_g(θ̄) − q(ᾱ) of each run; ε_T can never exceed it. */
  gaps: number[];
  /** ε of the last iterate θ_T; shown but not judged, since the theorem says nothing about it. */
  lastErrors: number[];
  /** The bound of Proposition 4.1 on the mean of `errors`. */
  bound: number;
}

export interface HorizonSummary {
  T: number;
  /** Mean ε_T. */
  error: number;
  /** 95 % interval of the mean. */
  error_interval: Interval;
  /** Mean duality gap of the averages. */
  duality_gap: number;
  /** 95 % interval of that mean. */
  duality_gap_interval: Interval;
  /** Mean ε of the last iterate. */
  last_error: number;
  bound: number;
  /** Whether the horizon counts for the rate, see {@link burnInShare}. */
  past_burn_in: boolean;
}

/** A reason why a claim does not hold: it is refuted, or left open. */
export interface Finding {
  outcome: Exclude<Outcome, 'holds'>;
  /** A sentence without its full stop. */
  reason: string;
}

export interface Verdict {
  horizons: HorizonSummary[];
  /** Over the horizons past burn-in; null where these are too few or an error is not positive. */
  rate: RateFit | null;
  /** `unclear` where the runs are too short or too few to tell, `fails` where they refute the claim. */
  outcome: Outcome;
  /** Whether the outcome is `holds`. */
  holds: boolean;
  /** Why the claim does not hold, one sentence each; what refutes it comes first. Empty when it holds. */
  reasons: string[];
}

/** The rate the theorem promises is T^−½; its interval may reach up to this. */
const shallowestAllowed = -0.5 + 0.1;

/** Share of a loss that rounding explains, with room for the sums over all pairs. */
const roundingShare = 1e-12;

/**
 * How far below 0, or above its duality gap, an error may seem to lie: by what is open about the minimax value, and by the rounding of
 * losses of that size.
 */
export function errorTolerance({ lower, upper }: Pick<Minimax, 'lower' | 'upper'>): number {
  return upper - lower + roundingShare * Math.abs(upper);
}

/**
 * A horizon is past burn-in once the mean error is at most this share of the error of the starting point. Before that, the
 * error still reflects the start, and the slope says nothing about the rate.
 */
export const burnInShare = 0.25;

/** Least number of horizons past burn-in: two are enough for the slope to have an interval. */
const leastHorizons = 2;

/**
 * Factor from the first horizon past burn-in to the last from which on a shallow slope refutes the claim. The proposition is an upper bound: far
 * below it the slope may be anything over a decade.
 */
const leastSpan = 30;

/**
 * Means with their intervals, and the rate over the horizons past burn-in, which are `counted`.
 *
 * @param measurements by ascending T
 * @param startError max_g L_g(θ⁰) − v
 */
export function summarise(
  measurements: readonly HorizonMeasurement[],
  startError: number,
): Pick<Verdict, 'horizons' | 'rate'> & { counted: HorizonMeasurement[] } {
  const horizons = measurements.map(
    ({ T, errors, gaps, lastErrors, bound }): HorizonSummary => ({
      T,
      error: average(errors),
      error_interval: meanInterval(errors),
      duality_gap: average(gaps),
      duality_gap_interval: meanInterval(gaps),
      last_error: average(lastErrors),
      bound,
      past_burn_in: false,
    }),
  );
  const first = horizons.findIndex(({ error }) => error <= burnInShare * startError);
  if (first >= 0) for (const horizon of horizons.slice(first)) horizon.past_burn_in = true;
  const counted = measurements.filter((_, n) => horizons[n].past_burn_in);
  const rate =
    counted.length >= leastHorizons && counted.every(({ errors }) => average(errors) > 0) ? fitRate(counted) : null;
  return { horizons, counted, rate };
}

/** What speaks against mean errors below their bounds, and errors in [0, duality gap] but for `tolerance`. */
export function contradictions(
  measurements: readonly HorizonMeasurement[],
  horizons: readonly HorizonSummary[],
  tolerance: number,
): Finding[] {
  const findings: Finding[] = [];
  const refuted = (reason: string) => findings.push({ outcome: 'fails', reason });
  for (const [n, { T, errors, gaps, bound }] of measurements.entries()) {
    const { error, error_interval: interval } = horizons[n];
    if (!Number.isFinite(error)) refuted(`at T = ${T} the mean error is ${error}`);
    else if (interval[0] > bound)
      refuted(`at T = ${T} the mean error ${show(error)} is above the bound ${show(bound)}, and so is its interval`);
    else if (!(interval[1] <= bound))
      findings.push({
        outcome: 'unclear',
        reason: `at T = ${T} the interval ${showInterval(interval)} of the mean error contains the bound ${show(bound)}`,
      });
    const least = Math.min(...errors);
    if (!(least >= -tolerance))
      refuted(`at T = ${T} an error is ${show(least)}: θ̄ beats the minimax value, so it has left the ball`);
    if (errors.some((value, run) => !(value <= gaps[run] + tolerance)))
      refuted(`at T = ${T} an error exceeds the duality gap of its own run`);
  }
  return findings;
}

/**
 * The verdict on Proposition 4.1: every mean error below its bound, no error below 0 or above the duality gap (but for `tolerance`), and a rate
 * at or below −0.4, which the last two horizons alone do not contradict: a step that does not shrink with T first makes the error
 * fall faster, and then not at all. Where chance could put a mean or a rate on either side, where the runs end before burn-in
 * is over, and where the slope is too shallow over less than {@link leastSpan}, the claim is unclear: nothing has refuted it.
 *
 * @param measurements by ascending T
 * @param start `error` is max_g L_g(θ⁰) − v; for `tolerance` see {@link errorTolerance}
 * @param before what is already known against the claim
 */
export function judge(
  measurements: readonly HorizonMeasurement[],
  start: { error: number; tolerance: number },
  before: readonly Finding[] = [],
): Verdict {
  const { horizons, counted, rate } = summarise(measurements, start.error);
  const findings = [...before, ...contradictions(measurements, horizons, start.tolerance)];
  const unclear = (reason: string) => findings.push({ outcome: 'unclear', reason });
  const shallow = (reason: string) => {
    const span = counted[counted.length - 1].T / counted[0].T;
    if (span >= leastSpan) findings.push({ outcome: 'fails', reason });
    else
      unclear(
        `${reason}; but the horizons past burn-in span only a factor of ${Number(show(span))}, over which the slope may wander: ` +
          `a factor of ${leastSpan} would tell`,
      );
  };
  if (counted.length < leastHorizons)
    unclear(
      `only ${counted.length} of the ${horizons.length} horizons are past burn-in (mean error at most ${burnInShare} of the ` +
        `starting point's ${show(start.error)}); a rate needs ${leastHorizons}, at larger T`,
    );
  else if (rate === null) unclear('a mean error is not positive, so there is no rate');
  else if (rate.interval[0] > shallowestAllowed)
    shallow(
      `the rate ${show(rate.slope)}, interval ${showInterval(rate.interval)}, is clearly above ${shallowestAllowed}`,
    );
  else if (!(rate.interval[1] <= shallowestAllowed))
    unclear(
      `the rate ${show(rate.slope)}, interval ${showInterval(rate.interval)}, is not clearly at or below ${shallowestAllowed}: ` +
        'more runs, or larger T, would tell',
    );
  if (rate !== null && counted.length > 2) {
    const [before, last] = counted.slice(-2);
    const end = fitRate([before, last]);
    if (end.interval[0] > shallowestAllowed)
      shallow(
        `the error stops falling: from T = ${before.T} to ${last.T} the rate is ${show(end.slope)}, clearly above ${shallowestAllowed}`,
      );
  }
  const { outcome, reasons } = concluded(findings);
  return { horizons, rate, outcome, holds: outcome === 'holds', reasons };
}

/** The outcome of all that was found, and the reasons, what refutes first. */
export function concluded(findings: readonly Finding[]): Pick<Verdict, 'outcome' | 'reasons'> {
  const reasonsFor = (kind: Outcome) =>
    findings.filter((finding) => finding.outcome === kind).map(({ reason }) => reason);
  return {
    outcome: jointOutcome(findings.map((finding) => finding.outcome)),
    reasons: [...reasonsFor('fails'), ...reasonsFor('unclear')],
  };
}

function showInterval(interval: Interval): string {
  return `[${interval.map(show).join(', ')}]`;
}

function show(value: number): string {
  return value.toPrecision(4);
}
