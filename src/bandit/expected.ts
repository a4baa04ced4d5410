import type { MethodName } from './methods.js';
import type { Quantity } from './run.js';

/** For whoever reads an expected value. */
export const expectedSource =
  'Expected values are an independent re-measurement over 20 seeds, with the authors’ data generators and another optimiser: the paper’s figures print no numbers.';

/**
 * Expected values of the paper's synthetic experiments, see {@link expectedSource}, each as [mean, standard error]. They agree with
 * the visible axes of the paper's figures. Another random number generator should land within 3·√2 standard errors of each mean.
 */
export type ExpectedValue = readonly [mean: number, standardError?: number];

/** What is known of one method in one experiment. */
export type Expected = Partial<Record<Quantity, ExpectedValue>>;

/** Seeds behind every expected value. */
export const expectedSeedCount = 20;

/** The seeds of the paper's experiments, 2021 to 2040. */
export const paperSeeds: readonly number[] = Array.from({ length: 20 }, (_, i) => 2021 + i);

/**
 * By figure of the paper. With balanced data (Figures 5, 8, 11) IS is the plain method. Of the DPO methods in Figures 7, 8, 10 and 11
 * nothing is known. α of GR-IPO is that of the exact minimax, which its 100 iterations reach.
 */
export const expectedMethods: Readonly<Record<number, Partial<Record<MethodName, Expected>>>> = {
  2: {
    dpo: values([0.64, 0.01], [0.101, 0.0035]),
    'is-dpo': values([0.56, 0.01], [0.0895, 0.0035]),
    'gr-dpo': values([0.46, 0.012], [0.0511, 0.0035], 0.786),
    ipo: values([21.13, 0.13], [0.1168, 0.0018]),
    'is-ipo': values([20.44, 0.15], [0.1089, 0.0029]),
    'gr-ipo': values([17.93, 0.27], [0.0672, 0.0055], 0.8422),
  },
  4: {
    dpo: values([0.912, 0.043], [0.0856, 0.002]),
    'is-dpo': values([0.52, 0.017], [0.0514, 0.002]),
    'gr-dpo': values([0.477, 0.01], [0.0449, 0.002], 0.491),
    ipo: values([25.45, 0.49], [0.0956, 0.0023]),
    'is-ipo': values([17.37, 0.25], [0.052, 0.0024]),
    'gr-ipo': values([16.96, 0.19], [0.0482, 0.0019], 0.4847),
  },
  5: {
    dpo: values([0.548, 0.008], [0.0873, 0.0015]),
    'is-dpo': values([0.548, 0.008], [0.0873, 0.0015]),
    'gr-dpo': values([0.467, 0.012], [0.0461, 0.0015], 0.786),
    ipo: values([20.19, 0.16], [0.1031, 0.002]),
    'is-ipo': values([20.19, 0.16], [0.1031, 0.002]),
    'gr-ipo': values([17.52, 0.16], [0.0557, 0.0017], 0.8452),
  },
  7: {
    ipo: values([18.9, 0.34], [0.0575, 0.0025]),
    'is-ipo': values([16.61, 0.23], [0.1075, 0.007]),
    'gr-ipo': values([16.06, 0.22], [0.0647, 0.0032], 0.367),
  },
  8: {
    ipo: values([18.99, 0.12], [0.0554, 0.0016]),
    'is-ipo': values([18.99, 0.12], [0.0554, 0.0016]),
    'gr-ipo': values([17.22, 0.27], [0.0856, 0.0045], 0.763),
  },
  9: {
    dpo: values([0.601, 0.01], [0.0878, 0.002]),
    'is-dpo': values([0.486, 0.008], [0.0634, 0.002]),
    'gr-dpo': values([0.406, 0.008], [0.0553, 0.002], 0.736),
    ipo: values([20.56, 0.09], [0.0834, 0.0023]),
    'is-ipo': values([19.16, 0.1], [0.0584, 0.0021]),
    'gr-ipo': values([17.02, 0.2], [0.0842, 0.0055], 0.761),
  },
  10: {
    ipo: values([19.61, 0.33], [0.0703, 0.003]),
    'is-ipo': values([13.85, 0.2], [0.0244, 0.0013]),
    'gr-ipo': values([13.64, 0.15], [0.0226, 0.0015], 0.521),
  },
  11: {
    ipo: values([19.48, 0.12], [0.0595, 0.0028]),
    'is-ipo': values([19.48, 0.12], [0.0595, 0.0028]),
    'gr-ipo': values([14.94, 0.15], [0.0274, 0.0013], 0.769),
  },
  12: {
    dpo: values([0.526, 0.01], [0.0792, 0.003]),
    'is-dpo': values([0.398, 0.01], [0.0446, 0.003]),
    'gr-dpo': values([0.325, 0.013], [0.0235, 0.003], 0.722),
    ipo: values([22.07, 0.09], [0.1115, 0.0023]),
    'is-ipo': values([19.48, 0.11], [0.0613, 0.004]),
    'gr-ipo': values([15.41, 0.24], [0.0337, 0.003], 0.766),
  },
};

/** The trade-off between the worst group and the average by χ: GR-IPO in the setting of Figure 2 (paper Figure 6). */
export const expectedChi: ReadonlyMap<number, Expected> = new Map([
  [0, chiValues([20.44, 0.15], [13.2, 0.09], 0.5)],
  [0.2, chiValues([20.08, 0.16], [13.29, 0.1], 0.9326)],
  [0.4, chiValues([19.36, 0.18], [13.72, 0.11], 0.9883)],
  [0.6, chiValues([18.18, 0.22], [15.12, 0.17], 0.9906)],
  [0.8, chiValues([17.93, 0.27], [16.93, 0.19], 0.9272)],
  [1, chiValues([17.93, 0.27], [16.94, 0.19], 0.8422)],
]);

/** @param alpha0 its standard error is not known */
function values(maxLoss: ExpectedValue, rewardError: ExpectedValue, alpha0?: number): Expected {
  return {
    'max validation loss': maxLoss,
    'relative max reward error': rewardError,
    ...(alpha0 !== undefined && { 'alpha of group 0': [alpha0] }),
  };
}

function chiValues(maxLoss: ExpectedValue, meanLoss: ExpectedValue, alpha0: number): Expected {
  return { 'max validation loss': maxLoss, 'mean validation loss': meanLoss, 'alpha of group 0': [alpha0] };
}
