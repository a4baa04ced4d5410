import { InputError } from '../errors.js';
import type { StepWeights } from './aggregate.js';
import { normaliseLog, raiseToFloor } from './simplex.js';

/**
 * Group weights: how much each group's mean loss counts in the step on the policy. All sum to one.
 *
 * | name          | weight of group g                                                  | objective           |
 * |---------------|--------------------------------------------------------------------|---------------------|
 * | erm           | N_g / N                                                            | DPO, IPO            |
 * | uniform       | 1 / K                                                              | mean of group means |
 * | importance    | ∝ N_g v_g, v_g the weight of one pair of the group, default 1/N_g  | IS-DPO, IS-IPO      |
 * | mirror-ascent | (1−χ)/K + χ α_g                                                    | GR-DPO, GR-IPO      |
 */
export const weightingNames = ['erm', 'uniform', 'importance', 'mirror-ascent'] as const;
export type WeightingName = (typeof weightingNames)[number];

/** What the name of a method begins with, before that of its loss: mirror-ascent and ipo are gr-ipo. */
export const methodPrefixes: Readonly<Record<WeightingName, string>> = {
  erm: '',
  uniform: 'uniform-',
  importance: 'is-',
  'mirror-ascent': 'gr-',
};

export type WeightSettings =
  | { weights: 'erm' }
  | { weights: 'uniform' }
  | {
      weights: 'importance';
      /** v_g ≥ 0, the weight of one pair of each group; default 1/N_g. Only ratios matter. */
      pairWeights?: number[];
    }
  | ({ weights: 'mirror-ascent' } & MirrorAscentSettings);

export interface MirrorAscentSettings {
  /** η_α ≥ 0, the step size of the mirror ascent on α. */
  step: number;
  /** χ in [0, 1]: 1 is robust, 0 is the mean of the group means (paper Eq. 30–33). Default 1. */
  chi?: number;
  /** C ≥ 0, one number or one per group: C_g/√N_g is added to the group's loss in the α step only. Default 0. */
  adjustment?: number | number[];
  /** Least weight any α_g may have, in [0, 1/K]. Default 0. */
  floor?: number;
  /**
   * `alternating`: α moves first and θ uses the new α (paper's listing and code). `simultaneous`: θ uses the old α
   * (the form the convergence proof analyses). Default alternating.
   */
  order?: 'alternating' | 'simultaneous';
}

/** Weights that may move with the losses. Both arrays are live: copy what is kept. */
export interface GroupWeights extends StepWeights {
  readonly name: WeightingName;
  /** Current α on the simplex, length K: what the mirror ascent moves. The fixed methods have none, and give their weights. */
  readonly alpha: Float64Array;
  /** What α makes the θ-weights, on the simplex too: (1−χ)/K + χ α_g. Where χ < 1 no group's falls below (1−χ)/K, however small its α. */
  readonly weights: Float64Array;
  /** η_α of weights that move; a schedule may change it between steps. */
  step?: number;
  /** All that moves, to be saved, as plain JSON; absent where nothing does. */
  state?(): object;
  /** Puts back what `state` gave. */
  restore?(state: object): void;
}

/**
 * Builds the weights for groups of the given sizes N_g.
 * @throws InputError on a size below one, a list whose length is not K, or a value outside its range.
 */
export function groupWeights(settings: WeightSettings, sizes: ArrayLike<number>): GroupWeights {
  const counts = Float64Array.from(sizes);
  if (counts.length === 0 || counts.some((n) => !(n >= 1)))
    throw new InputError(`every group needs at least one pair; sizes are [${counts.join(', ')}]`, {
      at: { field: 'groups' },
    });
  switch (settings.weights) {
    case 'erm':
      return fixedWeights('erm', counts);
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

export interface MirrorAscentState {
  logAlpha: number[];
  alpha: number[];
}

/**
 * Entropic mirror ascent on α (Algorithm 1, lines 2–3), in the log domain:
 *
 *   log α_g ← log α_g + η_α χ (ℓ_g + C_g/√N_g),  then normalise, then raise to the floor.
 *
 * χ multiplies the exponent because it multiplies α in the objective, hence in its gradient.
 */
export class MirrorAscent implements GroupWeights {
  readonly name = 'mirror-ascent';
  readonly alpha: Float64Array;
  readonly weights: Float64Array;
  /** log α, normalised. */
  readonly logAlpha: Float64Array;
  private readonly chi: number;
  private readonly floor: number;
  private readonly adjustments: Float64Array;
  private readonly simultaneous: boolean;
  step: number;

  /** Starts from uniform α. `sizes` are the N_g of the adjustment C_g/√N_g. */
  constructor(settings: MirrorAscentSettings, sizes: ArrayLike<number>) {
    const { step, chi = 1, adjustment = 0, floor = 0, order = 'alternating' } = settings;
    const groupCount = sizes.length;
    checkRange('step', step, 0, Number.MAX_VALUE);
    checkRange('chi', chi, 0, 1);
    checkRange('floor', floor, 0, 1 / groupCount);
    const strengths = typeof adjustment === 'number' ? new Array<number>(groupCount).fill(adjustment) : adjustment;
    checkList('adjustment', strengths, groupCount);
    this.step = step;
    this.chi = chi;
    this.floor = floor;
    this.adjustments = Float64Array.from(strengths, (strength, g) => strength / Math.sqrt(sizes[g]));
    this.simultaneous = order === 'simultaneous';
    this.logAlpha = new Float64Array(groupCount).fill(-Math.log(groupCount));
    this.alpha = new Float64Array(groupCount).fill(1 / groupCount);
    this.weights = new Float64Array(groupCount);
    this.mix();
  }

  next(signal: Float64Array, into: Float64Array = new Float64Array(signal.length)): Float64Array {
    if (!this.simultaneous) this.ascend(signal);
    for (let g = 0; g < into.length; g++) into[g] = this.weights[g];
    if (this.simultaneous) this.ascend(signal);
    return into;
  }

  /** α is there too: before the first step it is not exp(log α) to the last bit. */
  state(): MirrorAscentState {
    return { logAlpha: [...this.logAlpha], alpha: [...this.alpha] };
  }

  restore({ logAlpha, alpha }: MirrorAscentState): void {
    if (logAlpha.length !== this.logAlpha.length)
      throw new RangeError(`log alpha has ${logAlpha.length} entries, not ${this.logAlpha.length}`);
    this.logAlpha.set(logAlpha);
    this.alpha.set(alpha);
    this.mix();
  }

  private ascend(signal: Float64Array): void {
    const rate = this.step * this.chi;
    if (rate === 0) return;
    for (let g = 0; g < signal.length; g++) this.logAlpha[g] += rate * (signal[g] + this.adjustments[g]);
    raiseToFloor(normaliseLog(this.logAlpha), this.floor);
    for (let g = 0; g < signal.length; g++) this.alpha[g] = Math.exp(this.logAlpha[g]);
    this.mix();
  }

  private mix(): void {
    const uniform = (1 - this.chi) / this.alpha.length;
    for (let g = 0; g < this.alpha.length; g++) this.weights[g] = uniform + this.chi * this.alpha[g];
  }
}

function checkRange(field: string, value: number, low: number, high: number): void {
  if (!(value >= low && value <= high))
    throw new InputError(`${field} must lie in [${low}, ${high === Number.MAX_VALUE ? '∞' : high}], not ${value}`, {
      at: { field },
    });
}

function checkList(field: string, values: readonly number[], groupCount: number): void {
  if (values.length !== groupCount)
    throw new InputError(`${field} has ${values.length} entries for ${groupCount} groups`, {
      at: { field },
      fix: 'give one number per group, in the order of the groups',
    });
  for (const value of values) checkRange(field, value, 0, Number.MAX_VALUE);
}
