import { InputError } from '../errors.js';
import { exp } from './fast-math.js';

/**
 * Per-pair preference losses: functions of one scalar, the margin
 *
 *   h = [log π_θ(y_w|x) − log π_ref(y_w|x)] − [log π_θ(y_l|x) − log π_ref(y_l|x)]       (natural logs)
 *
 * Value and derivative are finite for every |h| up to 1e6 and beyond: nothing is exponentiated with a positive argument.
 */
export interface MarginLoss {
  readonly name: LossName;
  readonly beta: number;
  /** l(h) ≥ 0. */
  value(h: number): number;
  /** dl/dh. */
  derivative(h: number): number;
  /** Σ_i l(h_i) over all `margins`, each of which is replaced by dl/dh_i. For loops that do little else. */
  sumAndDifferentiate(margins: Float64Array): number;
}

export const lossNames = ['dpo', 'ipo', 'hinge'] as const;
export type LossName = (typeof lossNames)[number];

export interface LossSettings {
  loss: LossName;
  /** Strength of the KL regularisation, > 0. For IPO it sets the target margin 1/(2β). */
  beta: number;
  /** Probability ε in [0, ½) that a label is flipped; DPO only (conservative DPO). */
  labelSmoothing?: number;
}

/** log(1 + e^z), without overflow. */
export function softplus(z: number): number {
  return Math.max(z, 0) + Math.log1p(Math.exp(-Math.abs(z)));
}

/** 1 / (1 + e^-z), without overflow. */
export function sigmoid(z: number): number {
  const e = Math.exp(-Math.abs(z));
  return z >= 0 ? 1 / (1 + e) : e / (1 + e);
}

type PairLoss = Pick<MarginLoss, 'value' | 'derivative'>;

/** A loss whose value and derivative share no work. */
function byPairs({ value, derivative }: PairLoss): Omit<MarginLoss, 'name' | 'beta'> {
  const sumAndDifferentiate = (margins: Float64Array) => {
    let sum = 0;
    for (let i = 0; i < margins.length; i++) {
      sum += value(margins[i]);
      margins[i] = derivative(margins[i]);
    }
    return sum;
  };
  return { value, derivative, sumAndDifferentiate };
}

/**
 * Two factors above it go into the product, whose four roundings are then below 2⁻⁴¹ of their logarithm. Below it, the first term
 * of the series that is left out is below 2⁻⁴².
 */
const smallest = 1 + 2 ** -10;

/**
 * {@link MarginLoss.sumAndDifferentiate} for DPO with one exponential a margin, which softplus and sigmoid share, half a
 * division, and hardly any logarithm: Σ log(1 + e_i) = log Π (1 + e_i). Factors that are nearly 1, of pairs as good as won, would
 * lose their digits in the product; their logarithms are added by themselves, as a few terms of the series. So however many
 * margins there are, the sum is off by less than 10⁻¹² of itself, but for the rounding of a plain sum.
 */
function sumDpo({ value, derivative }: PairLoss, beta: number, smoothing: number, margins: Float64Array): number {
  const steepest = -beta;
  const shift = beta * smoothing;
  let sum = 0;
  let product = 1;
  let i = 0;
  while (i < margins.length) {
    // Two margins a turn, where there are two whose product cannot overflow: 1/(ab) gives both 1/a and 1/b.
    if (i + 1 < margins.length) {
      const z = steepest * margins[i];
      const y = steepest * margins[i + 1];
      if (z < 100 && y < 100) {
        if (smoothing > 0) sum -= smoothing * (z + y);
        const ez = exp(z);
        const ey = exp(y);
        const both = (1 + ez) * (1 + ey);
        const scale = steepest / both;
        const first = ez * (1 + ey);
        margins[i] = shift + scale * first;
        margins[i + 1] = shift + scale * (ey * (1 + ez));
        if (both > smallest) {
          product *= both;
          if (product > 1e200) {
            sum += Math.log(product);
            product = 1;
          }
        } else {
          const excess = first + ey;
          sum += excess * (1 - excess * (1 / 2 - excess * (1 / 3 - excess * (1 / 4))));
        }
        i += 2;
        continue;
      }
    }
    sum += value(margins[i]);
    margins[i] = derivative(margins[i]);
    i++;
  }
  return sum + Math.log(product);
}

/**
 * The loss of the paper named by `settings.loss`:
 *
 * | loss  | l(h)                                   | source                         |
 * |-------|----------------------------------------|--------------------------------|
 * | dpo   | (1−ε) softplus(−βh) + ε softplus(βh)   | Eq. 5; ε > 0: conservative DPO |
 * | ipo   | (h − 1/(2β))²                          | Eq. 38                         |
 * | hinge | max(0, 1 − βh)                         | SLiC-like, GPO convention      |
 *
 * @throws InputError when β is not positive and finite, ε is outside [0, ½), or ε is given to a loss that has none.
 * @example
 * ```ts
 * import { marginLoss } from 'group-robust-po';
 *
 * const dpo = marginLoss({ loss: 'dpo', beta: 0.1 });
 * dpo.value(0); // → Math.log(2)
 * dpo.derivative(0); // → -0.05
 * const ipo = marginLoss({ loss: 'ipo', beta: 0.1 });
 * ipo.value(5); // → 0
 * ```
 */
export function marginLoss({ loss, beta, labelSmoothing = 0 }: LossSettings): MarginLoss {
  if (!(beta > 0 && Number.isFinite(beta)))
    throw new InputError(`beta must be a positive number, not ${beta}`, {
      at: { field: 'beta' },
      fix: 'use for example beta: 0.1',
    });
  if (!(labelSmoothing >= 0 && labelSmoothing < 0.5))
    throw new InputError(`label smoothing must lie in [0, 0.5), not ${labelSmoothing}`, {
      at: { field: 'labelSmoothing' },
      fix: 'at 0.5 the labels carry no information; use a smaller value, or 0',
    });
  if (labelSmoothing > 0 && loss !== 'dpo')
    throw new InputError(`labelSmoothing has no meaning with loss: ${loss}`, {
      at: { field: 'labelSmoothing' },
      fix: 'remove labelSmoothing or set loss: dpo',
    });
  switch (loss) {
    case 'dpo': {
      const dpo: PairLoss = {
        value: (h) =>
          labelSmoothing === 0
            ? softplus(-beta * h)
            : (1 - labelSmoothing) * softplus(-beta * h) + labelSmoothing * softplus(beta * h),
        derivative: (h) => beta * (labelSmoothing - sigmoid(-beta * h)),
      };
      const sumAndDifferentiate = (margins: Float64Array) => sumDpo(dpo, beta, labelSmoothing, margins);
      return { name: loss, beta, ...dpo, sumAndDifferentiate };
    }
    case 'ipo': {
      const target = 1 / (2 * beta);
      const ipo: PairLoss = { value: (h) => (h - target) ** 2, derivative: (h) => 2 * (h - target) };
      return { name: loss, beta, ...byPairs(ipo) };
    }
    case 'hinge': {
      const hinge: PairLoss = {
        value: (h) => Math.max(0, 1 - beta * h),
        derivative: (h) => (beta * h < 1 ? -beta : 0),
      };
      return { name: loss, beta, ...byPairs(hinge) };
    }
    default:
      throw new InputError(`unknown loss "${String(loss)}"`, {
        at: { field: 'loss' },
        fix: `use one of ${lossNames.join(', ')}`,
      });
  }
}
