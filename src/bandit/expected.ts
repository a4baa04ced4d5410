import type { MethodName } from './methods.js';
import type { Quantity } from './run.js';

/**
 * Reference values of the paper's synthetic experiments: re-measured over 20 seeds with the authors' own data generators
 * and a correct optimiser, each as [mean, standard error]. They agree with the axes of the paper's figures, which print no
 * numbers. Another random number generator should land within 3·√2 standard errors of each mean.
 */
export type ExpectedValue = readonly [mean: number, standardError?: number];

/** What is on record of one method in one experiment. */
export type Expected = Partial<Record<Quantity, ExpectedValue>>;

/** Seeds behind every reference value. */
export const expectedSeedCount = 20;

/** The seeds of the paper's experiments, 2021 to 2040. */
export const paperSeeds: readonly number[] = Array.from({ length: 20 }, (_, i) => 2021 + i);

/** By figure of the paper: the main result, swapped features. With balanced data (Figure 5) IS is the plain method. */
export const expectedMethods: Readonly<Record<number, Record<MethodName, Expected>>> = {
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

/** @param alpha0 the standard error of α is not on record */
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
