import { InputError } from '../errors.js';
import { largest, smallest } from '../numbers/extremes.js';
import { checkList, checkPositive } from './checks.js';
import { logSumExp, lowerToCaps, normaliseLog, raiseToFloor } from './simplex.js';

/**
 * What α may be: a robust objective is max over α in a set A of Σ_g α_g L_g. With p the given shares of the groups:
 *
 * | set        | A                             | the robust objective                                                      |
 * |------------|-------------------------------|---------------------------------------------------------------------------|
 * | simplex    | all of it                     | the worst group (Ramesh et al. 2024; Sagawa et al. 2020)                  |
 * | cvar       | α_g ≤ p_g / q                 | the mean over the worst share q (Rockafellar and Uryasev 2000)            |
 * | kl         | Σ α_g log(α_g/p_g) ≤ r        | worst mixture in a Kullback–Leibler ball (Hu and Hong 2013)               |
 * | chi-square | Σ p_g (α_g/p_g − 1)² ≤ r      | mean + √r · standard deviation, where no α_g is 0 (Duchi and Namkoong 2019) |
 */
export const ambiguityNames = ['simplex', 'cvar', 'kl', 'chi-square'] as const;

/** Shares of the groups: N_g/N, 1/K, or one number per group, of which only ratios matter. */
export type Shares = 'pairs' | 'uniform' | number[];

export type AmbiguitySettings =
  | { set: 'simplex' }
  | {
      set: 'cvar';
      /** q in (0, 1]: 1 allows only the shares, min p_g and less the whole simplex. */
      level: number;
      /** p. Default: pairs. */
      shares?: Shares;
    }
  | {
      set: 'kl' | 'chi-square';
      /** r > 0. */
      radius: number;
      /** p. Default: pairs. */
      shares?: Shares;
    };

/** A closed convex set of weights. Both its operations are exact to rounding. */
export interface AmbiguitySet {
  /** log α⁰, a point of the set: the shares, on the simplex the uniform weights. */
  readonly logStart: Float64Array;
  /**
   * The Bregman projection that a step of entropic mirror ascent ends with: argmin over α in the set of KL(α‖w), w ∝ exp(logWeights). In
   * place, in the log domain.
   */
  project(logWeights: Float64Array): Float64Array;
  /** argmax over α in the set of Σ_g α_g losses_g. Of groups with equal losses none is preferred: they share by p, on the simplex equally. */
  respond(losses: Float64Array): Float64Array;
}

/**
 * @param sizes [K] N_g
 * @param floor least weight of any group, on the simplex only
 * @throws InputError on a value outside its range, or a floor with another set than the simplex
 */
export function ambiguitySet(settings: AmbiguitySettings, sizes: ArrayLike<number>, floor = 0): AmbiguitySet {
  if (settings.set === 'simplex') return new Simplex(sizes.length, floor);
  if (floor > 0)
    throw new InputError(`has no meaning with the ambiguity set ${settings.set}`, {
      at: { field: 'floor' },
      fix: 'leave it out; chi below 1 keeps some weight on every group',
    });
  const shares = sharesOf(settings.shares ?? 'pairs', sizes, 'ambiguity.shares');
  switch (settings.set) {
    case 'cvar': {
      const { level } = settings;
      if (!(level > 0 && level <= 1))
        throw new InputError(`ambiguity.level must lie in (0, 1], not ${level}`, { at: { field: 'ambiguity.level' } });
      return new CappedSimplex(shares, level);
    }
    case 'kl':
    case 'chi-square': {
      const { set, radius } = settings;
      checkPositive('ambiguity.radius', radius);
      return set === 'kl' ? new KLBall(shares, radius) : new ChiSquareBall(shares, radius);
    }
    default:
      throw new InputError(`unknown ambiguity set "${String((settings as { set: unknown }).set)}"`, {
        at: { field: 'ambiguity.set' },
        fix: `use one of ${ambiguityNames.join(', ')}`,
      });
  }
}

/**
 * [K], all positive, with sum one.
 * @throws InputError that names `field`, where a list does not have one positive number per group
 */
export function sharesOf(shares: Shares, sizes: ArrayLike<number>, field: string): Float64Array {
  if (shares === 'uniform') return new Float64Array(sizes.length).fill(1 / sizes.length);
  const values = shares === 'pairs' ? Array.from(sizes) : shares;
  checkList(field, values, sizes.length, checkPositive);
  const total = values.reduce((sum, value) => sum + value, 0);
  return Float64Array.from(values, (value) => value / total);
}

/** All weights, or those of at least `floor` each. */
class Simplex implements AmbiguitySet {
  readonly logStart: Float64Array;

  constructor(
    groupCount: number,
    private readonly floor: number,
  ) {
    this.logStart = new Float64Array(groupCount).fill(-Math.log(groupCount));
  }

  project(logWeights: Float64Array): Float64Array {
    return raiseToFloor(normaliseLog(logWeights), this.floor);
  }

  respond(losses: Float64Array): Float64Array {
    const [worst] = tiers(losses);
    const free = 1 - this.floor * losses.length;
    const alpha = new Float64Array(losses.length).fill(this.floor);
    for (const g of worst) alpha[g] += free / worst.length;
    return alpha;
  }
}

/** Conditional value at risk: no group counts more than 1/q times its share. */
class CappedSimplex implements AmbiguitySet {
  readonly logStart: Float64Array;
  private readonly caps: Float64Array;
  private readonly logCaps: Float64Array;

  constructor(shares: Float64Array, level: number) {
    this.logStart = shares.map(Math.log);
    this.caps = shares.map((share) => share / level);
    this.logCaps = this.caps.map(Math.log);
  }

  project(logWeights: Float64Array): Float64Array {
    return lowerToCaps(normaliseLog(logWeights), this.logCaps);
  }

  /** From the worst group on, each takes all that it may, until nothing is left. */
  respond(losses: Float64Array): Float64Array {
    const alpha = new Float64Array(losses.length);
    let left = 1;
    for (const tier of tiers(losses)) {
      const room = tier.reduce((sum, g) => sum + this.caps[g], 0);
      const part = Math.min(1, left / room);
      for (const g of tier) alpha[g] = part * this.caps[g];
      left -= part * room;
      if (part < 1) break;
    }
    return alpha;
  }
}

/**
 * Both the projection of w and the best response lie on the curve α(t) ∝ p exp(t u), along which KL(α(t)‖p) grows: with u = log(w/p) up
 * to t = 1, where α is w, and with u the losses up to t = ∞, where α is p on the worst groups alone.
 */
class KLBall implements AmbiguitySet {
  readonly logStart: Float64Array;

  constructor(
    shares: Float64Array,
    private readonly radius: number,
  ) {
    this.logStart = shares.map(Math.log);
  }

  project(logWeights: Float64Array): Float64Array {
    const u = normaliseLog(logWeights).map((value, g) => value - this.logStart[g]);
    // Weights that are not numbers stay so.
    if (!(this.divergence(this.tilted(u, 1)) > this.radius)) return logWeights;
    logWeights.set(this.tilted(u, this.reach(u, 1)));
    return logWeights;
  }

  respond(losses: Float64Array): Float64Array {
    const [worst] = tiers(losses);
    const logShare = logSumExp(worst.map((g) => this.logStart[g]));
    const u = inUnitsOfRange(losses);
    let far = -logShare <= this.radius ? Number.POSITIVE_INFINITY : 1;
    // By rounding no finite t may be outside, where the surface is all but reached at infinity.
    while (Number.isFinite(far) && this.divergence(this.tilted(u, far)) <= this.radius) far *= 2;
    if (!Number.isFinite(far)) {
      const alpha = new Float64Array(losses.length);
      for (const g of worst) alpha[g] = Math.exp(this.logStart[g] - logShare);
      return alpha;
    }
    return this.tilted(u, this.reach(u, far)).map(Math.exp);
  }

  /** log α(t). */
  private tilted(u: Float64Array, t: number): Float64Array {
    return normaliseLog(u.map((value, g) => this.logStart[g] + t * value));
  }

  private divergence(logAlpha: Float64Array): number {
    return logAlpha.reduce((sum, log, g) => sum + Math.exp(log) * (log - this.logStart[g]), 0);
  }

  /** The t below `far`, which is outside, where α(t) leaves the ball. */
  private reach(u: Float64Array, far: number): number {
    return bisect(0, far, (t) => this.divergence(this.tilted(u, t)) <= this.radius);
  }
}

class ChiSquareBall implements AmbiguitySet {
  readonly logStart: Float64Array;

  constructor(
    private readonly shares: Float64Array,
    private readonly radius: number,
  ) {
    this.logStart = shares.map(Math.log);
  }

  /**
   * Where w is outside, the ratios a = α/p satisfy log a_g + c a_g = log(w_g/p_g) + constant. So y = c a has y_g + log y_g = v_g + κ with
   * v = log(w/p), and Σ p a = 1 gives c: one number κ is left, with which α goes from w (−∞) to p (∞).
   */
  project(logWeights: Float64Array): Float64Array {
    // Weights that are not numbers stay so.
    if (!(this.divergence(normaliseLog(logWeights)) > this.radius)) return logWeights;
    const v = logWeights.map((value, g) => value - this.logStart[g]);
    const at = (kappa: number) => normaliseLog(v.map((value, g) => this.logStart[g] + logOmega(value + kappa)));
    const outside = (kappa: number) => this.divergence(at(kappa)) > this.radius;
    let [low, high] = [0, 0];
    for (let width = 1; !outside(low); width *= 2) low -= width;
    for (let width = 1; outside(high); width *= 2) high += width;
    logWeights.set(at(bisect(low, high, outside)));
    return logWeights;
  }

  /**
   * α_g = p_g (1/P + b (losses_g − m)) on the groups that have weight, which are the worst ones; P is their share, m their mean loss, and b
   * puts α on the ball's surface.
   */
  respond(losses: Float64Array): Float64Array {
    const { shares, radius } = this;
    const ordered = tiers(losses);
    const u = inUnitsOfRange(losses);
    for (let count = ordered.length; ; count--) {
      const active = ordered.slice(0, count).flat();
      const share = active.reduce((sum, g) => sum + shares[g], 0);
      const mean = active.reduce((sum, g) => sum + (shares[g] / share) * u[g], 0);
      const variance = active.reduce((sum, g) => sum + (shares[g] / share) * (u[g] - mean) ** 2, 0);
      const slope = count === 1 ? 0 : Math.sqrt(Math.max(0, 1 + radius - 1 / share) / (share * variance));
      const ratio = (g: number) => 1 / share + slope * (u[g] - mean);
      if (count > 1 && ratio(ordered[count - 1][0]) < 0) continue;
      const alpha = new Float64Array(losses.length);
      for (const g of active) alpha[g] = shares[g] * ratio(g);
      return alpha;
    }
  }

  private divergence(logAlpha: Float64Array): number {
    return logAlpha.reduce((sum, log, g) => sum + this.shares[g] * (Math.exp(log - this.logStart[g]) - 1) ** 2, 0);
  }
}

/** Groups of equal losses, the worst first. */
function tiers(losses: Float64Array): number[][] {
  const order = Array.from(losses.keys()).sort((a, b) => losses[b] - losses[a]);
  const found: number[][] = [];
  for (const g of order) {
    const last = found.at(-1);
    if (last && losses[last[0]] === losses[g]) last.push(g);
    else found.push([g]);
  }
  return found;
}

/** From −1, the least of the losses, to 0, the largest. */
function inUnitsOfRange(losses: Float64Array): Float64Array {
  const most = largest(losses);
  const range = most - smallest(losses) || 1;
  return losses.map((loss) => (loss - most) / range);
}

/** The number between `low`, where `holds`, and `high`, where not, at which that changes: halves until no number is left between them. */
function bisect(low: number, high: number, holds: (at: number) => boolean): number {
  for (let middle = (low + high) / 2; middle > low && middle < high; middle = (low + high) / 2)
    if (holds(middle)) low = middle;
    else high = middle;
  return low;
}

/** log y where y + log y = z (y is Wright's ω of z), by Newton's steps from above on s + e^s = z, which is convex. */
function logOmega(z: number): number {
  let s = z < 1 ? z : Math.log(z);
  for (let i = 0; i < 60; i++) {
    const e = Math.exp(s);
    const next = s - (s + e - z) / (1 + e);
    if (!(next < s)) return s;
    s = next;
  }
  return s;
}
