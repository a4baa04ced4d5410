import { cellsOf, type PairDataset } from '../data/pairs/dataset.js';
import { responseCotangents } from '../data/pairs/packing.js';
import { promptNumbers } from '../data/pairs/prompt-numbers.js';
import { createSampler, type Sampler } from '../data/pairs/sampler.js';
import { InputError, InterruptedError, present } from '../errors.js';
import type { NativeBatch } from '../native/types.js';
import { GroupTotals, robustStep } from '../objective/aggregate.js';
import { type GroupWeights, groupWeights, isMoving } from '../objective/group-weights.js';
import { CellWeights } from '../objective/overlap.js';
import type { Policy } from '../policy/policy.js';
import { counted } from '../terminal/format.js';
import type { TrainConfig } from './config.js';
import { evaluatePairs, evaluationDue } from './evaluate.js';
import { alphaMetrics, flatMetrics, GroupMetrics, type GroupSummary } from './metrics.js';
import type { Metrics, MetricsLine } from './metrics-line.js';
import { checkFinite, NonFiniteError, namesOf } from './non-finite.js';
import { type PairObjective, pairObjective, refuseSoftLabels } from './objective.js';
import type { Objective } from './objective-config.js';
import { Plateau, watchedLoss } from './plateau.js';
import { learningRateAt } from './schedule.js';
import {
  byPair,
  packBatch,
  pairColumns,
  pairsAt,
  Reference,
  type ReferenceScores,
  type ScoredDataset,
  scoredDataset,
} from './scoring.js';
import { startingGap, startingGapWarning } from './starting-gap.js';
import { ownShare, sumOverTeam } from './team-step.js';
import type { BestEvaluation, TrainerHooks, TrainerState } from './trainer-hooks.js';

/** The parts of the configuration that the loop itself reads. */
export type TrainerSettings = Pick<
  TrainConfig,
  'optimizer' | 'batch' | 'epochs' | 'steps' | 'evaluateEvery' | 'seed' | 'reference' | 'nonFinite'
> &
  Partial<Pick<TrainConfig, 'objective'>>;

/** Most steps to skip where the configuration does not say. */
const defaultSkipLimit = 10;

/** What is not finite where signals are, and α is not. */
const alphaOverflow = 'α has overflowed';

/** A warning is given below this many effective groups: weights are then so concentrated that other groups hardly train. */
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
 * Where groups overlap (`train.cells`), sums and gradients are kept by the sets of groups that pairs are of, and only the window's end goes
 * from these to groups and back: each group's signal is over all its members, and a pair counts by the sum over its groups. The policy needs
 * {@link gradientAccumulators}.
 *
 * With `hooks.team`, this process takes its share of every batch, and steps, decisions and metrics are those of all; the policy has to sum
 * its gradients over the same processes.
 *
 * A step whose loss or gradient is not finite changes neither weights nor α: it stops the run or is skipped, as
 * `settings.nonFinite` says. An evaluation that is not finite always stops the run: no number could replace it in the choice of the best
 * step, in a plateau, or in the report.
 *
 * @param from where to continue instead of at step 0; the policy has been restored to its state then
 * @param own a loss or a weighting of yours
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
  own: OwnObjective = {},
): Promise<number[][]> {
  return new Trainer(policy, train, validation, settings, hooks, own).run(from);
}

/**
 * How many gradient accumulators the policy needs: one for each group, or, where groups overlap, for each of the sets of groups that pairs are
 * of, but no more than a batch has pairs.
 */
export function gradientAccumulators(train: Pick<PairDataset, 'groups' | 'cells'>, batchSize: number): number {
  return Math.min(cellsOf(train).length, batchSize);
}

/** Parts of a method in place of those that `settings.objective` names, which is not needed where both are given. */
export interface OwnObjective {
  loss?: PairObjective;
  /** For the groups of the training pairs, in their order; a run that goes on has its `restore` called. */
  weighting?: GroupWeights;
}

/** One run of {@link trainPolicy}; its changing fields are what a {@link TrainerState} keeps. */
class Trainer {
  private readonly objective: PairObjective;
  private readonly weighting: GroupWeights;
  /** The groups of each cell. */
  private readonly cells: readonly (readonly number[])[];
  private readonly cellWeights: CellWeights;
  /** As many as {@link gradientAccumulators} says. */
  private readonly accumulators: number;
  private readonly sampler: Sampler;
  private readonly plateau?: Plateau;
  /** η_α before any cut; absent where the group weights never move. */
  private readonly alphaStep?: number;
  private readonly steps: number;
  private referenceScores?: ReferenceScores;
  /** The validation pairs. */
  private watched?: ScoredDataset;
  /** The steps taken; while one is taken, its number. */
  private step = 0;
  private seen = 0;
  private skipped = 0;
  private saturated = false;
  /** The largest starting gap so far of the pairs of this process. */
  private gap = 0;
  private best?: BestEvaluation;

  constructor(
    private readonly policy: Policy<NativeBatch>,
    private readonly train: PairDataset,
    private readonly validation: PairDataset | undefined,
    private readonly settings: TrainerSettings,
    private readonly hooks: TrainerHooks,
    private readonly own: OwnObjective,
  ) {
    const { batch, optimizer, seed } = settings;
    this.objective = own.loss ?? pairObjective(namedObjective(settings));
    if (hooks.team && this.objective.couple)
      throw new InputError('needs all pairs of a step in one process', {
        at: { field: 'objective.tilt' },
        fix: 'train with one process, or leave it out',
      });
    const isReward = settings.objective?.loss === 'reward';
    if (!own.loss && isReward !== (policy.isReward ?? false))
      throw new InputError(
        isReward ? 'is for a reward model, and this is a policy' : 'is for a policy, and this is a reward model',
        { at: { field: 'objective.loss' }, fix: 'give the adapter a score head for loss: reward, and for no other' },
      );
    for (const data of [train, validation]) if (data) refuseSoftLabels(this.objective, data);
    this.weighting = own.weighting ?? weightsOf(namedObjective(settings), train.counts, seed);
    this.alphaStep = this.weighting.step;
    this.cells = cellsOf(train);
    if (this.objective.couple && train.cells && !this.weighting.pairsAlike)
      throw new InputError('has no meaning group by group where a pair is of several groups', {
        at: { field: 'objective.tilt' },
        fix: 'set objective.weights: erm, which tilts over all pairs, leave the tilt out, or let the groups not overlap',
      });
    this.accumulators = gradientAccumulators(train, batch.size);
    const all = new GroupTotals(this.cells.length);
    for (const { group, weight } of train.pairs) all.add(group, 0, weight);
    // Without overlap the weights of each group have mean 1, which their sum has only up to rounding.
    const weightSums = train.cells ? all.weightSums : all.counts;
    this.cellWeights = new CellWeights(this.weighting, this.cells, all.counts, weightSums);
    this.sampler = createSampler({
      kind: batch.sampler,
      groups: pairColumns(train.pairs).groups,
      cells: this.cells,
      prompts: promptNumbers(train.pairs),
      groupCount: train.groups.length,
      batchSize: batch.size,
      seed,
    });
    this.steps = plannedSteps(settings, this.sampler.batchesPerEpoch);
    refuseAverage(optimizer.averageFrom, this.steps, policy);
    this.plateau = optimizer.plateau && new Plateau(optimizer.plateau, optimizer.learningRate);
  }

  async run(from?: TrainerState): Promise<number[][]> {
    if (from) this.restore(from);
    this.hooks.onPlan?.({ steps: this.steps, sampler: this.sampler.describe(), finished: this.finished });
    this.warnOfWarmup();
    await this.scoreByReference();
    const alphaHistory = [[...this.weighting.alpha]];
    const open = from ? from.unevaluated : { step: 0, epoch: 0, ...this.alpha() };
    let goesOn = open === undefined || (await this.endStep(open, from !== undefined));
    while (goesOn && !this.finished) {
      const line = await this.nextStep();
      alphaHistory.push([...this.weighting.alpha]);
      goesOn = await this.endStep(line);
    }
    return alphaHistory;
  }

  /** Draws a batch and takes a step on it. @returns its line of the log */
  private async nextStep(): Promise<MetricsLine> {
    this.step++;
    const batch = this.sampler.next();
    const before = this.weighting.weights.slice();
    const metrics = await this.stepOrSkip(batch);
    this.seen += batch.length;
    const alpha = this.alpha(this.weighting.movesAfter ? before : undefined);
    this.warnOfSaturation(alpha['weight/effective_groups']);
    return {
      step: this.step,
      epoch: this.seen / this.train.pairs.length,
      ...metrics,
      ...(this.settings.nonFinite.action === 'skip' ? { skipped_steps: this.skipped } : {}),
      ...alpha,
    };
  }

  /** As {@link takeStep}; a step that is not finite is undone, then skipped (undefined) or thrown. */
  private async stepOrSkip(batch: Int32Array): Promise<Metrics | undefined> {
    const before = this.weighting.state?.();
    try {
      return await this.takeStep(batch);
    } catch (error) {
      if (!(error instanceof NonFiniteError)) throw error;
      if (before) this.weighting.restore?.(before);
      await this.policy.discardGradients();
      this.countSkipped(error.problem);
      return undefined;
    }
  }

  /**
   * One step of Algorithm 1 on the pairs with the indices `batch`.
   * @returns its metrics
   * @throws NonFiniteError; gradients and α are then in an undefined state
   */
  private async takeStep(batch: Int32Array): Promise<Metrics> {
    const { policy, train, weighting, sampler, plateau, settings } = this;
    const { optimizer, objective } = settings;
    const totals = new GroupTotals(this.cells.length);
    const metrics = new GroupMetrics(train.groups, this.cells);
    const { team } = this.hooks;
    const own = team ? ownShare(train, batch, team) : batch;
    const held = this.heldCells(batch);
    const microSize = this.objective.couple ? batch.length : (settings.batch.micro ?? settings.batch.size);
    const addAll = async () => {
      for (let start = 0; start < own.length; start += microSize)
        await this.addGradients(own.subarray(start, start + microSize), held, totals, metrics);
    };
    await (team ? sumOverTeam(team, totals, metrics, addAll) : addAll());
    if (this.startsAsReference) await this.warnOfGap();

    if (this.alphaStep !== undefined && plateau) weighting.step = this.alphaStep * plateau.stepScale;
    const scaling = (objective && 'scaling' in objective && objective.scaling) || 'normalised';
    const robust = robustStep(totals, this.cellWeights.of(totals, scaling), sampler.cellProbabilities, scaling);
    if (!Number.isFinite(robust.loss))
      throw robust.signal.every(Number.isFinite) && !weighting.alpha.every(Number.isFinite)
        ? new NonFiniteError(alphaOverflow)
        : new NonFiniteError(`the loss of ${namesOf(pairsAt(train, batch))} together is not a finite number`);

    const learningRate = learningRateAt(optimizer, this.step, this.steps) * (plateau?.rateScale ?? 1);
    const coefficients = new Float64Array(this.accumulators);
    for (const [k, cell] of held.entries()) coefficients[k] = present(robust.coefficients[cell]);
    const { maxGradNorm, averageFrom = Number.POSITIVE_INFINITY } = optimizer;
    const average = this.step >= averageFrom;
    const { gradNorm } = await policy.step(coefficients, { learningRate, maxGradNorm, average });
    if (!Number.isFinite(gradNorm))
      throw new NonFiniteError(`the gradient of ${namesOf(pairsAt(train, batch))} is not a finite number`);
    const summary = metrics.summary();
    return {
      ...flatMetrics(summary),
      // `loss` is what was minimised; the plain mean over the batch stands beside it.
      loss: robust.loss,
      ...(summary.mean.loss === undefined ? {} : { mean_loss: summary.mean.loss }),
      grad_norm: gradNorm,
      grad_clipped: gradNorm > maxGradNorm,
      learning_rate: learningRate,
      ...(weighting.step !== undefined && plateau ? { 'alpha/step': weighting.step } : {}),
    };
  }

  /** The cell whose gradient each accumulator has: of all cells, or, where these are too many, of those of the batch. */
  private heldCells(batch: Int32Array): number[] {
    if (this.cells.length <= this.accumulators) return [...this.cells.keys()];
    return [...new Set(pairsAt(this.train, batch).map(({ group }) => group))];
  }

  /** Adds a micro-batch: its losses to `totals` and `metrics`, its pair gradients to the accumulator of each cell. */
  private async addGradients(
    micro: Int32Array,
    held: readonly number[],
    totals: GroupTotals,
    metrics: GroupMetrics,
  ): Promise<void> {
    const { policy, train, objective } = this;
    const packed = packBatch(train, micro, objective.responses);
    const policyScores = byPair(packed, await policy.forward(packed.batch));
    const scores = this.referenceScores?.addTo(policyScores, micro) ?? policyScores;
    const pairs = pairsAt(train, micro);
    const { groups, weights, preferences } = pairColumns(pairs);
    const outcome = objective.evaluate(scores, preferences);
    checkFinite(pairs, outcome.metrics);
    if (this.startsAsReference) this.gap = Math.max(this.gap, startingGap(scores));
    const { losses, chosenCotangents, rejectedCotangents } =
      objective.couple?.(outcome, { groups, weights }) ?? outcome;
    for (const [i, { group, weight }] of pairs.entries()) totals.add(group, present(losses[i]), weight);
    metrics.add(groups, weights, outcome.metrics);
    const weighted = (cotangents: Float64Array) => cotangents.map((cotangent, i) => present(weights[i]) * cotangent);
    const cotangents = responseCotangents(
      packed,
      weighted(chosenCotangents),
      rejectedCotangents && weighted(rejectedCotangents),
    );
    const places = new Map(held.map((cell, k) => [cell, k]));
    await policy.backward(
      cotangents,
      packed.treeGroups.map((cell) => present(places.get(cell))),
    );
  }

  /**
   * Ends a step: evaluates where it is due, logs, saves.
   * @param saved whether a checkpoint already has this state, because the evaluation was interrupted before
   * @returns false to stop
   */
  private async endStep(line: MetricsLine, saved = false): Promise<boolean> {
    const { hooks, step } = this;
    const due = evaluationDue(step, this.settings, this.train.pairs.length) || step === this.steps;
    try {
      hooks.onStep(due ? { ...line, ...(await this.evaluation()) } : line);
    } catch (error) {
      if (error instanceof InterruptedError && !saved) await hooks.afterStep?.({ ...this.state(), unevaluated: line });
      if (!(error instanceof NonFiniteError)) throw error;
      hooks.onStep(line);
      const fix =
        step === 0
          ? 'check the model and these pairs, or use dtype: float32'
          : 'start a new run with a lower optimizer.learningRate, with dtype: float32, or without these pairs; the checkpoints ' +
            'up to here are as they were';
      throw new NonFiniteError(`${error.problem}, so the run cannot rely on it`, {
        where: `step ${step}: the evaluation on ${this.validation?.file}`,
        fix,
      });
    }
    return (await hooks.afterStep?.(this.state())) !== false;
  }

  /** Exact validation metrics; the best step and the plateau are updated by them here. */
  private async evaluation(): Promise<Metrics> {
    const { hooks, step, watched, plateau } = this;
    if (!watched) return {};
    const bar = hooks.evaluating?.(step, watched.data.pairs.length);
    const options = { onProgress: bar?.update, pause: () => hooks.pause?.(step), team: hooks.team };
    const evaluate = () => evaluatePairs(this.policy, watched, this.objective, options);
    const summary = await (this.policy.averaged?.(evaluate) ?? evaluate()).finally(() => bar?.stop());
    const { loss, group } = summary.worst;
    if (loss !== undefined && !(loss >= (this.best?.loss ?? Number.POSITIVE_INFINITY)))
      this.best = { step, loss, group };
    this.watchPlateau(summary);
    return { ...flatMetrics(summary, 'eval_'), ...plateau?.metrics() };
  }

  private watchPlateau(summary: GroupSummary): void {
    const { plateau, learningRate } = this.settings.optimizer;
    if (!plateau || !this.plateau?.observe(watchedLoss(summary, plateau.watch))) return;
    const { ended, rateScale } = this.plateau;
    this.hooks.onDecision?.(
      `step ${this.step}: the ${plateau.watch} validation loss has not fallen for ${plateau.patience + 1} ` +
        `evaluations; ${ended ? 'the run ends' : `the learning rate is cut to ${(learningRate * rateScale).toPrecision(3)}`}`,
    );
  }

  /** @throws NonFiniteError where the run has to stop at a step that is not finite, or has already skipped as many as it may */
  private countSkipped(problem: string): void {
    const { action, limit = defaultSkipLimit } = this.settings.nonFinite;
    const text = `step ${this.step}: ${problem}; weights and α are unchanged`;
    if (action === 'stop' || this.skipped === limit)
      throw new NonFiniteError(
        `${text}${action === 'skip' ? `, and nonFinite.limit allows only ${counted(limit, 'step')} to be skipped` : ''}`,
        {
          fix:
            problem === alphaOverflow
              ? 'lower objective.step'
              : 'lower optimizer.learningRate, use dtype: float32, check the model and these pairs, or set nonFinite.action: skip',
        },
      );
    this.skipped++;
    this.hooks.onWarning?.(`${text}; skipped (${this.skipped} of at most ${limit})`);
  }

  /** Whether policy and reference are to be the same in this step. */
  private get startsAsReference(): boolean {
    return this.step === 1 && this.settings.reference !== 'base' && this.objective.usesReference;
  }

  /** Of the pairs of all processes. */
  private async warnOfGap(): Promise<void> {
    const gaps = (await this.hooks.team?.gather(Float64Array.of(this.gap))) ?? [[this.gap]];
    const warning = startingGapWarning(Math.max(...gaps.map(([gap]) => present(gap))));
    if (warning !== undefined) this.hooks.onWarning?.(warning);
  }

  private warnOfWarmup(): void {
    const { learningRate, warmupSteps = 0 } = this.settings.optimizer;
    if (warmupSteps > this.steps)
      this.hooks.onWarning?.(
        `optimizer.warmupSteps is ${warmupSteps}, but the run has ${counted(this.steps, 'step')}: its learning rate only rises, ` +
          `to ${((learningRate * this.steps) / warmupSteps).toPrecision(3)} of ${learningRate}`,
      );
  }

  /** Once a run. */
  private warnOfSaturation(effectiveGroups: number): void {
    if (this.saturated || this.train.groups.length === 1 || !(effectiveGroups < saturatedGroups)) return;
    const advice = this.own.weighting
      ? 'Raise batch.size, or let your weighting move less'
      : saturationAdvice(namedObjective(this.settings));
    if (advice === undefined) return;
    this.saturated = true;
    this.hooks.onWarning?.(
      `ALPHA_SATURATED at step ${this.step}: nearly all weight is on one group, so the others stop training. ${advice}`,
    );
  }

  private async scoreByReference(): Promise<void> {
    const reference = this.objective.usesReference
      ? (this.hooks.reference ?? new Reference(this.policy, { team: this.hooks.team }))
      : undefined;
    const { device } = this.policy;
    this.referenceScores = (await scoredDataset(this.train, reference, { device })).reference;
    this.watched = this.validation && (await scoredDataset(this.validation, reference, { device }));
  }

  private get finished(): boolean {
    return this.step >= this.steps || this.plateau?.ended === true;
  }

  private state(): TrainerState {
    return {
      step: this.step,
      seen: this.seen,
      sampler: this.sampler.state(),
      groupWeights: this.weighting.state?.(),
      plateau: this.plateau?.state(),
      best: this.best,
      finished: this.finished,
      skipped: this.skipped,
      saturated: this.saturated,
    };
  }

  private restore(state: TrainerState): void {
    this.step = state.step;
    this.seen = state.seen;
    this.skipped = state.skipped;
    this.saturated = state.saturated;
    this.best = state.best;
    this.sampler.restore(state.sampler);
    if (state.groupWeights) this.weighting.restore?.(state.groupWeights);
    if (state.plateau) this.plateau?.restore(state.plateau);
  }

  /** @param weights those of the step, where α has moved since */
  private alpha(weights = this.weighting.weights): ReturnType<typeof alphaMetrics> {
    return alphaMetrics(this.train.groups, { alpha: this.weighting.alpha, weights });
  }
}

/** @throws InputError where no step or no policy makes an average */
function refuseAverage(from: number | undefined, steps: number, { averaged }: Policy<NativeBatch>): void {
  if (from === undefined || (from <= steps && averaged)) return;
  const problem = averaged
    ? `is ${from}, but the run has ${counted(steps, 'step')}`
    : 'needs a policy that keeps a mean';
  throw new InputError(problem, { at: { field: 'optimizer.averageFrom' }, fix: 'lower it, or leave it out' });
}

function namedObjective({ objective }: TrainerSettings): Objective {
  if (objective) return objective;
  throw new InputError('is missing', {
    at: { field: 'objective' },
    fix: 'name loss and weights, or give both a loss and a weighting of your own',
  });
}

/** @throws InputError that names the key of the configuration */
function weightsOf(objective: Objective, counts: readonly number[], seed: number): GroupWeights {
  try {
    return groupWeights(objective, counts, seed);
  } catch (error) {
    if (!(error instanceof InputError) || error.location.field === 'groups') throw error;
    const { problem, fix, location } = error;
    throw new InputError(problem, { at: { ...location, field: `objective.${location.field}` }, fix, cause: error });
  }
}

/** What would spread weights that are all but on one group; undefined where they are not to be spread: fixed ones, and the hard max. */
function saturationAdvice(objective: Objective): string | undefined {
  if (!isMoving(objective) || objective.weights === 'best-response') return undefined;
  const { set = 'simplex' } = ('ambiguity' in objective && objective.ambiguity) || {};
  const floor = set === 'simplex' ? ', set objective.floor' : '';
  return `Lower objective.step, raise batch.size${floor} or lower objective.chi`;
}

/** Optimiser steps of the whole run; a part of an epoch counts as one more batch. */
function plannedSteps({ steps, epochs }: TrainerSettings, batchesPerEpoch: number): number {
  if (steps !== undefined) return steps;
  if (epochs === undefined)
    throw new InputError('is missing', { at: { field: 'steps' }, fix: 'give either epochs or steps' });
  // A rounding error above a whole number of batches must not add one.
  return Math.ceil(epochs * batchesPerEpoch - 1e-9);
}
