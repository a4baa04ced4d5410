import { InputError } from '../errors.js';
import { largest, smallest } from '../numbers/extremes.js';
import { checkList, checkPositive } from './checks.js';
import { lowerToCaps, normaliseLog, raiseToFloor } from './simplex.js';

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
    private readonly shares: Float64Array,
    private readonly radius: number,
  ) {
    this.logStart = shares.map(Math.log);
  }

  project(logWeights: Float64Array): Float64Array {
    const u = normaliseLog(logWeights).map((value, g) => value - this.logStart[g]);
    // Weights that are not numbers stay so.
    if (!(this.divergence(u, 1) > this.radius)) return logWeights;
    const ratios = this.tilted(u, this.reach(u, 1));
    logWeights.set(ratios.map((ratio, g) => this.logStart[g] + ratio));
    return logWeights;
  }

  respond(losses: Float64Array): Float64Array {
    const { shares } = this;
    const [worst, ...others] = tiers(losses);
    const u = inUnitsOfRange(losses);
    const rest = others.flat().reduce((sum, g) => sum + shares[g], 0);
    const share = worst.reduce((sum, g) => sum + shares[g], 0);
    // KL of p on the worst groups alone.
    const furthest = rest < share ? -Math.log1p(-rest) : -Math.log(share);
    let far = furthest <= this.radius ? Number.POSITIVE_INFINITY : 1;
    // By rounding no finite t may be outside, where the surface is all but reached at infinity.
    while (Number.isFinite(far) && this.divergence(u, far) <= this.radius) far *= 2;
    if (!Number.isFinite(far)) {
      const alpha = new Float64Array(losses.length);
      for (const g of worst) alpha[g] = shares[g] / share;
      return alpha;
    }
    return this.tilted(u, this.reach(u, far)).map((ratio, g) => shares[g] * Math.exp(ratio));
  }

  /** log(α(t)/p). */
  private tilted(u: Float64Array, t: number): Float64Array {
    return logRatios(
      this.shares,
      u.map((value) => t * value),
    );
  }

  /** KL(α(t)‖p) as Σ p (a log a − a + 1), a = α/p, of which no term is negative: Σ α log a cancels near p. */
  private divergence(u: Float64Array, t: number): number {
    return this.tilted(u, t).reduce((sum, ratio, g) => sum + this.shares[g] * relativeEntropy(ratio), 0);
  }

  /** The t below `far`, which is outside, where α(t) leaves the ball. */
  private reach(u: Float64Array, far: number): number {
    return bisect(0, far, (t) => this.divergence(u, t) <= this.radius);
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
    const v = normaliseLog(logWeights).map((value, g) => value - this.logStart[g]);
    // Weights that are not numbers stay so.
    if (!(this.divergence(v) > this.radius)) return logWeights;
    const at = (kappa: number) =>
      logRatios(
        this.shares,
        v.map((value) => logOmega(value + kappa)),
      );
    const outside = (kappa: number) => this.divergence(at(kappa)) > this.radius;
    let [low, high] = [0, 0];
    for (let width = 1; !outside(low); width *= 2) low -= width;
    for (let width = 1; outside(high); width *= 2) high += width;
    const ratios = at(bisect(low, high, outside));
    logWeights.set(ratios.map((ratio, g) => this.logStart[g] + ratio));
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
      const idle = ordered.slice(count).flat();
      const share = active.reduce((sum, g) => sum + shares[g], 0);
      const mean = active.reduce((sum, g) => sum + (shares[g] / share) * u[g], 0);
      const variance = active.reduce((sum, g) => sum + (shares[g] / share) * (u[g] - mean) ** 2, 0);
      // What is left of r once the idle groups have no weight, r + 1 − 1/P; without idle groups that is all of r, to the last digit.
      const left = radius - idle.reduce((sum, g) => sum + shares[g], 0) / share;
      const slope = count === 1 ? 0 : Math.sqrt(Math.max(0, left) / (share * variance));
      const ratio = (g: number) => 1 / share + slope * (u[g] - mean);
      if (count > 1 && ratio(ordered[count - 1][0]) < 0) continue;
      const alpha = new Float64Array(losses.length);
      for (const g of active) alpha[g] = shares[g] * ratio(g);
      return alpha;
    }
  }

  private divergence(ratios: Float64Array): number {
    return ratios.reduce((sum, ratio, g) => sum + this.shares[g] * Math.expm1(ratio) ** 2, 0);
  }
}

/** log(α/p) for α ∝ p e^z: where α is all but p, in a small ball, these keep digits that log α has lost. */
function logRatios(shares: Float64Array, z: Float64Array): Float64Array {
  const most = largest(z);
  const below = z.map((value) => value - most);
  // Σ p e^z − 1, as Σ p = 1.
  const excess = below.reduce((sum, value, g) => sum + shares[g] * Math.expm1(value), 0);
  const log =
    excess > -0.5
      ? Math.log1p(excess)
      : Math.log(below.reduce((sum, value, g) => sum + shares[g] * Math.exp(value), 0));
  return below.map((value) => value - log);
}

/** a log a − a + 1 for a = e^x: Σ (k − 1) x^k/k! from k = 2 on, where the closed form cancels. */
function relativeEntropy(x: number): number {
  if (!(Math.abs(x) < 0.5)) return Math.exp(x) * (x - 1) + 1;
  let sum = 0;
  let power = x;
  for (let k = 2; k <= 18; k++) {
    power *= x / k;
    sum += (k - 1) * power;
  }
  return sum;
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
