import type { PairDataset } from '../data/pairs/dataset.js';
import { responseCotangents } from '../data/pairs/packing.js';
import { createSampler, type SamplerPlan, type SamplerState } from '../data/pairs/sampler.js';
import { InterruptedError } from '../errors.js';
import type { NativeBatch } from '../native/types.js';
import { GroupTotals, robustStep } from '../objective/aggregate.js';
import { groupWeights } from '../objective/group-weights.js';
import type { MaybePromise, Policy } from '../policy/policy.js';
import { counted } from '../terminal/format.js';
import type { Progress } from '../terminal/progress.js';
import { type TrainConfig, weightSettings } from './config.js';
import { evaluatePairs } from './evaluate.js';
import { alphaMetrics, flatMetrics, GroupMetrics } from './metrics.js';
import { checkFinite, NonFiniteError, namesOf } from './non-finite.js';
import { type PairScores, pairObjective } from './objective.js';
import { Plateau, type PlateauState, watchedLoss } from './plateau.js';
import { learningRateAt } from './schedule.js';
import { byPair, packBatch, pairColumns, promptNumbers, Reference, scoredDataset } from './scoring.js';

/** The parts of the configuration that the loop itself reads. */
export type TrainerSettings = Pick<
  TrainConfig,
  'objective' | 'optimizer' | 'batch' | 'epochs' | 'steps' | 'evaluateEvery' | 'seed' | 'reference' | 'nonFinite'
>;

/** One line of metrics.jsonl. */
export type MetricsLine = Record<string, number | string | boolean>;

export interface TrainerHooks {
  /** Scores training and validation pairs by the reference, once, before step 0; default: without a cache. */
  reference?: Reference;
  /** Called for step 0 and after every optimiser step, in order. */
  onStep(line: MetricsLine): void;
  /** Shows how far an evaluation is. */
  evaluating?(step: number, pairs: number): Progress;
  /**
   * Called before every batch of an evaluation; may throw an InterruptedError to stop there. {@link afterStep} then gets a state
   * from which the run goes on with that evaluation.
   */
  pause?(step: number): void;
  /**
   * Called after {@link onStep}, while the policy is at rest: the moment to save. All else that the run needs to go on
   * from here is the policy's own state.
   * @returns false to stop here
   */
  afterStep?(state: TrainerState): MaybePromise<boolean>;
  /** Called once, before step 0. */
  onPlan?(plan: { steps: number; sampler: SamplerPlan }): void;
  /** Something a user should know that is no error. */
  onWarning?(text: string): void;
  /** A decision the loop has taken: a cut of the learning rate, an early end. */
  onDecision?(text: string): void;
}

/** The evaluation with the smallest worst-group validation loss so far. */
export interface BestEvaluation {
  step: number;
  loss: number;
  /** The group whose loss that is. */
  group: string;
}

/** What the loop remembers between steps, plain JSON. Learning rates depend on the step and the cuts of a plateau alone. */
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
  /** Where the evaluation after this step was broken off: the step's line so far, which is not in the log yet. */
  unevaluated?: MetricsLine;
}

/** Most steps to skip where the configuration does not say. */
const defaultSkipLimit = 10;

/** Weights so concentrated that other groups hardly train: below this many effective groups a warning is given. */
const saturatedGroups = 1.05;

/**
 * Trains `policy` on preference pairs (or, with loss sft, on their chosen responses): Algorithm 1 over mini-batches.
 *
 * Every step draws one batch S, sums its pair gradients per group, closes the window (group signals, then α, then the
 * weights of the θ-step) and makes one optimiser step on Σ_g coefficients_g · gradient_g. Because weights are applied
 * after the sums, cutting the batch into micro-batches changes nothing, and α moves exactly once per step.
 *
 * The order of the data depends on the seed and the sampler only, so two methods with one seed see the same batches.
 *
 * A step whose loss or gradient is not finite changes neither weights nor α: it stops the run or is skipped, as
 * `settings.nonFinite` says. An evaluation that is not finite always stops the run: no figure could stand for it in the choice
 * of the best step, a plateau, or the report.
 *
 * @param from continues after this step, on a policy that has been put back as it was then, instead of from step 0
 * @returns α after every step taken here: [steps + 1][K], the weights it started with first
 * @throws NonFiniteError naming the pairs of the batch, with weights and α as they were before it, or those of the evaluation
 * @throws whatever `hooks.pause` throws
 */
export async function trainPolicy(
  policy: Policy<NativeBatch>,
  train: PairDataset,
  validation: PairDataset | undefined,
  settings: TrainerSettings,
  hooks: TrainerHooks,
  from?: TrainerState,
): Promise<number[][]> {
  const { batch, optimizer } = settings;
  const objective = pairObjective(settings.objective);
  const weighting = groupWeights(weightSettings(settings.objective), train.counts);
  const sampler = createSampler({
    kind: batch.sampler,
    groups: pairColumns(train.pairs).groups,
    prompts: promptNumbers(train.pairs),
    groupCount: train.groups.length,
    batchSize: batch.size,
    seed: settings.seed,
  });
  const { batchesPerEpoch } = sampler;
  const steps = settings.steps ?? Math.ceil((settings.epochs as number) * batchesPerEpoch - 1e-9);
  const evaluateEvery = settings.evaluateEvery ?? batchesPerEpoch;
  const microSize = batch.micro ?? batch.size;
  hooks.onPlan?.({ steps, sampler: sampler.describe() });
  const reference = hooks.reference ?? new Reference(policy);
  const scored = (data: PairDataset) => scoredDataset(data, objective.usesReference ? reference : undefined);
  const { reference: referenceScores } = await scored(train);
  const watched = validation && (await scored(validation));

  const plateau = optimizer.plateau && new Plateau(optimizer.plateau, optimizer.learningRate);
  if (from?.plateau) plateau?.restore(from.plateau);
  let best = from?.best;
  const finished = (step: number) => step === steps || plateau?.ended === true;
  /** Exact validation metrics; what hangs on them is decided here. */
  const evaluation = async (step: number): Promise<MetricsLine> => {
    if (!watched) return {};
    const bar = hooks.evaluating?.(step, watched.data.pairs.length);
    const options = { onProgress: bar?.update, pause: () => hooks.pause?.(step) };
    const summary = await evaluatePairs(policy, watched, objective, options).finally(() => bar?.stop());
    const { loss, group } = summary.worst;
    if (loss !== undefined && !(loss >= (best?.loss ?? Number.POSITIVE_INFINITY))) best = { step, loss, group };
    if (optimizer.plateau && plateau?.observe(watchedLoss(summary, optimizer.plateau.watch)))
      hooks.onDecision?.(
        `step ${step}: the ${optimizer.plateau.watch} validation loss has not fallen for ${optimizer.plateau.patience + 1} ` +
          `evaluations; ${plateau.ended ? 'the run ends' : `the learning rate is cut to ${(optimizer.learningRate * plateau.rateScale).toPrecision(3)}`}`,
      );
    return { ...flatMetrics(summary, 'eval_'), ...plateau?.metrics() };
  };
  let seen = from?.seen ?? 0;
  let skipped = from?.skipped ?? 0;
  let saturated = from?.saturated ?? false;
  const stateAt = (step: number): TrainerState => ({
    step,
    seen,
    sampler: sampler.state(),
    groupWeights: weighting.state?.(),
    plateau: plateau?.state(),
    best,
    finished: finished(step),
    skipped,
    saturated,
  });

  /** One optimiser step on the pairs `indices`; @returns its metrics. On a NonFiniteError gradients and α are in disorder. */
  const takeStep = async (step: number, indices: Int32Array): Promise<MetricsLine> => {
    const totals = new GroupTotals(train.groups.length);
    const metrics = new GroupMetrics(train.groups);
    for (let start = 0; start < indices.length; start += microSize) {
      const micro = indices.subarray(start, start + microSize);
      const packed = packBatch(train, micro, objective.responses);
      const policyScores = byPair(packed, await policy.forward(packed.batch));
      const scores = referenceScores?.addTo(policyScores, micro) ?? policyScores;
      const pairs = Array.from(micro, (pair) => train.pairs[pair]);
      const { groups, weights } = pairColumns(pairs);
      const outcome = objective.evaluate(scores);
      checkFinite(pairs, outcome.metrics);
      if (step === 1 && start === 0 && settings.reference !== 'base') reportStartingGap(scores, hooks);
      for (let i = 0; i < pairs.length; i++) totals.add(groups[i], outcome.losses[i], weights[i]);
      metrics.add(groups, weights, outcome.metrics);
      const weighted = (cotangents: Float64Array) => cotangents.map((cotangent, i) => weights[i] * cotangent);
      await policy.backward(
        responseCotangents(
          packed,
          weighted(outcome.chosenCotangents),
          outcome.rejectedCotangents && weighted(outcome.rejectedCotangents),
        ),
        packed.treeGroups,
      );
    }

    if (weighting.step !== undefined && plateau)
      weighting.step = (settings.objective.step as number) * plateau.stepScale;
    const robust = robustStep(totals, weighting, sampler.groupProbabilities, settings.objective.scaling);
    if (!Number.isFinite(robust.loss)) throw new NonFiniteError('α has overflowed: lower objective.step');
    const learningRate = learningRateAt(optimizer, step, steps) * (plateau?.rateScale ?? 1);
    const { gradNorm } = await policy.step(robust.coefficients, { learningRate, maxGradNorm: optimizer.maxGradNorm });
    if (!Number.isFinite(gradNorm))
      throw new NonFiniteError(
        `the gradient of ${namesOf(Array.from(indices, (pair) => train.pairs[pair]))} is not a finite number`,
      );
    const summary = metrics.summary();
    return {
      ...flatMetrics(summary),
      // `loss` is what was minimised; the plain mean over the batch stands beside it.
      loss: robust.loss,
      ...(summary.mean.loss === undefined ? {} : { mean_loss: summary.mean.loss }),
      grad_norm: gradNorm,
      grad_clipped: gradNorm > optimizer.maxGradNorm,
      learning_rate: learningRate,
      ...(weighting.step !== undefined && plateau ? { 'alpha/step': weighting.step } : {}),
    };
  };

  /** As {@link takeStep}; a step that is not finite is undone, then skipped (undefined) or thrown. */
  const tryStep = async (step: number, indices: Int32Array): Promise<MetricsLine | undefined> => {
    const before = weighting.state?.();
    try {
      return await takeStep(step, indices);
    } catch (error) {
      if (!(error instanceof NonFiniteError)) throw error;
      if (before) weighting.restore?.(before);
      await policy.discardGradients();
      const { action, limit = defaultSkipLimit } = settings.nonFinite;
      const text = `step ${step}: ${error.problem}; weights and α are unchanged`;
      if (action === 'stop' || skipped === limit)
        throw new NonFiniteError(
          `${text}${action === 'skip' ? `, and nonFinite.limit allows to skip ${counted(limit, 'step')}` : ''}`,
          {
            fix: 'lower optimizer.learningRate, use dtype: float32, check the model and these pairs, or set nonFinite.action: skip',
          },
        );
      skipped++;
      hooks.onWarning?.(`${text}; skipped (${skipped} of at most ${limit})`);
      return undefined;
    }
  };

  /** Ends a step: evaluates, logs, saves. @returns false to stop */
  const endStep = async (step: number, line: MetricsLine): Promise<boolean> => {
    const evaluated = step % evaluateEvery === 0 || step === steps;
    try {
      hooks.onStep(evaluated ? { ...line, ...(await evaluation(step)) } : line);
    } catch (error) {
      // Its state is saved already where this evaluation was broken off before.
      if (error instanceof InterruptedError && line !== from?.unevaluated)
        await hooks.afterStep?.({ ...stateAt(step), unevaluated: line });
      if (!(error instanceof NonFiniteError)) throw error;
      hooks.onStep(line);
      const fix =
        step === 0
          ? 'check the model and these pairs, or use dtype: float32'
          : 'start a new run with a lower optimizer.learningRate, with dtype: float32, or without these pairs; the checkpoints ' +
            'up to here are as they were';
      throw new NonFiniteError(`${error.problem}, so the run cannot go by it`, {
        where: `step ${step}: the evaluation on ${validation?.file}`,
        fix,
      });
    }
    return (await hooks.afterStep?.(stateAt(step))) !== false;
  };

  if (from) {
    sampler.restore(from.sampler);
    if (from.groupWeights) weighting.restore?.(from.groupWeights);
  }
  const alphaHistory = [[...weighting.alpha]];
  const open = from ? from.unevaluated : { step: 0, epoch: 0, ...alphaMetrics(train.groups, weighting) };
  if (open && !(await endStep(from?.step ?? 0, open))) return alphaHistory;
  for (let step = (from?.step ?? 0) + 1; step <= steps && !plateau?.ended; step++) {
    const indices = sampler.next();
    const metrics = await tryStep(step, indices);
    seen += indices.length;
    alphaHistory.push([...weighting.alpha]);
    const alpha = alphaMetrics(train.groups, weighting);
    if (!saturated && train.groups.length > 1 && alpha['weight/effective_groups'] < saturatedGroups) {
      saturated = true;
      hooks.onWarning?.(
        `ALPHA_SATURATED at step ${step}: nearly all weight is on one group, so the others stop training. ` +
          'Lower objective.step, raise batch.size, or set objective.floor or a lower objective.chi',
      );
    }
    const line = {
      step,
      epoch: seen / train.pairs.length,
      ...metrics,
      ...(settings.nonFinite.action === 'skip' ? { skipped_steps: skipped } : {}),
      ...alpha,
    };
    if (!(await endStep(step, line))) break;
  }
  return alphaHistory;
}

/** Largest difference of policy and reference, in nats per nat, that rounding explains; float32 makes about 1e-7. */
const roundingGap = 1e-5;

/**
 * Before the first step policy and reference are the same model (unless an adapter is trained against its base on
 * purpose), so both must give every response the same log-probability. The reference scored it in another batch, so sums may
 * be rounded otherwise; more than that means that the two are not the same, and every reward of the run would carry it.
 */
function reportStartingGap(scores: PairScores, hooks: TrainerHooks): void {
  const gapOf = (policy: ArrayLike<number>, reference: ArrayLike<number> = policy) =>
    Math.max(...Array.from(policy, (logp, i) => Math.abs(logp - reference[i]) / Math.max(1, Math.abs(logp))));
  const gap = Math.max(
    gapOf(scores.chosen, scores.referenceChosen),
    gapOf(scores.rejected ?? [], scores.referenceRejected),
  );
  if (gap > roundingGap)
    hooks.onWarning?.(
      `policy and reference differ before training: log-probs by up to ${gap.toExponential(1)} of their size, expected ` +
        '0. With dtype: bfloat16 this may be rounding; otherwise check the adapter',
    );
}
