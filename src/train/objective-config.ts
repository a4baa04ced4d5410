import { z } from 'zod';
import { scalings } from '../objective/aggregate.js';
import { ambiguityNames } from '../objective/ambiguity.js';
import { type WeightingName, weightingNames } from '../objective/group-weights.js';
import { lossNames } from '../objective/losses.js';
import { stepScheduleNames } from '../objective/moving-weights.js';
import { type PairLossName, pairLossNames } from '../objective/pairs.js';
import { referenceFreeLossNames } from '../objective/reference-free.js';

/** The objective of a configuration: losses and weightings with their settings, and which of these go together. */

export const positive = z.number().positive();
const shares = z.union([z.enum(['pairs', 'uniform']), z.array(positive).nonempty()]);

/** The keys of an ambiguity set as a file has them. */
const ambiguityKeys = z.strictObject({
  set: z.enum(ambiguityNames).describe('The whole `simplex`, or a set around the shares p of the groups.'),
  level: positive.max(1).optional().describe('q of cvar: α_g ≤ p_g/q, so the mean over the worst share q counts.'),
  radius: positive.optional().describe('r of kl, Σ α_g log(α_g/p_g) ≤ r, and of chi-square, Σ p_g (α_g/p_g − 1)² ≤ r.'),
  shares: shares
    .optional()
    .describe('p: `pairs` (N_g/N, the default), `uniform`, or a number per group; not with simplex.'),
});
const { level, radius } = ambiguityKeys.shape;
const ambiguityPart = z.discriminatedUnion('set', [
  z.object({ set: z.literal('simplex') }),
  z.object({ set: z.literal('cvar'), level: level.unwrap(), shares: shares.optional() }),
  z.object({ set: z.enum(['kl', 'chi-square']), radius: radius.unwrap(), shares: shares.optional() }),
]);

const ambiguitySchema = ambiguityKeys
  .superRefine((ambiguity, context) => {
    const { set } = ambiguity;
    const taken = {
      simplex: [],
      cvar: ['level', 'shares'],
      kl: ['radius', 'shares'],
      'chi-square': ['radius', 'shares'],
    };
    for (const key of ['level', 'radius', 'shares'] as const) {
      const takes = (taken[set] as string[]).includes(key);
      if (!takes && ambiguity[key] !== undefined)
        context.addIssue({ code: 'custom', path: [key], message: `does nothing with set: ${set}; remove it` });
      if (takes && key !== 'shares' && ambiguity[key] === undefined)
        context.addIssue({ code: 'custom', path: [key], message: `is needed with set: ${set}` });
    }
  })
  .transform((keys) => ambiguityPart.parse(keys));

/** The keys of the objective as a file has them; which of them go together is checked in {@link objectiveSchema}. */
export const objectiveKeys = z.strictObject({
  loss: z
    .enum(pairLossNames)
    .describe(
      'Loss of a pair; simpo and orpo need no reference, reward trains a reward model by the Bradley-Terry loss, sft fine-tunes on the chosen responses alone.',
    ),
  beta: positive.optional().describe('β of the preference loss, λ of orpo; every loss but reward and sft needs it.'),
  labelSmoothing: z
    .number()
    .min(0)
    .lt(0.5)
    .optional()
    .describe(
      'ε, the share of labels thought to be flipped: of conservative DPO (dpo), the same of reward, or of rdpo, which needs it.',
    ),
  gamma: z.number().min(0).optional().describe('γ, the margin that simpo asks for, simpo only. Default 0.'),
  tilt: z
    .number()
    .refine((tau) => tau !== 0, 'must not be 0; the mean, which it leads to from either side far out, is the default')
    .optional()
    .describe(
      "τ of the tilted loss τ log mean e^(l/τ) over pairs, in place of their mean: above 0 KL-robust, below 0 Dr.DPO with β' = −τ. Over the whole batch with weights erm (batch.sampler: proportional), else over each group. Not with sft.",
    ),
  reduction: z
    .enum(['sum', 'mean'])
    .optional()
    .describe(
      'Sum token log-probs of a response (the paper, and the default) or average them; simpo and orpo always do the latter. Not with reward.',
    ),
  weights: z
    .enum(weightingNames)
    .default('erm')
    .describe(
      'How groups count: erm by their pairs, uniform all the same, importance by pairWeights, the others by α, which follows the losses: mirror-ascent (GR-DPO, GR-IPO), optimistic mirror ascent, best-response (hard max), exp3 (one group drawn a step).',
    ),
  ambiguity: ambiguitySchema.optional().describe('What α may be, with weights that move. Default: the whole simplex.'),
  step: z
    .number()
    .min(0)
    .optional()
    .describe('η_α, the step size of α; mirror-ascent, optimistic and exp3, which need it.'),
  schedule: z
    .enum(stepScheduleNames)
    .optional()
    .describe(
      'How η_α goes on, where there is one: `constant` (the default), `inverse-root`, step/√t, or `adaptive`, step/√(sum of the squared ranges of the signals so far).',
    ),
  chi: z
    .number()
    .min(0)
    .max(1)
    .optional()
    .describe(
      'χ in [0, 1], with weights that move: (1−χ) μ + χ α; 1, the default, is fully robust; at 0 α counts nowhere, nor do the keys that move it.',
    ),
  mixture: shares
    .optional()
    .describe('μ of chi, which must be below 1: `uniform` (the default), `pairs` (N_g/N), or a number per group.'),
  adjustment: z
    .union([z.number().min(0), z.array(z.number().min(0))])
    .optional()
    .describe('C or [C_g] of the adjustment C/√n_g, with weights that move.'),
  floor: z.number().min(0).optional().describe('Least α of any group, with weights that move, on the simplex.'),
  order: z
    .enum(['alternating', 'simultaneous'])
    .optional()
    .describe('α before θ, or both from the old state; with weights that move, but for exp3, which is simultaneous.'),
  iterate: z
    .enum(['last', 'average'])
    .optional()
    .describe('θ uses the last α (the default) or the mean of all so far; with weights that move, but for exp3.'),
  scaling: z
    .enum(scalings)
    .optional()
    .describe(
      "Group signals of weights that move: `normalised` (the default), unbiased; `paper`, not divided by the batch size, as in the authors' code; `batch-mean`, the mean over the group's pairs in the batch, not with rdpo.",
    ),
  pairWeights: z
    .array(z.number().min(0))
    .optional()
    .describe('Weight of one pair of each group, importance only; default 1/N_g.'),
});
const { beta, labelSmoothing, gamma, tilt, reduction, step, chi, adjustment, floor, order, scaling, pairWeights } =
  objectiveKeys.shape;
const { schedule, mixture, iterate } = objectiveKeys.shape;
const ambiguity = ambiguityPart.optional();

const common = { reduction: reduction.unwrap() };
const free = { beta: beta.unwrap(), reduction: z.literal('mean'), tilt };
/** Every loss, and every weighting, with the keys that it needs and those that it may have. */
const lossPart = z.discriminatedUnion('loss', [
  z.object({ loss: z.literal('sft'), ...common }),
  z.object({ loss: z.literal('dpo'), beta: beta.unwrap(), labelSmoothing, ...common, tilt }),
  z.object({ loss: z.literal('rdpo'), beta: beta.unwrap(), labelSmoothing: labelSmoothing.unwrap(), ...common, tilt }),
  z.object({ loss: z.enum(lossNames).exclude(['dpo', 'rdpo']), beta: beta.unwrap(), ...common, tilt }),
  z.object({ loss: z.literal('simpo'), ...free, gamma }),
  z.object({ loss: z.literal('orpo'), ...free }),
  z.object({ loss: z.literal('reward'), labelSmoothing, tilt }),
]);

export function isReferenceFree(loss: PairLossName): boolean {
  return (referenceFreeLossNames as readonly string[]).includes(loss);
}

function hasBeta(loss: PairLossName): boolean {
  return loss !== 'sft' && loss !== 'reward';
}

const entropic = { step: step.unwrap(), schedule };
const moving = { chi, mixture, adjustment, floor, scaling, ambiguity };
const weightsPart = z.discriminatedUnion('weights', [
  z.object({ weights: z.literal('erm') }),
  z.object({ weights: z.literal('uniform') }),
  z.object({ weights: z.literal('importance'), pairWeights }),
  z.object({ weights: z.literal('mirror-ascent'), ...entropic, ...moving, order, iterate }),
  z.object({ weights: z.literal('optimistic'), ...entropic, ...moving, order, iterate }),
  z.object({ weights: z.literal('best-response'), ...moving, order, iterate }),
  z.object({ weights: z.literal('exp3'), ...entropic, ...moving }),
]);
const objectiveParts = z.intersection(lossPart, weightsPart);

/** The weightings that take each key, by key. */
const weightingKeys = new Map<keyof WeightingKeys, WeightingName[]>();
for (const { shape } of weightsPart.options)
  for (const key of Object.keys(shape) as (keyof WeightingKeys)[])
    if (key !== 'weights') weightingKeys.set(key, [...(weightingKeys.get(key) ?? []), shape.weights.value]);

/** Whether these weights have a step size η_α. */
export function hasStep(weights: WeightingName): boolean {
  return weightingKeys.get('step')?.includes(weights) ?? false;
}

/** The keys of the loss of a single pair, on which neither a tilt nor group weights have a bearing. */
export const lossKeys = objectiveKeys.pick({
  loss: true,
  beta: true,
  labelSmoothing: true,
  gamma: true,
  reduction: true,
});
type LossKeys = z.infer<typeof lossKeys>;

/** Such a loss by itself. */
export const lossSchema = lossKeys
  .superRefine((keys, context) => checkLoss(keys, refuserIn(context)))
  .transform((keys) => lossPart.parse(withReduction(keys)));

export type PairLoss = z.infer<typeof lossSchema>;

function withReduction<T extends LossKeys>(keys: T) {
  return { ...keys, reduction: keys.reduction ?? (isReferenceFree(keys.loss) ? ('mean' as const) : ('sum' as const)) };
}

/** Refuses keys that do nothing together, or lack one. */
function checkLoss({ loss, beta, labelSmoothing, gamma, reduction }: LossKeys, refuse: Refuse): void {
  if (!hasBeta(loss) && beta !== undefined) refuse('beta', `does nothing with loss: ${loss}; remove it`);
  if (hasBeta(loss) && beta === undefined)
    refuse(
      'beta',
      `is needed with loss: ${loss}; the paper has 0.01 for Gemma, 0.1 for IPO bandits, 1 for DPO bandits`,
    );
  if (loss !== 'dpo' && loss !== 'rdpo' && loss !== 'reward' && labelSmoothing !== undefined)
    refuse('labelSmoothing', `does nothing with loss: ${loss}; remove labelSmoothing or set loss: dpo`);
  if (loss === 'rdpo' && !(labelSmoothing ?? 0))
    refuse('labelSmoothing', 'is needed with loss: rdpo, above 0: the share of labels that are flipped');
  if (loss !== 'simpo' && gamma !== undefined)
    refuse('gamma', `does nothing with loss: ${loss}; remove it or set loss: simpo`);
  if (isReferenceFree(loss) && reduction === 'sum')
    refuse('reduction', `must be mean with loss: ${loss}, which is made of means; leave it out`);
  if (loss === 'reward' && reduction !== undefined)
    refuse('reduction', 'does nothing with loss: reward, which has one score of a whole response; remove it');
}

type Refuse = (key: string, problem: string) => void;

function refuserIn(context: z.RefinementCtx): Refuse {
  return (key, problem) => context.addIssue({ code: 'custom', path: [key], message: problem });
}

type WeightingKeys = Omit<z.infer<typeof objectiveKeys>, keyof LossKeys | 'tilt'>;

/** As {@link checkLoss}, of how groups count. */
function checkWeighting(keys: WeightingKeys, refuse: Refuse): void {
  const { weights } = keys;
  for (const [key, takers] of weightingKeys)
    if (!takers.includes(weights) && keys[key] !== undefined)
      refuse(key, `does nothing with weights: ${weights}; remove it or set weights: ${takers[0]}`);
  if (hasStep(weights) && keys.step === undefined)
    refuse(
      'step',
      `is needed with weights: ${weights}; the paper has 0.01 for IPO bandits, 8e-6 for Gemma with batches of 16`,
    );
  checkAdversary(keys, refuse);
}

/** As {@link checkWeighting}, of what α may be and what it counts for. */
function checkAdversary(keys: Pick<WeightingKeys, 'ambiguity' | 'chi' | 'mixture' | 'floor'>, refuse: Refuse): void {
  if (keys.mixture !== undefined && (keys.chi ?? 1) === 1)
    refuse('mixture', 'does nothing with chi: 1, the default; remove it or set chi below 1');
  const { set = 'simplex' } = keys.ambiguity ?? {};
  if (keys.floor !== undefined && set !== 'simplex')
    refuse('floor', `has no meaning with the ambiguity set ${set}; remove it, or set chi below 1`);
}

/** What α may be, by itself, for exact values, where it does not move. */
export const adversarySchema = objectiveKeys
  .pick({ ambiguity: true, chi: true, mixture: true, adjustment: true, floor: true })
  .superRefine((keys, context) => checkAdversary(keys, refuserIn(context)));

/** How groups count, by itself, where every step has all pairs, so that no scaling of the signals differs from another. */
export const weightingSchema = objectiveKeys
  .omit({ loss: true, beta: true, labelSmoothing: true, gamma: true, tilt: true, reduction: true, scaling: true })
  .superRefine((keys, context) => checkWeighting(keys, refuserIn(context)))
  .transform((keys) => weightsPart.parse(keys));

/**
 * What is minimised. `loss` and `weights` together name the method: ipo + mirror-ascent is GR-IPO, dpo + importance is
 * IS-DPO, ipo + erm is IPO, sft fine-tunes on the chosen responses alone.
 *
 * A file is checked against the flat keys, so that an error can name the other key that makes one useless, and an editor can complete them;
 * the result is one of the unions.
 */
export const objectiveSchema = objectiveKeys
  .superRefine((objective, context) => {
    const refuse = refuserIn(context);
    const { loss } = objective;
    checkLoss(objective, refuse);
    if (loss === 'sft' && objective.tilt !== undefined) refuse('tilt', 'does nothing with loss: sft; remove it');
    if (loss === 'rdpo' && objective.scaling === 'batch-mean')
      refuse(
        'scaling',
        'batch-mean is not for loss: rdpo, whose losses may be below 0, the signal of a group that the batch lacks, which would then count as the worst; remove it',
      );
    checkWeighting(objective, refuse);
  })
  .transform((keys) => objectiveParts.parse(withReduction(keys)));

export type Objective = z.infer<typeof objectiveSchema>;

/** The loss of single pairs that an objective is made of: what exact metrics are of. */
export function lossOf(objective: Objective): PairLoss {
  return lossSchema.parse(Object.fromEntries(Object.entries(objective).filter(([key]) => key in lossKeys.shape)));
}
