import { largest, smallest } from '../numbers/extremes.js';

/** What the tilted loss of each set of pairs is, and how much each pair's gradient counts in it. */
export interface TiltedTerms {
  /** [pairs] T of the set that the pair is in. */
  losses: Float64Array;
  /** [pairs] e^{l_i/τ} over its weighted mean in the set, so that Σ w_i factor_i ∇l_i / Σ w_i = ∇T. */
  factors: Float64Array;
}

/**
 * The tilted loss of pairs that are seen together, in place of their mean (Li et al. 2021):
 *
 *   T = τ log(Σ w_i e^{l_i/τ} / Σ w_i).
 *
 * τ > 0 is robust to a shift of the pairs: T = max over shares q of Σ q_i l_i − τ KL(q‖w), KL-robust DPO (Xu et al. 2025), the more so the
 * smaller τ. τ < 0 is robust to wrong labels: T = min over q of Σ q_i l_i + |τ| KL(q‖w), which turns away from pairs with large losses; it is
 * Dr.DPO with β' = −τ (Wu et al. 2024). Both go to the mean as |τ| grows.
 * A set whose weights are all 0 has no loss: T and its factors are 0.
 *
 * @param sets [pairs] which set each pair is in, 0..
 * @param temperature τ ≠ 0
 */
export function tiltedTerms(
  losses: ArrayLike<number>,
  weights: ArrayLike<number>,
  sets: ArrayLike<number>,
  temperature: number,
): TiltedTerms {
  const members: number[][] = [];
  for (let i = 0; i < losses.length; i++) {
    members[sets[i]] ??= [];
    members[sets[i]].push(i);
  }
  const terms = { losses: new Float64Array(losses.length), factors: new Float64Array(losses.length) };
  for (const pairs of members) {
    if (pairs === undefined) continue;
    const counted = pairs.filter((i) => weights[i] > 0);
    if (counted.length === 0) continue;
    const values = counted.map((i) => losses[i]);
    // The one whose exponential is largest; pairs of weight 0 have no say, and their own factor is never used.
    const origin = temperature > 0 ? largest(values) : smallest(values);
    const exponent = (i: number) => (losses[i] - origin) / temperature;
    let total = 0;
    let mean = 0;
    let excess = 0;
    for (const i of counted) {
      total += weights[i];
      mean += weights[i] * Math.exp(exponent(i));
      excess += weights[i] * Math.expm1(exponent(i));
    }
    mean /= total;
    excess /= total;
    // Both are log(mean); near 1 it is the difference from 1 that τ multiplies.
    const loss = origin + temperature * (excess > -0.5 ? Math.log1p(excess) : Math.log(mean));
    for (const i of pairs) terms.losses[i] = loss;
    for (const i of counted) terms.factors[i] = Math.exp(exponent(i)) / mean;
  }
  return terms;
}
