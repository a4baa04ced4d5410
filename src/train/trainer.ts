import type { PairDataset } from '../data/dataset.js';
import { responseCotangents } from '../data/packing.js';
import { createSampler, type SamplerPlan } from '../data/sampler.js';
import { GroupRobustError } from '../errors.js';
import type { NativeBatch } from '../native/types.js';
import { GroupTotals, robustStep } from '../objective/aggregate.js';
import { groupWeights } from '../objective/group-weights.js';
import type { Policy } from '../policy/policy.js';
import { type TrainConfig, weightSettings } from './config.js';
import { evaluatePairs } from './evaluate.js';
import { alphaMetrics, flatMetrics, GroupMetrics } from './metrics.js';
import { pairObjective } from './objective.js';
import { learningRateAt } from './schedule.js';
import { byPair, packBatch, pairColumns, withReference } from './scoring.js';

/** The parts of the configuration that the loop itself reads. */
export type TrainerSettings = Pick<
  TrainConfig,
  'objective' | 'optimizer' | 'batch' | 'epochs' | 'steps' | 'evaluateEvery' | 'seed' | 'reference'
>;

/** One line of metrics.jsonl. */
export type MetricsLine = Record<string, number | string | boolean>;

export interface TrainerHooks {
  /** Called for step 0 and after every optimiser step, in order. */
  onStep(line: MetricsLine): void;
  /** Called once, before step 0. */
  onPlan?(plan: { steps: number; sampler: SamplerPlan }): void;
  /** Something a user should know that is no error. */
  onWarning?(text: string): void;
}

/** A loss or gradient was not a finite number; nothing was changed by the step that met it. */
export class NonFiniteError extends GroupRobustError {
  constructor(message: string) {
    super('NON_FINITE', message);
  }
}

/** α so concentrated that other groups hardly train: below this many effective groups a warning is given. */
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
 * @returns α after every step: [steps + 1][K], uniform or fixed weights first
 * @throws NonFiniteError naming the pairs of a batch whose loss is not finite, before anything has moved
 */
export async function trainPolicy(
  policy: Policy<NativeBatch>,
  train: PairDataset,
  validation: PairDataset | undefined,
  settings: TrainerSettings,
  hooks: TrainerHooks,
): Promise<number[][]> {
  const { batch, optimizer } = settings;
  const objective = pairObjective(settings.objective);
  const weighting = groupWeights(weightSettings(settings.objective), train.counts);
  const sampler = createSampler({
    kind: batch.sampler,
    groups: pairColumns(train.pairs).groups,
    groupCount: train.groups.length,
    batchSize: batch.size,
    seed: settings.seed,
  });
  const { batchesPerEpoch } = sampler;
  const steps = settings.steps ?? Math.ceil((settings.epochs as number) * batchesPerEpoch - 1e-9);
  const evaluateEvery = settings.evaluateEvery ?? batchesPerEpoch;
  const microSize = batch.micro ?? batch.size;
  const { reference } = withReference(policy, train);
  const watched = validation && withReference(policy, validation);
  hooks.onPlan?.({ steps, sampler: sampler.describe() });

  const evaluation = async () =>
    watched ? flatMetrics(await evaluatePairs(policy, watched, objective, microSize), 'eval_') : {};
  const alphaHistory = [[...weighting.alpha]];
  hooks.onStep({ step: 0, epoch: 0, ...alphaMetrics(train.groups, weighting.alpha), ...(await evaluation()) });

  let seen = 0;
  let warned = false;
  for (let step = 1; step <= steps; step++) {
    const indices = sampler.next();
    const totals = new GroupTotals(train.groups.length);
    const metrics = new GroupMetrics(train.groups);
    for (let start = 0; start < indices.length; start += microSize) {
      const micro = indices.subarray(start, start + microSize);
      const packed = packBatch(train, micro, objective.responses);
      let scores = byPair(packed, await policy.forward(packed.batch));
      if (objective.usesReference) scores = await reference.addTo(scores, micro, packed);
      const pairs = Array.from(micro, (pair) => train.pairs[pair]);
      const { groups, weights } = pairColumns(pairs);
      const outcome = objective.evaluate(scores);
      const bad = pairs.filter((_, i) => !Number.isFinite(outcome.losses[i]));
      if (bad.length > 0)
        throw new NonFiniteError(
          `step ${step}: the loss of ${bad.map((pair) => pair.id).join(', ')} is not finite; ` +
            'weights and alpha are unchanged. Lower optimizer.learningRate, or check the model and these pairs',
        );
      if (step === 1 && start === 0 && settings.reference !== 'base')
        reportStartingGap(outcome.metrics['rewards/margins'], hooks);
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

    const robust = robustStep(totals, weighting, sampler.groupProbabilities, settings.objective.scaling);
    if (!Number.isFinite(robust.loss))
      throw new NonFiniteError(`step ${step}: α has overflowed; the policy is unchanged. Lower objective.step`);
    const learningRate = learningRateAt(optimizer, step, steps);
    const { gradNorm } = await policy.step(robust.coefficients, { learningRate, maxGradNorm: optimizer.maxGradNorm });
    if (!Number.isFinite(gradNorm))
      throw new NonFiniteError(
        `step ${step}: the gradient of ${Array.from(indices, (pair) => train.pairs[pair].id).join(', ')} is not finite; ` +
          'the policy is unchanged. Lower optimizer.learningRate, or use dtype: float32',
      );

    seen += indices.length;
    alphaHistory.push([...weighting.alpha]);
    const alpha = alphaMetrics(train.groups, weighting.alpha);
    if (!warned && train.groups.length > 1 && alpha['alpha/effective_groups'] < saturatedGroups) {
      warned = true;
      hooks.onWarning?.(
        `ALPHA_SATURATED at step ${step}: nearly all weight is on one group, so the others stop training. ` +
          'Lower objective.step, raise batch.size, or set objective.floor',
      );
    }
    const summary = metrics.summary();
    hooks.onStep({
      step,
      epoch: seen / train.pairs.length,
      ...flatMetrics(summary),
      // `loss` is what was minimised; the plain mean over the batch stands beside it.
      loss: robust.loss,
      ...(summary.mean.loss === undefined ? {} : { mean_loss: summary.mean.loss }),
      grad_norm: gradNorm,
      grad_clipped: gradNorm > optimizer.maxGradNorm,
      learning_rate: learningRate,
      ...alpha,
      ...(step % evaluateEvery === 0 || step === steps ? await evaluation() : {}),
    });
  }
  return alphaHistory;
}

/**
 * Before the first step policy and reference are the same model (unless an adapter is trained against its base on purpose),
 * so every margin must be zero (DPO starts at ln 2, IPO at
 * 1/(4β²)). A gap means that the two are scored differently, and every reward of the run would carry it.
 */
function reportStartingGap(margins: Float64Array | undefined, hooks: TrainerHooks): void {
  const gap = margins ? Math.max(...margins.map(Math.abs)) : 0;
  if (gap > 1e-4)
    hooks.onWarning?.(
      `policy and reference differ before training: largest reward margin ${gap.toExponential(2)}, expected 0. ` +
        'With dtype: bfloat16 this is rounding; otherwise check the adapter',
    );
}
