import { InputError } from '../errors.js';

/**
 * Step sizes that fall with the gradients seen so far, as AdaGrad-norm has them:
 *
 *   c / √(Σ_{τ≤t} ‖∇̄_τ‖²),   ∇̄ = (1/N) Σ_i ∇l_i + 2λθ,
 *
 * where ∇̄ is the gradient of the plain mean over all pairs, so that group weights do not feed back on the steps.
 */
export class AdaptiveSteps {
  private sum = 0;

  constructor(
    private readonly pairCount: number,
    private readonly ridge: number,
  ) {}

  /** Takes in ∇̄ at θ; row g of `gradients` is Σ_{i∈D_g} ∇l_i. */
  observe(gradients: readonly Float64Array[], theta: Float64Array): void {
    for (let j = 0; j < theta.length; j++) {
      let sum = 0;
      for (const gradient of gradients) sum += gradient[j];
      this.sum += (sum / this.pairCount + 2 * this.ridge * theta[j]) ** 2;
    }
  }

  /** The step size for the constant c; 0 as long as every gradient was exactly zero. */
  scale(c: number): number {
    return this.sum === 0 ? 0 : c / Math.sqrt(this.sum);
  }
}

/** @throws InputError unless c is a positive number. */
export function checkAdaptive(field: 'theta' | 'alpha', c: number): void {
  if (!(c > 0 && c < Number.POSITIVE_INFINITY))
    throw new InputError(`the constant must be a positive number, not ${c}`, { at: { field: `adaptive.${field}` } });
}
