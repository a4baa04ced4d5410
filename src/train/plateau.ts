import { InputError } from '../errors.js';
import type { GroupSummary } from './metrics.js';

/** The validation losses that a run can watch: the worst group's, or the mean over groups, in which each counts the same. */
export const watchedLosses = ['worst-group', 'group-mean'] as const;
export type WatchedLoss = (typeof watchedLosses)[number];

/** @throws InputError where no pair has a weight */
export function watchedLoss(summary: GroupSummary, watch: WatchedLoss): number {
  const { loss } = watch === 'worst-group' ? summary.worst : summary.group_mean;
  if (loss === undefined)
    throw new InputError('all validation pairs have weight 0, so there is no loss to watch', {
      at: { field: 'data.validation' },
      fix: 'give pairs a weight, or use another optimizer.schedule',
    });
  return loss;
}

export interface PlateauSettings {
  watch: WatchedLoss;
  /** What a cut multiplies the learning rate by. */
  factor: number;
  /** What a cut multiplies η_α by. */
  stepFactor?: number;
  /** Evaluations in a row that may bring no improvement; the next one cuts. */
  patience: number;
  /** A loss is an improvement when it is lower than the best one by more than this fraction of it. */
  threshold: number;
  /** The run ends when a cut has taken the learning rate below this. */
  stopBelow: number;
}

/** Plain JSON. */
export interface PlateauState {
  /** Null before the first evaluation. */
  best: number | null;
  /** Evaluations in a row that were no improvement. */
  bad: number;
  cuts: number;
}

/**
 * Cuts learning rate and η_α when a validation loss has stopped falling, and ends the run when the rate has become too small
 * to matter. Like torch's ReduceLROnPlateau with mode min on the loss itself. The authors used mode max on the negative loss, where a
 * relative threshold counts a loss that is up to 0.1 % worse as an improvement.
 */
export class Plateau {
  private current: PlateauState = { best: null, bad: 0, cuts: 0 };

  constructor(
    private readonly settings: PlateauSettings,
    private readonly learningRate: number,
  ) {}

  /** @returns whether this evaluation leads to a cut */
  observe(loss: number): boolean {
    if (loss < this.target) {
      this.current = { ...this.current, best: loss, bad: 0 };
      return false;
    }
    this.current.bad++;
    if (this.current.bad <= this.settings.patience) return false;
    this.current = { ...this.current, bad: 0, cuts: this.current.cuts + 1 };
    return true;
  }

  /** What the learning rate is multiplied by. */
  get rateScale(): number {
    return this.settings.factor ** this.current.cuts;
  }

  /** What η_α is multiplied by. */
  get stepScale(): number {
    return (this.settings.stepFactor ?? defaultStepFactor) ** this.current.cuts;
  }

  /** Whether the run ends. */
  get ended(): boolean {
    return this.learningRate * this.rateScale < this.settings.stopBelow;
  }

  state(): PlateauState {
    return { ...this.current };
  }

  restore(state: PlateauState): void {
    this.current = { ...state };
  }

  /** For the lines of the log that have an evaluation; after the first one. */
  metrics(): Record<string, number> {
    const { best, bad, cuts } = this.current;
    return {
      ...(best === null ? {} : { 'plateau/best': best }),
      'plateau/target': this.target,
      'plateau/bad_evaluations': bad,
      'plateau/patience': this.settings.patience,
      'plateau/cuts': cuts,
    };
  }

  /** A loss below this is an improvement. */
  private get target(): number {
    const { best } = this.current;
    return best === null ? Number.POSITIVE_INFINITY : best - this.settings.threshold * Math.abs(best);
  }
}

/** As in the authors' code. */
const defaultStepFactor = 0.5;
