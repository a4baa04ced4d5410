import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/errors.js';
import {
  type Curvature,
  type LossSettings,
  lossNames,
  lossWith,
  type MarginLoss,
  marginLoss,
} from '../../src/objective/losses.js';
import { preferenceTerms, supervisedTerms } from '../../src/objective/pairs.js';

/** One pair: log π_w −1, log π_l −2, references −1.5 and −1.8, hence h = 0.7. */
const pair = {
  chosen: Float64Array.of(-1),
  rejected: Float64Array.of(-2),
  referenceChosen: Float64Array.of(-1.5),
  referenceRejected: Float64Array.of(-1.8),
};

/** [settings, loss, d loss / d log π_w] of the worked pair. */
const worked: [LossSettings, number, number][] = [
  [{ loss: 'dpo', beta: 0.1 }, 0.6587595555486971, -0.048250714233361025],
  [{ loss: 'dpo', beta: 1 }, 0.4031860488854579, -0.3318122278318339],
  [{ loss: 'dpo', beta: 2 }, 0.22041740991845094, -0.3956322228828365],
  [{ loss: 'dpo', beta: 0.1, labelSmoothing: 0.1 }, 0.6657595555486971, -0.03825071423336103],
  [{ loss: 'dpo', beta: 1, labelSmoothing: 0.1 }, 0.4731860488854579, -0.23181222783183392],
  [{ loss: 'dpo', beta: 2, labelSmoothing: 0.1 }, 0.36041740991845095, -0.19563222288283652],
  [{ loss: 'ipo', beta: 0.1 }, 18.49, -8.6],
  [{ loss: 'ipo', beta: 1 }, 0.04, 0.4],
  [{ loss: 'ipo', beta: 2 }, 0.2025, 0.9],
  [{ loss: 'hinge', beta: 0.1 }, 0.93, -0.1],
  [{ loss: 'hinge', beta: 1 }, 0.3, -1],
  [{ loss: 'hinge', beta: 2 }, 0, 0],
  // (0.9 log(1 + e^−0.7) − 0.1 log(1 + e^0.7)) / 0.8, and −(0.9 s + 0.1 (1 − s)) / 0.8 with s = 1 / (1 + e^0.7)
  [{ loss: 'rdpo', beta: 1, labelSmoothing: 0.1 }, 0.3156860488854579, -0.4568122278318339],
  [{ loss: 'rdpo', beta: 1 }, 0.4031860488854579, -0.3318122278318339],
];

describe('margin losses', () => {
  it.each(worked)('%j has the worked value and gradient', (settings, value, slope) => {
    const terms = preferenceTerms(marginLoss(settings), 'sum', pair);
    expect(terms.losses[0]).toBeCloseTo(value, 9);
    expect(terms.chosenCotangents[0]).toBeCloseTo(slope, 9);
    expect(terms.rejectedCotangents[0]).toBeCloseTo(-slope, 9);
    expect(terms.chosenLogRatios[0]).toBeCloseTo(0.5, 12);
    expect(terms.rejectedLogRatios[0]).toBeCloseTo(-0.2, 12);
  });

  it('starts from ln 2 (DPO) and 1/(4β²) (IPO) when policy and reference agree', () => {
    expect(marginLoss({ loss: 'dpo', beta: 0.3 }).value(0)).toBeCloseTo(Math.LN2, 12);
    expect(marginLoss({ loss: 'ipo', beta: 0.01 }).value(0)).toBeCloseTo(2500, 9);
  });

  it('is exact where exp would overflow', () => {
    const dpo = marginLoss({ loss: 'dpo', beta: 1 });
    expect([dpo.value(-1000), dpo.derivative(-1000)]).toEqual([1000, -1]);
    expect(dpo.value(1000)).toBe(0);
    for (const loss of lossNames)
      for (const h of [-1e6, 1e6])
        for (const beta of [0.01, 10]) {
          const { value, derivative } = marginLoss({ loss, beta });
          expect(Number.isFinite(value(h)) && Number.isFinite(derivative(h))).toBe(true);
        }
  });

  it('rdpo is unbiased: labels flipped by chance ε give, in expectation, the loss of the true ones', () => {
    const dpo = marginLoss({ loss: 'dpo', beta: 0.7 });
    const rdpo = marginLoss({ loss: 'rdpo', beta: 0.7, labelSmoothing: 0.3 });
    for (const h of [-9, -0.4, 0, 2, 15])
      expect(0.7 * rdpo.value(h) + 0.3 * rdpo.value(-h)).toBeCloseTo(dpo.value(h), 12);
  });

  it('gives every loss name its own number', () => {
    const at6 = (loss: LossSettings['loss']) => marginLoss({ loss, beta: 0.1 }).value(6);
    expect(at6('dpo')).toBeCloseTo(0.437488, 6);
    expect(at6('hinge')).toBeCloseTo(0.4, 12);
    expect(at6('ipo')).toBeCloseTo(1, 12);
  });

  it('has the derivative that central differences show, is non-negative and convex', () => {
    const settings = fc.record({
      loss: fc.constantFrom(...lossNames),
      beta: fc.double({ min: 0.01, max: 5, noNaN: true }),
      h: fc.double({ min: -30, max: 30, noNaN: true }),
      smoothing: fc.double({ min: 0, max: 0.49, noNaN: true }),
    });
    fc.assert(
      fc.property(settings, ({ loss, beta, h, smoothing }) => {
        fc.pre(loss !== 'hinge' || Math.abs(beta * h - 1) > 1e-3);
        const l = marginLoss({ loss, beta, labelSmoothing: loss === 'dpo' || loss === 'rdpo' ? smoothing : 0 });
        const step = 1e-5;
        const numeric = (l.value(h + step) - l.value(h - step)) / (2 * step);
        expect(l.derivative(h)).toBeCloseTo(numeric, 4);
        if (l.bounded) expect(l.value(h)).toBeGreaterThanOrEqual(0);
        expect(l.derivative(h + 1)).toBeGreaterThanOrEqual(l.derivative(h) - 1e-12);
      }),
    );
  });

  it.each([
    [{ loss: 'dpo', beta: 0 }, 'beta'],
    [{ loss: 'dpo', beta: Number.NaN }, 'beta'],
    [{ loss: 'dpo', beta: 1, labelSmoothing: 0.5 }, 'labelSmoothing'],
    [{ loss: 'ipo', beta: 1, labelSmoothing: 0.1 }, 'labelSmoothing'],
    [{ loss: 'kto', beta: 1 }, 'loss'],
  ])('refuses %j, naming the field', (settings, field) => {
    expect(() => marginLoss(settings as LossSettings)).toThrow(InputError);
    expect(() => marginLoss(settings as LossSettings)).toThrow(`"${field}"`);
  });
});

/** One of each form of a loss. */
const someLoss = fc.constantFrom<LossSettings>(
  { loss: 'dpo', beta: 0.7 },
  { loss: 'dpo', beta: 2, labelSmoothing: 0.2 },
  { loss: 'ipo', beta: 0.1 },
  { loss: 'hinge', beta: 0.5 },
  { loss: 'rdpo', beta: 0.5, labelSmoothing: 0.2 },
);

describe('soft labels', () => {
  const preference = fc.double({ min: 0, max: 1, noNaN: true });
  const logp = fc.double({ min: -20, max: 0, noNaN: true });
  const logps = (...[chosen, rejected, referenceChosen, referenceRejected]: number[]) => ({
    chosen: Float64Array.of(chosen),
    rejected: Float64Array.of(rejected),
    referenceChosen: Float64Array.of(referenceChosen),
    referenceRejected: Float64Array.of(referenceRejected),
    chosenLengths: Int32Array.of(2),
    rejectedLengths: Int32Array.of(5),
  });
  /** The same pair with its labels exchanged. */
  const exchanged = ([w, l, refW, refL]: number[]) => {
    const { chosenLengths, rejectedLengths, ...rest } = logps(l, w, refL, refW);
    return { ...rest, chosenLengths: rejectedLengths, rejectedLengths: chosenLengths };
  };

  it('have loss and gradients of the two hard labels, each by its share', () => {
    fc.assert(
      fc.property(
        someLoss,
        fc.constantFrom('sum' as const, 'mean' as const),
        preference,
        fc.tuple(logp, logp, logp, logp),
        (settings, reduction, p, values) => {
          const l = marginLoss(settings);
          const soft = preferenceTerms(l, reduction, logps(...values), [p]);
          const right = preferenceTerms(l, reduction, logps(...values));
          const wrong = preferenceTerms(l, reduction, exchanged(values));
          const mixed = (one: number, other: number) => p * one + (1 - p) * other;
          expect(soft.losses[0]).toBeCloseTo(mixed(right.losses[0], wrong.losses[0]), 9);
          expect(soft.chosenCotangents[0]).toBeCloseTo(
            mixed(right.chosenCotangents[0], wrong.rejectedCotangents[0]),
            9,
          );
          expect(soft.rejectedCotangents[0]).toBeCloseTo(
            mixed(right.rejectedCotangents[0], wrong.chosenCotangents[0]),
            9,
          );
          expect(preferenceTerms(l, reduction, logps(...values), [1])).toEqual(right);
        },
      ),
    );
  });

  it('have the gradient of central differences, and the closed forms of DPO and IPO', () => {
    const [p, beta, h] = [0.3, 0.8, 0.7];
    const at = (shift: number) => logps(-1 + shift, -2, -1.5, -1.8);
    for (const [name, value] of [
      // Cross-entropy of p against σ(βh); and (h − 1/(2β))² with the mean target, plus the variance of the labels.
      ['dpo', -p * Math.log(1 / (1 + Math.exp(-beta * h))) - (1 - p) * Math.log(1 / (1 + Math.exp(beta * h)))],
      ['ipo', (h - (2 * p - 1) / (2 * beta)) ** 2 + (p * (1 - p)) / beta ** 2],
    ] as const) {
      const of = (shift: number) => preferenceTerms(marginLoss({ loss: name, beta }), 'sum', at(shift), [p]);
      expect(of(0).losses[0]).toBeCloseTo(value, 12);
      const numeric = (of(1e-5).losses[0] - of(-1e-5).losses[0]) / 2e-5;
      expect(of(0).chosenCotangents[0]).toBeCloseTo(numeric, 7);
    }
  });
});

describe('reductions', () => {
  // Chosen token log-ratios [0.5, 0.5], rejected [−0.25 × 4].
  const logps = {
    chosen: Float64Array.of(1),
    rejected: Float64Array.of(-1),
    referenceChosen: new Float64Array(1),
    referenceRejected: new Float64Array(1),
    chosenLengths: Int32Array.of(2),
    rejectedLengths: Int32Array.of(4),
  };
  const ipo = marginLoss({ loss: 'ipo', beta: 0.1 });

  it('sum gives h = 2, mean gives h = 0.75', () => {
    expect(preferenceTerms(ipo, 'sum', logps).losses[0]).toBeCloseTo(9, 12);
    expect(preferenceTerms(ipo, 'mean', logps).losses[0]).toBeCloseTo(18.0625, 12);
  });

  it('mean carries 1/length into each cotangent', () => {
    const { chosenCotangents, rejectedCotangents } = preferenceTerms(ipo, 'mean', logps);
    const slope = 2 * (0.75 - 5);
    expect([chosenCotangents[0], rejectedCotangents[0]]).toEqual([slope / 2, -slope / 4]);
  });

  it('supervised loss is minus the (mean) chosen log-prob', () => {
    const six = { chosen: Float64Array.of(-6), chosenLengths: Int32Array.of(3) };
    expect(supervisedTerms('sum', six)).toEqual({ losses: Float64Array.of(6), chosenCotangents: Float64Array.of(-1) });
    expect(supervisedTerms('mean', six).losses[0]).toBeCloseTo(2, 12);
    expect(supervisedTerms('mean', six).chosenCotangents[0]).toBeCloseTo(-1 / 3, 12);
  });
});

describe('sums over many margins', () => {
  const margin = fc.oneof(fc.double({ min: -5, max: 5, noNaN: true }), fc.double({ min: -1e6, max: 1e6, noNaN: true }));

  it('equal the values and derivatives one by one', () => {
    fc.assert(
      fc.property(someLoss, fc.array(margin, { maxLength: 50 }), (chosen, list) => {
        const loss = marginLoss(chosen);
        const margins = Float64Array.from(list);
        const sum = loss.sumAndDifferentiate(margins);
        const expected = list.reduce((total, h) => total + loss.value(h), 0);
        const size = list.reduce((total, h) => total + Math.abs(loss.value(h)), 0);
        expect(Math.abs(sum - expected)).toBeLessThanOrEqual(1e-12 * size);
        list.forEach((h, i) => {
          expect(Math.abs(margins[i] - loss.derivative(h))).toBeLessThanOrEqual(1e-15 * loss.beta);
        });
      }),
    );
  });

  it('DPO: a product of more factors than a double can hold', () => {
    const loss = marginLoss({ loss: 'dpo', beta: 1 });
    expect(loss.sumAndDifferentiate(new Float64Array(5000))).toBeCloseTo(5000 * Math.LN2, 9);
  });

  it.each([1, 2, 3, 3000])('DPO: %i pairs that are as good as won keep every digit', (pairs) => {
    const loss = marginLoss({ loss: 'dpo', beta: 0.5 });
    for (const h of [10, 13, 13.8, 14, 18, 28, 40, 72, 100, 600, 1380]) {
      const sum = loss.sumAndDifferentiate(new Float64Array(pairs).fill(h));
      expect(Math.abs(sum / (pairs * loss.value(h)) - 1)).toBeLessThan(1e-12);
    }
  });

  it('DPO: a margin that is not a number is not hidden', () => {
    expect(marginLoss({ loss: 'dpo', beta: 1 }).sumAndDifferentiate(Float64Array.of(1, Number.NaN))).toBeNaN();
  });
});

describe('what a loss says of itself', () => {
  const everyLoss = fc
    .record({ loss: fc.constantFrom(...lossNames), beta: fc.constantFrom(0.1, 0.7, 1, 3) })
    .chain((plain) =>
      plain.loss === 'dpo' || plain.loss === 'rdpo'
        ? fc.constantFrom<LossSettings>(
            plain,
            ...[0.05, 0.3, 0.45].map((labelSmoothing) => ({ ...plain, labelSmoothing })),
          )
        : fc.constant<LossSettings>(plain),
    );
  const margin = fc.double({ min: -40, max: 40, noNaN: true });
  const smooth = everyLoss.map(marginLoss).filter((loss) => loss.curvature !== undefined);

  it('evaluate is value and derivative', () => {
    fc.assert(
      fc.property(everyLoss, fc.oneof(margin, fc.double({ min: -1e6, max: 1e6, noNaN: true })), (settings, h) => {
        const loss = marginLoss(settings);
        const slope = new Float64Array(1);
        const value = loss.evaluate(h, slope);
        expect(Math.abs(value - loss.value(h))).toBeLessThanOrEqual(1e-14 * Math.max(Math.abs(loss.value(h)), 1e-300));
        expect(Math.abs(slope[0] - loss.derivative(h))).toBeLessThanOrEqual(1e-15 * loss.lipschitz(Math.abs(h)));
      }),
      { numRuns: 500 },
    );
  });

  it('has the second derivative that central differences show, or none', () => {
    fc.assert(
      fc.property(smooth, fc.double({ min: -20, max: 20, noNaN: true }), ({ derivative, curvature, beta }, h) => {
        const step = 1e-4 / beta;
        const numeric = (derivative(h + step) - derivative(h - step)) / (2 * step);
        expect(Math.abs((curvature?.second(h) as number) - numeric)).toBeLessThan(1e-6 * Math.max(1, beta ** 2));
      }),
    );
    expect(marginLoss({ loss: 'hinge', beta: 1 }).curvature).toBeUndefined();
  });

  it('is self-concordant with its constant and, where that is not 0, with no smaller one', () => {
    const thirdOverSecond = ({ curvature, beta }: MarginLoss, h: number) => {
      const step = 1e-4 / beta;
      const { second } = curvature as Curvature;
      return Math.abs(second(h + step) - second(h - step)) / (2 * step) / second(h);
    };
    fc.assert(
      fc.property(smooth, fc.double({ min: -20, max: 20, noNaN: true }), (loss, h) => {
        expect(thirdOverSecond(loss, h / loss.beta)).toBeLessThanOrEqual(
          (loss.curvature as Curvature).selfConcordance + 1e-6,
        );
      }),
    );
    for (const labelSmoothing of [0, 0.3]) {
      const loss = marginLoss({ loss: 'dpo', beta: 2, labelSmoothing });
      expect(thirdOverSecond(loss, 8)).toBeGreaterThan(0.99 * (loss.curvature as Curvature).selfConcordance);
    }
  });

  it('is Lipschitz with its constant up to H, and hardly with a smaller one', () => {
    fc.assert(
      fc.property(
        everyLoss,
        fc.double({ min: 0.1, max: 40, noNaN: true }),
        fc.tuple(margin, margin),
        (settings, H, [a, b]) => {
          const loss = marginLoss(settings);
          const [from, to] = [a, b].map((h) => (h / 40) * H);
          const rise = Math.abs(loss.value(to) - loss.value(from));
          expect(rise).toBeLessThanOrEqual(loss.lipschitz(H) * Math.abs(to - from) * (1 + 1e-12) + 1e-12);
          // DPO's is the one for all H, which is all but reached at βh = −30.
          const at = loss.name === 'dpo' || loss.name === 'rdpo' ? Math.max(H, 30 / loss.beta) : H;
          expect(Math.abs(loss.derivative(-at))).toBeGreaterThan(loss.lipschitz(at) * (1 - 1e-9));
        },
      ),
    );
  });

  it('is convex by its modulus and, where that is not 0, by no greater one', () => {
    fc.assert(
      fc.property(everyLoss, margin, margin, (settings, a, b) => {
        const { value, convexity = Number.NaN } = marginLoss(settings);
        const sag = (value(a) + value(b)) / 2 - value((a + b) / 2);
        expect(sag).toBeGreaterThanOrEqual(
          (convexity / 8) * (a - b) ** 2 - 1e-12 * (Math.abs(value(a)) + Math.abs(value(b))),
        );
      }),
    );
    const { value } = marginLoss({ loss: 'ipo', beta: 1 });
    expect((value(-1) + value(1)) / 2 - value(0)).toBeCloseTo((2 / 8) * 4, 12);
    const flat = marginLoss({ loss: 'dpo', beta: 1, labelSmoothing: 0.1 });
    expect((flat.value(30) + flat.value(32)) / 2 - flat.value(31)).toBeLessThan(1e-12);
  });

  it('vanishes at infinity only where it says so', () => {
    fc.assert(
      fc.property(everyLoss, fc.double({ min: 1, max: 30, noNaN: true }), (settings, z) => {
        const { vanishing, bounded, derivative, value, beta } = marginLoss(settings);
        if (!bounded) {
          expect(derivative(1e6 / beta)).toBeLessThan(0);
          expect(value(1e6 / beta)).toBeLessThan(-1e4);
        } else if (vanishing) expect(derivative(z / beta)).toBeLessThan(0);
        else expect(derivative(100 / beta)).toBeGreaterThanOrEqual(0);
        if (vanishing) expect(value(1e4 / beta)).toBe(0);
      }),
    );
  });

  it('is a square where it says so', () => {
    fc.assert(
      fc.property(everyLoss, margin, (settings, h) => {
        const { name, value, target } = marginLoss(settings);
        expect(target !== undefined).toBe(name === 'ipo');
        if (target !== undefined) expect(value(h)).toBeCloseTo((h - target) ** 2, 9);
      }),
    );
  });

  it('is refused by name, with losses that will do, where it lacks what an analysis needs', () => {
    const hinge = marginLoss({ loss: 'hinge', beta: 1 });
    expect(lossWith(['convexity'], hinge, 'the bound')).toBe(hinge);
    expect(() => lossWith(['convexity', 'curvature'], hinge, 'the minimum')).toThrow(
      /"loss": the minimum needs a twice differentiable loss, which hinge is not[\s\S]*use dpo or ipo/,
    );
    const smoothed = marginLoss({ loss: 'dpo', beta: 1, labelSmoothing: 0.1 });
    expect(() => lossWith(['target'], smoothed, 'the regression')).toThrow(
      /a square, which dpo with labelSmoothing 0\.1 is not[\s\S]*use ipo/,
    );
    expect(() => lossWith(['convexity'], { ...hinge, convexity: undefined }, 'the bound')).toThrow(/a convex loss/);
  });
});
