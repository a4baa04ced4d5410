/**
 * The boundary between the method and a model: log-probabilities out, cotangents in. Of a reward model, which is trained by the same loop,
 * scores r(x, y) take the place of the log-probabilities everywhere here, but that it has no reference.
 *
 * A policy never learns what a group, a pair, a loss or α is. It scores responses, and it pulls d loss / d log π(y|x) back
 * to its parameters. Gradients are kept in numbered accumulators, so that the caller can decide the weights of a step
 * after it has seen all of its losses: grad = Σ_k coefficients_k · accumulator_k.
 */
export interface Policy<Batch> {
  /** Where it is computed, which decides how much is scored at once; absent: `cpu`. */
  readonly device?: string;
  /** Whether it is a reward model. Absent: it is not. */
  readonly isReward?: boolean;

  /** log π(y|x) of every response of the batch, in batch order: natural log, summed over response tokens. */
  logProbabilities(batch: Batch, source: LogProbabilitySource): MaybePromise<Float64Array>;

  /** As `logProbabilities(batch, 'policy')`; keeps what {@link backward} needs, until that or another forward is called. */
  forward(batch: Batch): MaybePromise<Float64Array>;

  /**
   * Adds Σ_r cotangents_r · ∂ log π(y_r|x)/∂ parameters to the accumulators, for the batch of the last {@link forward}.
   * @param cotangents one per response
   * @param accumulators one index per item (tree) of the batch: where the gradient of its responses goes
   */
  backward(cotangents: Float64Array, accumulators: Int32Array): MaybePromise<void>;

  /** Empties the accumulators without a step. */
  discardGradients(): MaybePromise<void>;

  /** One optimiser step on Σ_k coefficients_k · accumulator_k; empties the accumulators. */
  step(coefficients: Float64Array, settings: StepSettings): MaybePromise<StepReport>;

  /**
   * `use` while the parameters are their mean after all steps that were taken with `average`; as they are, before the first of these.
   * It must take no step. A policy without it keeps no mean.
   */
  averaged?<T>(use: () => Promise<T>): Promise<T>;
}

/** `policy`: the one being trained. `reference`: the frozen one that it started from. */
export type LogProbabilitySource = 'policy' | 'reference';

export type MaybePromise<T> = T | Promise<T>;

export interface StepSettings {
  learningRate: number;
  /** The gradient is scaled down to this Euclidean norm where it is larger; absent: never. */
  maxGradNorm?: number;
  /** Whether the parameters after this step, where it changes them, go into their mean. */
  average?: boolean;
}

export interface StepReport {
  /** Euclidean norm of the gradient before clipping. When it is not finite, nothing was changed. */
  gradNorm: number;
}
