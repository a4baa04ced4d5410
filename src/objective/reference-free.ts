import { sigmoid, softplus } from './losses.js';

/**
 * Losses of a pair that look at the policy alone, as functions of the mean log-probability of a token of each response:
 *
 *   a = log π(y_w|x) / |y_w|,    b = log π(y_l|x) / |y_l|.
 */
export const referenceFreeLossNames = ['simpo', 'orpo'] as const;
export type ReferenceFreeLossName = (typeof referenceFreeLossNames)[number];

/** l(a, b) and its derivatives. */
export interface ReferenceFreeLoss {
  readonly name: ReferenceFreeLossName;
  /** What `rewards/*` are of a and b. */
  readonly beta: number;
  terms(a: number, b: number): { value: number; chosenSlope: number; rejectedSlope: number };
}

export interface ReferenceFreeSettings {
  loss: ReferenceFreeLossName;
  /** simpo: β > 0 of the difference; orpo: λ > 0, the weight of the odds ratio. */
  beta: number;
  /** γ ≥ 0, the margin that simpo asks for; default 0. */
  gamma?: number;
}

/**
 * | loss  | l(a, b)                                                           | source            |
 * |-------|-------------------------------------------------------------------|-------------------|
 * | simpo | −log σ(β (a − b) − γ)                                             | Meng et al. 2024  |
 * | orpo  | −a − λ log σ(log odds(a) − log odds(b)), odds(a) = e^a / (1 − e^a) | Hong et al. 2024  |
 */
export function referenceFreeLoss({ loss, beta, gamma = 0 }: ReferenceFreeSettings): ReferenceFreeLoss {
  if (loss === 'simpo')
    return {
      name: loss,
      beta,
      terms: (a, b) => {
        const z = gamma - beta * (a - b);
        const slope = -beta * sigmoid(z);
        return { value: softplus(z), chosenSlope: slope, rejectedSlope: -slope };
      },
    };
  return {
    name: loss,
    beta,
    terms: (chosen, rejected) => {
      const [a, b] = [Math.min(chosen, mostCertain), Math.min(rejected, mostCertain)];
      const z = logOdds(b) - logOdds(a);
      const pull = beta * sigmoid(z);
      // d log odds(a) / da = 1 / (1 − e^a)
      return {
        value: beta * softplus(z) - a,
        chosenSlope: pull / Math.expm1(a) - 1,
        rejectedSlope: -pull / Math.expm1(b),
      };
    },
  };
}

/**
 * A probability of 1 has infinite odds, which would make slopes 0/0 and not their limit, −1 − λ odds(b) at a = 0. Far above any mean of
 * log-probabilities but 0 itself, and far enough from it for products with probabilities not to underflow.
 */
const mostCertain = -1e-200;

/** log(e^a / (1 − e^a)) for a < 0. */
function logOdds(a: number): number {
  return a - (a > -Math.LN2 ? Math.log(-Math.expm1(a)) : Math.log1p(-Math.exp(a)));
}
