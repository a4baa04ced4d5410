import type { SamplerPlan, SamplerState } from '../data/pairs/sampler.js';
import type { Team } from '../distributed/team.js';
import type { MaybePromise } from '../policy/policy.js';
import type { Progress } from '../terminal/progress.js';
import type { MetricsLine } from './metrics-line.js';
import type { PlateauState } from './plateau.js';
import type { Reference } from './scoring.js';

/** What the training loop reports while it runs, and what it needs to go on from a step. */

export interface TrainerHooks {
  /** The processes that train together; absent where there is one. */
  team?: Team;
  /** Scores training and validation pairs by the reference, once, before step 0; default: without a cache. */
  reference?: Reference;
  /** Called for step 0 and after every optimiser step, in order. */
  onStep(line: MetricsLine): void;
  /** Shows the progress of an evaluation. */
  evaluating?(step: number, pairs: number): Progress;
  /**
   * Called before every batch of an evaluation; may throw an InterruptedError to stop there. {@link afterStep} then gets a state
   * from which the run goes on with that evaluation.
   */
  pause?(step: number): void;
  /**
   * Called after {@link onStep}, while the policy is idle: the moment to save. The only other thing that the run needs to go on from here is
   * the policy's own state.
   * @returns false to stop here
   */
  afterStep?(state: TrainerState): MaybePromise<boolean>;
  /** Called once, before step 0. `finished`: whether a run that is resumed has nothing left to train. */
  onPlan?(plan: { steps: number; sampler: SamplerPlan; finished: boolean }): void;
  /** Something a user should know that is no error. */
  onWarning?(text: string): void;
  /** A decision of the loop: a cut of the learning rate, an early end. */
  onDecision?(text: string): void;
}

/** The evaluation with the smallest worst-group validation loss so far. */
export interface BestEvaluation {
  step: number;
  loss: number;
  /** The group whose loss that is. */
  group: string;
}

/** What the loop remembers between steps; plain JSON. Learning rates depend only on the step and the cuts of a plateau. */
export interface TrainerState {
  step: number;
  /** Pairs drawn so far. */
  seen: number;
  sampler: SamplerState;
  /** Absent where the group weights never move. */
  groupWeights?: object;
  /** Absent with other schedules. */
  plateau?: PlateauState;
  /** Absent without validation pairs. */
  best?: BestEvaluation;
  /** Whether the run ends with this step. */
  finished: boolean;
  /** Steps skipped because a loss or gradient was not finite. */
  skipped: number;
  /** Whether the warning about a saturated α was given. */
  saturated: boolean;
  /** Where the evaluation after this step was interrupted: the step's line so far, which is not in the log yet. */
  unevaluated?: MetricsLine;
}
