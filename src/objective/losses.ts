import { InputError, type InputLocation } from '../errors.js';
import { exp, log1p } from './fast-math.js';

/**
 * Per-pair preference losses: functions of one scalar, the margin
 *
 *   h = [log π_θ(y_w|x) − log π_ref(y_w|x)] − [log π_θ(y_l|x) − log π_ref(y_l|x)]       (natural logs)
 *
 * This is all that anything in the package knows of a loss: training reads its value and derivative, the simulator, the bound and
 * the minimax certificate also what it says of its shape. Nothing asks for its name but to print it.
 *
 * Value and derivatives are finite for every |h| up to 1e6 and beyond: nothing is exponentiated with a positive argument.
 */
export interface MarginLoss extends LossShape {
  readonly name: LossName;
  readonly beta: number;
  /** The loss and its settings, for messages. */
  readonly title: string;
  /** l(h), at least 0 where the loss is {@link LossShape.bounded}. */
  value(h: number): number;
  /** dl/dh; where l has a kink, one of its slopes there. */
  derivative(h: number): number;
  /** l(h), and dl/dh into `slope[0]`, for the price of one. For loops that do little else. */
  evaluate(h: number, slope: Float64Array): number;
  /** Σ_i l(h_i) over all `margins`, each of which is replaced by dl/dh_i. For loops that do little else. */
  sumAndDifferentiate(margins: Float64Array): number;
  /** The same loss in the simulator's C++. Absent: it has none, and the simulator takes the functions above. */
  readonly kernel?: LossKernel;
}

/** A loss that native/simulator/losses.h computes: softplus(−βh) + εβh, (h − c)², max(0, 1 − βh). */
export type LossKernel =
  | { kind: 'logistic'; beta: number; smoothing: number }
  | { kind: 'square'; target: number }
  | { kind: 'hinge'; beta: number };

/** What analyses take from a loss instead of its name. A property that is absent is one the loss has not. */
export interface LossShape {
  /** Least L with |l(h) − l(h')| ≤ L |h − h'| for all |h|, |h'| ≤ H; H = ∞ is allowed. */
  lipschitz(H: number): number;
  /** m ≥ 0 such that l(h) − m h²/2 is convex. Absent: not convex. */
  readonly convexity?: number;
  /** Absent: not twice differentiable. */
  readonly curvature?: Curvature;
  /** Where l(h) = slope · max(0, end − h). Absent: not a ramp. */
  readonly ramp?: Ramp;
  /** c where l(h) = (h − c)². Absent: not a square. */
  readonly target?: number;
  /** Whether l(h) falls for ever towards 0 as h → ∞, so that this infimum is not attained. */
  readonly vanishing: boolean;
  /** Whether l(h) ≥ 0; else it falls for ever and without limit. */
  readonly bounded: boolean;
}

export interface Curvature {
  /** l''(h). */
  second(h: number): number;
  /** M with |l'''| ≤ M l'' everywhere (generalised self-concordance, Bach 2010); 0: l is quadratic. */
  readonly selfConcordance: number;
}

export interface Ramp {
  slope: number;
  end: number;
}

export const lossNames = ['dpo', 'ipo', 'hinge', 'rdpo'] as const;
export type LossName = (typeof lossNames)[number];

export interface LossSettings {
  loss: LossName;
  /** Strength of the KL regularisation, > 0. For IPO it sets the target margin 1/(2β). */
  beta: number;
  /** Probability ε in [0, ½) that a label is flipped; DPO (conservative DPO) and rDPO only. */
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

/** The forms for loops, of a loss whose value and derivative share no work. */
function byPairs({ value, derivative }: PairLoss): Pick<MarginLoss, 'evaluate' | 'sumAndDifferentiate'> {
  const evaluate = (h: number, slope: Float64Array) => {
    slope[0] = derivative(h);
    return value(h);
  };
  const sumAndDifferentiate = (margins: Float64Array) => {
    let sum = 0;
    for (let i = 0; i < margins.length; i++) {
      sum += value(margins[i]);
      margins[i] = derivative(margins[i]);
    }
    return sum;
  };
  return { evaluate, sumAndDifferentiate };
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
 * | rdpo  | ((1−ε) softplus(−βh) − ε softplus(βh)) / (1−2ε) | rDPO: Chowdhury et al. 2024 |
 *
 * With labels that are flipped by chance ε, rdpo has in expectation the loss that dpo has with the true ones.
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
  if (labelSmoothing > 0 && loss !== 'dpo' && loss !== 'rdpo')
    throw new InputError(`labelSmoothing has no meaning with loss: ${loss}`, {
      at: { field: 'labelSmoothing' },
      fix: 'remove labelSmoothing or set loss: dpo',
    });
  switch (loss) {
    case 'dpo':
      return logisticLoss(beta, labelSmoothing);
    case 'ipo':
      return squareLoss(beta);
    case 'hinge':
      return hingeLoss(beta);
    case 'rdpo':
      return unbiasedLoss(beta, labelSmoothing);
    default:
      throw new InputError(`unknown loss "${String(loss)}"`, {
        at: { field: 'loss' },
        fix: `use one of ${lossNames.join(', ')}`,
      });
  }
}

/** With p = s(−βh), l' = β(ε − p): smoothing adds a line, so that l'' = β²p(1−p) and l''' = β³p(1−p)(2p−1) do not depend on ε. */
function logisticLoss(beta: number, smoothing: number): MarginLoss {
  const dpo: PairLoss = {
    value: (h) =>
      smoothing === 0 ? softplus(-beta * h) : (1 - smoothing) * softplus(-beta * h) + smoothing * softplus(beta * h),
    derivative: (h) => beta * (smoothing - sigmoid(-beta * h)),
  };
  return {
    name: 'dpo',
    beta,
    title: smoothing === 0 ? 'dpo' : `dpo with labelSmoothing ${smoothing}`,
    ...dpo,
    evaluate: (h, slope) => {
      const z = -beta * h;
      const e = exp(-Math.abs(z));
      slope[0] = beta * smoothing - (beta * (z >= 0 ? 1 : e)) / (1 + e);
      const value = Math.max(z, 0) + log1p(e);
      return smoothing === 0 ? value : value - smoothing * z;
    },
    sumAndDifferentiate: (margins) => sumDpo(dpo, beta, smoothing, margins),
    kernel: { kind: 'logistic', beta, smoothing },
    // The slope rises from −β(1−ε) to βε, which is less; the former is all but reached soon, so H is left out.
    lipschitz: () => beta * (1 - smoothing),
    convexity: 0,
    curvature: { second: (h) => beta ** 2 * sigmoid(-beta * h) * sigmoid(beta * h), selfConcordance: beta },
    vanishing: smoothing === 0,
    bounded: true,
  };
}

function squareLoss(beta: number): MarginLoss {
  const target = 1 / (2 * beta);
  const ipo: PairLoss = { value: (h) => (h - target) ** 2, derivative: (h) => 2 * (h - target) };
  return {
    name: 'ipo',
    beta,
    title: 'ipo',
    ...ipo,
    ...byPairs(ipo),
    evaluate: (h, slope) => {
      const excess = h - target;
      slope[0] = 2 * excess;
      return excess * excess;
    },
    kernel: { kind: 'square', target },
    lipschitz: (H) => 2 * (H + target),
    convexity: 2,
    curvature: { second: () => 2, selfConcordance: 0 },
    target,
    vanishing: false,
    bounded: true,
  };
}

function hingeLoss(beta: number): MarginLoss {
  const hinge: PairLoss = {
    value: (h) => Math.max(0, 1 - beta * h),
    derivative: (h) => (beta * h < 1 ? -beta : 0),
  };
  return {
    name: 'hinge',
    beta,
    title: 'hinge',
    ...hinge,
    ...byPairs(hinge),
    kernel: { kind: 'hinge', beta },
    lipschitz: () => beta,
    convexity: 0,
    ramp: { slope: beta, end: 1 / beta },
    vanishing: false,
    bounded: true,
  };
}

/** As (1−ε) softplus(−βh) − ε softplus(βh) = (1−2ε) softplus(−βh) − ε βh, this is DPO less the line ε βh/(1−2ε): as curved, and falling for ever. */
function unbiasedLoss(beta: number, flipped: number): MarginLoss {
  const slope = (beta * flipped) / (1 - 2 * flipped);
  const rdpo: PairLoss = {
    value: (h) => softplus(-beta * h) - slope * h,
    derivative: (h) => -beta * sigmoid(-beta * h) - slope,
  };
  return {
    name: 'rdpo',
    beta,
    title: `rdpo with labelSmoothing ${flipped}`,
    ...rdpo,
    ...byPairs(rdpo),
    lipschitz: () => beta + slope,
    convexity: 0,
    curvature: { second: (h) => beta ** 2 * sigmoid(-beta * h) * sigmoid(beta * h), selfConcordance: beta },
    vanishing: flipped === 0,
    bounded: flipped === 0,
  };
}

/** The properties an analysis may need, as messages call a loss that has them. */
const propertyNames = {
  convexity: 'a convex loss',
  curvature: 'a twice differentiable loss',
  target: 'a loss that is a square',
} as const;
type LossProperty = keyof typeof propertyNames;

/** A loss that is known to have some of the properties that not all have. */
export type LossWith<P extends LossProperty> = MarginLoss & Required<Pick<LossShape, P>>;

/**
 * The same loss, where it has all that `analysis` cannot do without.
 *
 * @throws InputError that names the analysis, what the loss lacks, and the losses that have it
 */
export function lossWith<P extends LossProperty>(
  properties: readonly P[],
  loss: MarginLoss,
  analysis: string,
  at: InputLocation = { field: 'loss' },
): LossWith<P> {
  for (const property of properties) {
    if (loss[property] !== undefined) continue;
    const able = lossNames.filter((name) => marginLoss({ loss: name, beta: 1 })[property] !== undefined);
    throw new InputError(`${analysis} needs ${propertyNames[property]}, which ${loss.title} is not`, {
      at,
      fix: `use ${able.join(' or ')}`,
    });
  }
  return loss as LossWith<P>;
}
