import { largest, smallest } from '../numbers/extremes.js';
import { Random } from '../numbers/random.js';
import { Adversary, type AdversarySettings } from './adversary.js';
import type { AmbiguitySet } from './ambiguity.js';
import { checkRange } from './checks.js';
import type { GroupWeights } from './group-weights.js';

/** What all weights that move have in common. */
export interface MovingSettings extends AdversarySettings {
  /**
   * `alternating`: α moves first and θ uses the new α (paper's listing and code). `simultaneous`: θ uses the old α
   * (the form the convergence proof analyses). Default alternating.
   */
  order?: 'alternating' | 'simultaneous';
  /** θ uses the α of the step (`last`) or the mean of all so far (`average`). Default last. */
  iterate?: 'last' | 'average';
}

/**
 * How η_α goes on from `step` (t counts the steps from 1):
 *
 * | schedule     | η_t                                                                                                   |
 * |--------------|-------------------------------------------------------------------------------------------------------|
 * | constant     | step                                                                                                  |
 * | inverse-root | step / √t                                                                                             |
 * | adaptive     | step / √(Σ_{τ≤t} δ_τ²), δ_τ the range of that step's signals over the groups (AdaGrad-norm; Streeter and McMahan 2010) |
 *
 * Every signal keeps the rate that it came with, as in mirror descent, not the later one, as in dual averaging.
 */
export const stepScheduleNames = ['constant', 'inverse-root', 'adaptive'] as const;

export interface EntropicSettings extends MovingSettings {
  /** η_α ≥ 0, the step size of the mirror ascent on α. */
  step: number;
  /** Default constant. */
  schedule?: (typeof stepScheduleNames)[number];
}

export type MirrorAscentSettings = EntropicSettings;
export type OptimisticAscentSettings = EntropicSettings;
export type BestResponseSettings = MovingSettings;
/** θ has one group's gradient, drawn by the old α: there is no other order, and no average to draw from. */
export type Exp3Settings = Omit<EntropicSettings, 'order' | 'iterate'>;

/** Plain JSON. All but α is there where the settings need it. */
export interface MovingState {
  logAlpha?: number[];
  alpha: number[];
  /** α summed over the steps. */
  sum?: number[];
  steps?: number;
  /** Σ δ². */
  squares?: number;
  /** log of the α from which an optimistic step is taken. */
  logBase?: number[];
  random?: number[];
}

/** α, what it makes of θ's weights, and their average. */
abstract class MovingWeights implements GroupWeights {
  abstract readonly name: GroupWeights['name'];
  readonly alpha: Float64Array;
  readonly weights: Float64Array;
  protected readonly adversary: Adversary;
  readonly movesAfter: boolean;
  /** Σ α, where its mean is what θ sees. */
  private readonly sum?: Float64Array;
  /** Steps taken. */
  protected steps = 0;

  constructor(settings: MovingSettings, sizes: ArrayLike<number>) {
    const groupCount = sizes.length;
    this.adversary = new Adversary(settings, sizes);
    this.movesAfter = settings.order === 'simultaneous';
    // To the last bit uniform, which exp(log 1/K) is not.
    this.alpha =
      (settings.ambiguity?.set ?? 'simplex') === 'simplex'
        ? new Float64Array(groupCount).fill(1 / groupCount)
        : this.adversary.set.logStart.map(Math.exp);
    if (settings.iterate === 'average') this.sum = new Float64Array(groupCount);
    this.weights = new Float64Array(groupCount);
    this.mix();
  }

  next(signal: Float64Array, into: Float64Array = new Float64Array(signal.length)): Float64Array {
    if (!this.movesAfter) this.move(signal);
    for (let g = 0; g < into.length; g++) into[g] = this.weights[g];
    if (this.movesAfter) this.move(signal);
    return into;
  }

  /** One step on the signals of all groups. */
  protected move(signal: Float64Array): void {
    this.steps++;
    this.ascend(signal);
    if (this.sum) for (let g = 0; g < this.alpha.length; g++) this.sum[g] += this.alpha[g];
    this.mix();
  }

  /** Sets α. */
  protected abstract ascend(signal: Float64Array): void;
  abstract state(): MovingState;

  restore(state: MovingState): void {
    if (state.alpha.length !== this.alpha.length)
      throw new RangeError(`alpha has ${state.alpha.length} entries, not ${this.alpha.length}`);
    this.alpha.set(state.alpha);
    this.steps = state.steps ?? 0;
    if (state.sum) this.sum?.set(state.sum);
    this.mix();
  }

  /** Of the state what only some settings need. */
  protected averageState(): Pick<MovingState, 'sum' | 'steps'> {
    return this.sum ? { sum: [...this.sum], steps: this.steps } : {};
  }

  private mix(): void {
    const { alpha, sum, steps } = this;
    this.adversary.weights(sum && steps > 0 ? sum.map((total) => total / steps) : alpha, this.weights);
  }
}

/** Those that keep log α, and move it by a rate times the signals. */
abstract class EntropicWeights extends MovingWeights {
  /** log α, normalised. */
  readonly logAlpha: Float64Array;
  step: number;
  private readonly schedule: NonNullable<EntropicSettings['schedule']>;
  private squares = 0;
  private readonly gradient: Float64Array;

  constructor(settings: EntropicSettings, sizes: ArrayLike<number>) {
    super(settings, sizes);
    checkRange('step', settings.step, 0, Number.MAX_VALUE);
    this.step = settings.step;
    this.schedule = settings.schedule ?? 'constant';
    this.logAlpha = this.adversary.set.logStart.slice();
    this.gradient = new Float64Array(sizes.length);
  }

  /** α is there too: before the first step it is not exp(log α) to the last bit. */
  override state(): MovingState {
    const { schedule, steps, squares } = this;
    return {
      logAlpha: [...this.logAlpha],
      alpha: [...this.alpha],
      ...this.averageState(),
      ...(schedule !== 'constant' && { steps, squares }),
    };
  }

  override restore(state: MovingState): void {
    super.restore(state);
    this.logAlpha.set(state.logAlpha ?? state.alpha.map(Math.log));
    this.squares = state.squares ?? 0;
  }

  /** Fills in the estimate of the gradient of Σ_g w_g (ℓ_g + C_g/√N_g) in α, but for its factor χ. */
  protected estimate(signal: Float64Array, gradient: Float64Array): void {
    for (let g = 0; g < signal.length; g++) gradient[g] = signal[g] + this.adversary.adjustments[g];
  }

  protected override ascend(signal: Float64Array): void {
    const { gradient } = this;
    this.estimate(signal, gradient);
    const rate = this.rate(gradient);
    if (rate === 0) return;
    this.climb(rate, gradient);
    for (let g = 0; g < this.alpha.length; g++) this.alpha[g] = Math.exp(this.logAlpha[g]);
  }

  /** Sets log α. */
  protected abstract climb(rate: number, gradient: Float64Array): void;

  /** η_t χ: χ multiplies the exponent because it multiplies α in the objective, hence in its gradient. */
  private rate(gradient: Float64Array): number {
    const rate = this.step * this.adversary.chi;
    if (this.schedule === 'constant') return rate;
    if (this.schedule === 'inverse-root') return rate / Math.sqrt(this.steps);
    this.squares += (largest(gradient) - smallest(gradient)) ** 2;
    return this.squares === 0 ? 0 : rate / Math.sqrt(this.squares);
  }
}

/** log α ← log α + rate · gradient, then projected on the set. */
function mirrorStep(set: AmbiguitySet, logAlpha: Float64Array, rate: number, gradient: Float64Array): void {
  for (let g = 0; g < logAlpha.length; g++) logAlpha[g] += rate * gradient[g];
  set.project(logAlpha);
}

/**
 * Entropic mirror ascent on α (Algorithm 1, lines 2–3), in the log domain:
 *
 *   log α_g ← log α_g + η_α χ (ℓ_g + C_g/√N_g),  then the projection on the ambiguity set: of the simplex, normalise and raise to the floor.
 */
export class MirrorAscent extends EntropicWeights {
  readonly name = 'mirror-ascent';

  protected override climb(rate: number, gradient: Float64Array): void {
    mirrorStep(this.adversary.set, this.logAlpha, rate, gradient);
  }
}

/**
 * Optimistic mirror ascent (Rakhlin and Sridharan 2013): a mirror step from the base, then α one step further, as if the next signal were
 * this one. On the simplex it is log α_g ← log α_g + η_α (2 ℓ_g − ℓ_g of the step before), whose last iterate converges where that of
 * mirror ascent goes round in circles (Daskalakis and Panageas 2019).
 */
export class OptimisticAscent extends EntropicWeights {
  readonly name = 'optimistic';
  private readonly logBase: Float64Array;

  constructor(settings: OptimisticAscentSettings, sizes: ArrayLike<number>) {
    super(settings, sizes);
    this.logBase = this.logAlpha.slice();
  }

  protected override climb(rate: number, gradient: Float64Array): void {
    mirrorStep(this.adversary.set, this.logBase, rate, gradient);
    this.logAlpha.set(this.logBase);
    mirrorStep(this.adversary.set, this.logAlpha, rate, gradient);
  }

  override state(): MovingState {
    return { ...super.state(), logBase: [...this.logBase] };
  }

  override restore(state: MovingState): void {
    super.restore(state);
    this.logBase.set(state.logBase ?? this.logAlpha);
  }
}

/**
 * Exponential weights that see one group a step (EXP3, Auer et al. 2002; as a player against θ, Soma et al. 2022): a group G is drawn by
 * the θ-weights w, θ gets the gradient of L_G alone, whose mean over the draw is that of Σ_g w_g L_g, and
 *
 *   log α_G ← log α_G + η_α χ (ℓ_G + C_G/√N_G) / w_G
 *
 * has the mean of mirror ascent. χ below 1 is the exploration 1 − γ, which bounds the importance weight 1/w_G.
 */
export class Exp3 extends EntropicWeights {
  readonly name = 'exp3';
  private random: Random;
  /** The group of the step that has not been taken. */
  private drawn?: number;

  /** @param draws where the draws come from, or the seed of a stream for them */
  constructor(settings: Exp3Settings, sizes: ArrayLike<number>, draws: number | Random) {
    // The group is drawn before α moves.
    super({ ...settings, order: 'simultaneous', iterate: undefined }, sizes);
    this.random = typeof draws === 'number' ? Random.stream(draws, 'weights', 'exp3') : draws;
  }

  /**
   * The group of the coming step, for who then computes the loss of that group alone; `next` reads no other signal. It is no part of the
   * state, which is to be taken between steps.
   */
  draw(): number {
    this.drawn ??= this.random.categorical(this.weights);
    return this.drawn;
  }

  /** All on the group drawn. */
  override next(signal: Float64Array, into: Float64Array = new Float64Array(signal.length)): Float64Array {
    const drawn = this.draw();
    this.move(signal);
    this.drawn = undefined;
    into.fill(0)[drawn] = 1;
    return into;
  }

  protected override estimate(signal: Float64Array, gradient: Float64Array): void {
    const drawn = this.draw();
    gradient.fill(0);
    gradient[drawn] = (signal[drawn] + this.adversary.adjustments[drawn]) / this.weights[drawn];
  }

  protected override climb(rate: number, gradient: Float64Array): void {
    mirrorStep(this.adversary.set, this.logAlpha, rate, gradient);
  }

  override state(): MovingState {
    return { ...super.state(), random: this.random.state() };
  }

  override restore(state: MovingState): void {
    super.restore(state);
    this.drawn = undefined;
    if (state.random) this.random = Random.restore(state.random);
  }
}

/**
 * Hard max: α is the best response to the losses, argmax over the ambiguity set of Σ_g α_g (ℓ_g + C_g/√N_g). It has no step size and no
 * memory; with `iterate: average` θ sees the mean of the best responses so far, which is fictitious play (Brown 1951).
 */
export class BestResponse extends MovingWeights {
  readonly name = 'best-response';

  protected override ascend(signal: Float64Array): void {
    this.alpha.set(this.adversary.set.respond(signal.map((value, g) => value + this.adversary.adjustments[g])));
  }

  override state(): MovingState {
    return { alpha: [...this.alpha], ...this.averageState() };
  }
}
