import { InputError } from '../errors.js';
import { type Constants, errorBound, moment, type StepSizes, stepSizes } from './constants.js';
import type { PerSampleAlgorithm } from './objective-run.js';

/** What is compared, in the order of tables and legends. */
export const perSampleAlgorithms = [
  1,
  3,
  'every-group',
  'optimistic',
  'exp3',
] as const satisfies readonly PerSampleAlgorithm[];

/** How an algorithm spends a number of samples. */
export interface Schedule {
  /** T, the number of steps. */
  count: number;
  steps: StepSizes;
  /** γ of `exp3`. */
  exploration?: number;
  /** What theory says of the mean error of the average; null where no bound of this kind is proven for these steps. */
  bound: number | null;
}

/**
 * Steps of a run on `samples` pairs, by each algorithm's own theory, and constant like those of Proposition 4.1. With B_Θ, B_∇, B_l and ρ as
 * in {@link Constants}, and T = samples, but for `every-group`:
 *
 * - `1`, `3`: {@link stepSizes} and {@link errorBound}, of Nemirovski, Juditsky, Lan and Shapiro (2009) with the moments of Lemma E.1.
 * - `every-group`: the same theorem with M_θ² = B_∇², M_α² = B_l², as no estimate is multiplied by anything; T = ⌊samples/K⌋. These are the
 *   steps and the bound of Zhang et al. (2023, Theorem 1): error ε takes O(K ln K/ε²) samples.
 * - `optimistic`: the regret of optimistic mirror descent has ‖g_t − g_{t−1}‖² where mirror descent's has ‖g_t‖² (Rakhlin and Sridharan
 *   2013). Estimates from one pair are as noisy as they are large, so all that holds of its mean is ≤ 4M²: steps as `1`, with 4M² for M².
 * - `exp3`: for α, γ = min(1, √(K ln K / ((e−1) T))) and rate γ/(K B_l) on l_i/w_g (Auer et al. 2002, Corollary 3.2, for gains up to B_l);
 *   for θ, whose estimate is at most B_∇ long, η_θ = B_Θ/(B_∇ √T), which minimises the regret B_Θ²/(2η_θ) + η_θ B_∇² T/2 of projected
 *   gradient descent from the centre (Zinkevich 2003). The two make O(√(K ln K/T)) in the mean against a fixed θ and α (cf. Soma et al. 2022).
 *
 * @param constants of Algorithm 3 for `3`, else of Algorithm 1
 * @throws InputError for fewer samples than one step takes
 */
export function scheduleOf(algorithm: PerSampleAlgorithm, constants: Constants, samples: number): Schedule {
  const { B_theta, B_grad, B_l, groups: K } = constants;
  switch (algorithm) {
    case 1:
    case 3:
      return { count: samples, steps: stepSizes(constants, samples), bound: errorBound(constants, samples) };
    case 'every-group': {
      const count = Math.floor(samples / K);
      if (count < 1)
        throw new InputError(`${samples} samples are less than the ${K} of one step of every-group`, {
          at: { field: 'horizons' },
          fix: `use ${K} samples or more, or leave every-group out`,
        });
      const moments = B_theta ** 2 * B_grad ** 2 + B_l ** 2 * Math.log(K);
      return { count, steps: stepSizes(constants, count, moments), bound: errorBound(constants, count, moments) };
    }
    case 'optimistic':
      return { count: samples, steps: stepSizes(constants, samples, 4 * moment(constants)), bound: null };
    case 'exp3': {
      const exploration = Math.min(1, Math.sqrt((K * Math.log(K)) / ((Math.E - 1) * samples)));
      // The rate has a factor 1 − γ of its own; where all draws are uniform, α does not count.
      const alpha = exploration < 1 ? exploration / (K * B_l * (1 - exploration)) : 0;
      const theta = B_theta / (B_grad * Math.sqrt(samples));
      return { count: samples, steps: { theta, alpha }, exploration, bound: null };
    }
  }
}
