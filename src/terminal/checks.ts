import { confidenceInterval, type PairedDifference } from '../numbers/statistics.js';
import { counted, formatEstimate, formatNumber } from './format.js';

/** `unclear`: what was run can neither confirm nor refute it, as where it came out by no more than chance could make it. */
export type Outcome = 'holds' | 'unclear' | 'fails';

export const outcomeSigns: Readonly<Record<Outcome, string>> = { holds: '✓', unclear: '≈', fails: '✗' };

/** One claim and what came of it: the same on the terminal, in the exit code (1 where one fails that is no finding) and on the page. */
export interface Check {
  /** A sentence without its full stop. */
  claim: string;
  outcome: Outcome;
  /** What says so; may be empty. */
  detail: string;
  /** What was measured, where two methods were compared over seeds. */
  difference?: PairedDifference;
  /** A statement of others that our numbers are held against: that it fails is a finding, and no failure of the program. */
  finding?: true;
}

/** Of a claim that holds only where each of its parts does, and fails where one of them fails. */
export function jointOutcome(parts: readonly Outcome[]): Outcome {
  if (parts.includes('fails')) return 'fails';
  return parts.includes('unclear') ? 'unclear' : 'holds';
}

/** Of a claim that a difference is below, or above, 0: holds where all of `values` say so, such as both ends of its interval, and fails where all say the contrary. */
export function outcomeOf(values: readonly number[], wanted: 'lower' | 'higher'): Outcome {
  const sign = wanted === 'lower' ? -1 : 1;
  if (values.every((value) => sign * value > 0)) return 'holds';
  return values.every((value) => sign * value < 0) ? 'fails' : 'unclear';
}

/**
 * A claim that one method's score is lower, or higher, than another's. It holds where the whole 95 % interval of the mean of
 * the paired differences says so, fails where the mean says the contrary, and else is unclear: one seed, which has no interval, or a tie. Stricter
 * than {@link outcomeOf} of the interval, by which sweeps and pooled folds are judged.
 */
export function pairedCheck(claim: string, difference: PairedDifference, wanted: 'lower' | 'higher'): Check {
  const { mean, pairs } = difference;
  const interval = confidenceInterval(difference, pairs);
  const chance = interval
    ? `95 % interval ${interval.map((end) => formatNumber(end, 3)).join(' to ')}`
    : 'one seed says nothing about chance';
  return {
    claim,
    outcome: outcomeOf([mean], wanted) === 'fails' ? 'fails' : interval ? outcomeOf(interval, wanted) : 'unclear',
    detail: `paired difference ${formatEstimate(difference)} over ${counted(pairs, 'seed')}; ${chance}`,
    difference,
  };
}

/** What a program that has checked them tells by exit code 1. */
export function failed(checks: readonly Check[]): boolean {
  return checks.some(({ outcome, finding }) => outcome === 'fails' && !finding);
}

export function checkText({ claim, detail }: Check): string {
  return detail === '' ? claim : `${claim} (${detail})`;
}

/** For a terminal. */
export function checkLine(check: Check): string {
  return `${outcomeSigns[check.outcome]} ${check.outcome}: ${checkText(check)}`;
}
