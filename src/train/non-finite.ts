import type { TokenisedPair } from '../data/pairs/dataset.js';
import { GroupRobustError } from '../errors.js';
import type { PairMetricValues } from './metrics.js';

/** A loss or gradient was not a finite number; nothing was changed by the step or evaluation that met it. */
export class NonFiniteError extends GroupRobustError {
  /** @param problem what was not finite, and of which pairs */
  constructor(
    readonly problem: string,
    { where, fix }: { where?: string; fix?: string } = {},
  ) {
    super('NON_FINITE', `${where ? `${where}: ` : ''}${problem}${fix ? `\n  fix: ${fix}` : ''}`);
  }
}

/**
 * Checks every value of every pair: a loss may be finite where a log-probability is not.
 * @throws NonFiniteError naming the pairs
 */
export function checkFinite(pairs: readonly TokenisedPair[], values: PairMetricValues): void {
  const bad = pairs.filter((_, i) => Object.values(values).some((column) => !Number.isFinite(column[i])));
  if (bad.length > 0)
    throw new NonFiniteError(`the loss or a log-probability of ${namesOf(bad)} is not a finite number`, {
      fix: 'check the model and these pairs; if dtype is not float32, try float32',
    });
}

/** "a.jsonl:3, a.jsonl:7"; of many pairs the first, and how many more there are. */
export function namesOf(pairs: readonly TokenisedPair[]): string {
  const shown = pairs.slice(0, 20).map((pair) => pair.id);
  return shown.join(', ') + (pairs.length > shown.length ? ` and ${pairs.length - shown.length} more` : '');
}
