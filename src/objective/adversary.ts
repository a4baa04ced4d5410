import { type AmbiguitySet, type AmbiguitySettings, ambiguitySet, type Shares, sharesOf } from './ambiguity.js';
import { checkList, checkRange } from './checks.js';

/** What θ is to be robust against: the worst case is max over α in the set of Σ_g w_g (L_g + C_g/√N_g), w = (1−χ) μ + χ α. */
export interface AdversarySettings {
  /** What α may be. Default: the whole simplex. */
  ambiguity?: AmbiguitySettings;
  /** χ in [0, 1]: 1 is robust, 0 leaves `mixture` alone (paper Eq. 30–33). Default 1. */
  chi?: number;
  /** μ, what χ below 1 mixes α with. Default uniform. */
  mixture?: Shares;
  /** C ≥ 0, one number or one per group: C_g/√N_g is added to the loss of a group as α sees it. Default 0. */
  adjustment?: number | number[];
  /** Least weight any α_g may have, in [0, 1/K]; on the simplex only. Default 0. */
  floor?: number;
}

/** The settings checked, and made numbers. */
export class Adversary {
  readonly set: AmbiguitySet;
  readonly chi: number;
  /** [K] C_g/√N_g. */
  readonly adjustments: Float64Array;
  /** [K] (1−χ) μ_g. */
  private readonly fixed: Float64Array;

  /**
   * @param sizes [K] N_g
   * @throws InputError on a value outside its range, or a list whose length is not K
   */
  constructor(settings: AdversarySettings, sizes: ArrayLike<number>) {
    const { ambiguity = { set: 'simplex' }, chi = 1, mixture = 'uniform', adjustment = 0, floor = 0 } = settings;
    const groupCount = sizes.length;
    checkRange('chi', chi, 0, 1);
    checkRange('floor', floor, 0, 1 / groupCount);
    const strengths = typeof adjustment === 'number' ? new Array<number>(groupCount).fill(adjustment) : adjustment;
    checkList('adjustment', strengths, groupCount);
    this.chi = chi;
    this.fixed =
      mixture === 'uniform'
        ? new Float64Array(groupCount).fill((1 - chi) / groupCount)
        : sharesOf(mixture, sizes, 'mixture').map((share) => (1 - chi) * share);
    this.set = ambiguitySet(ambiguity, sizes, floor);
    this.adjustments = Float64Array.from(strengths, (strength, g) => strength / Math.sqrt(sizes[g]));
  }

  /** The weights that α gives the groups, (1−χ) μ_g + χ α_g, into `into`. */
  weights(alpha: ArrayLike<number>, into: Float64Array = new Float64Array(alpha.length)): Float64Array {
    for (let g = 0; g < into.length; g++) into[g] = this.fixed[g] + this.chi * alpha[g];
    return into;
  }
}
