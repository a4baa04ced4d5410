import { InputError } from '../errors.js';
import type { StepWeights } from './aggregate.js';
import { checkList } from './checks.js';
import {
  BestResponse,
  type BestResponseSettings,
  Exp3,
  type Exp3Settings,
  MirrorAscent,
  type MirrorAscentSettings,
  OptimisticAscent,
  type OptimisticAscentSettings,
} from './moving-weights.js';

/**
 * Group weights: how much each group's mean loss counts in the step on the policy. All sum to one.
 *
 * | name          | weight of group g                                                  | objective           |
 * |---------------|--------------------------------------------------------------------|---------------------|
 * | erm           | N_g / N                                                            | DPO, IPO            |
 * | uniform       | 1 / K                                                              | mean of group means |
 * | importance    | ∝ N_g v_g, v_g the weight of one pair of the group, default 1/N_g  | IS-DPO, IS-IPO      |
 * | mirror-ascent | (1−χ) μ_g + χ α_g, μ uniform by default                            | GR-DPO, GR-IPO      |
 * | optimistic    | the same, α by optimistic mirror ascent                            | the same            |
 * | best-response | the same, α the worst case for the losses of the step              | the same            |
 * | exp3          | one group, drawn by (1−χ) μ_g + χ α_g                              | the same            |
 *
 * Where groups overlap N_g counts all members of g, so that N = Σ_g N_g counts a pair once for each of its groups: these shares sum to one. The
 * step of erm is all the same that of the plain mean over pairs ({@link GroupWeights.pairsAlike}).
 */
export const weightingNames = [
  'erm',
  'uniform',
  'importance',
  'mirror-ascent',
  'optimistic',
  'best-response',
  'exp3',
] as const;
export type WeightingName = (typeof weightingNames)[number];

export type WeightSettings =
  | { weights: 'erm' }
  | { weights: 'uniform' }
  | {
      weights: 'importance';
      /** v_g ≥ 0, the weight of one pair of each group; default 1/N_g. Only ratios matter. */
      pairWeights?: number[];
    }
  | ({ weights: 'mirror-ascent' } & MirrorAscentSettings)
  | ({ weights: 'optimistic' } & OptimisticAscentSettings)
  | ({ weights: 'best-response' } & BestResponseSettings)
  | ({ weights: 'exp3' } & Exp3Settings);

/** Whether these weights have an α that follows the losses, however little χ lets it count. */
export function isMoving({ weights }: { weights: WeightingName }): boolean {
  return !['erm', 'uniform', 'importance'].includes(weights);
}

/** Weights that may move with the losses. Both arrays are live: copy what is kept. */
export interface GroupWeights extends StepWeights {
  /** One of {@link weightingNames}, or what you call your own. */
  readonly name: string;
  /** Current α on the simplex, length K: what moves. The fixed methods have none, and give their weights. */
  readonly alpha: Float64Array;
  /** What α makes the θ-weights, on the simplex too: (1−χ) μ_g + χ α_g. Where χ < 1 no group's falls below (1−χ) μ_g, however small its α. */
  readonly weights: Float64Array;
  /** Whether `next` moves α after it has read the θ-weights of the step, which `weights` then no longer are. */
  readonly movesAfter?: boolean;
  /** Whether all pairs count the same, however many groups they are of; else a pair counts by the sum over its groups. */
  readonly pairsAlike?: boolean;
  /** η_α of weights that move; a schedule may change it between steps. */
  step?: number;
  /** All that moves, to be saved, as plain JSON; absent where nothing does. */
  state?(): object;
  /** Puts back what `state` gave. */
  restore?(state: object): void;
}

/**
 * Builds the weights for groups of the given sizes N_g.
 * @param seed of the draws of weights that draw
 * @throws InputError on a size below one, a list whose length is not K, or a value outside its range.
 */
export function groupWeights(settings: WeightSettings, sizes: ArrayLike<number>, seed = 0): GroupWeights {
  const counts = Float64Array.from(sizes);
  if (counts.length === 0 || counts.some((n) => !(n >= 1)))
    throw new InputError(`every group needs at least one pair; sizes are [${counts.join(', ')}]`, {
      at: { field: 'groups' },
    });
  switch (settings.weights) {
    case 'erm':
      return { ...fixedWeights('erm', counts), pairsAlike: true };
    case 'uniform':
      return fixedWeights('uniform', new Float64Array(counts.length).fill(1));
    case 'importance': {
      const pairWeights = settings.pairWeights ?? inverseFrequency(counts);
      checkList('pairWeights', pairWeights, counts.length);
      return fixedWeights(
        'importance',
        counts.map((n, g) => n * pairWeights[g]),
      );
    }
    case 'mirror-ascent':
      return new MirrorAscent(settings, counts);
    case 'optimistic':
      return new OptimisticAscent(settings, counts);
    case 'best-response':
      return new BestResponse(settings, counts);
    case 'exp3':
      return new Exp3(settings, counts, seed);
    default:
      throw new InputError(`unknown weights "${String((settings as { weights: unknown }).weights)}"`, {
        at: { field: 'weights' },
        fix: `use one of ${weightingNames.join(', ')}`,
      });
  }
}

/** Inverse-frequency weights 1/N_g, normalised: (60, 240) gives (0.8, 0.2). */
export function inverseFrequency(sizes: ArrayLike<number>): number[] {
  const inverse = Array.from(sizes, (n) => 1 / n);
  const total = inverse.reduce((sum, value) => sum + value, 0);
  return inverse.map((value) => value / total);
}

function fixedWeights(name: WeightingName, proportions: Float64Array): GroupWeights {
  const total = proportions.reduce((sum, value) => sum + value, 0);
  if (!(total > 0))
    throw new InputError('at least one group needs a positive weight', { at: { field: 'pairWeights' } });
  const alpha = proportions.map((value) => value / total);
  return { name, alpha, weights: alpha, next: () => alpha };
}
