import type { MethodName } from './methods.js';
import type { BanditSetting } from './preferences.js';

/**
 * Reference values of the paper's synthetic experiments: re-measured over 20 seeds with the authors' own data generators
 * and a correct optimiser, each as [mean, standard error]. They agree with the axes of the paper's figures, which print no
 * numbers. Another random number generator should land within 3·√2 standard errors of each mean.
 */
export type ExpectedValue = readonly [mean: number, standardError: number];

/** Seeds behind every reference value. */
export const expectedSeedCount = 20;

/** The seeds of the paper's experiments, 2021 to 2040. */
export const paperSeeds: readonly number[] = Array.from({ length: 20 }, (_, i) => 2021 + i);

export interface ExpectedMethod {
  maxValidationLoss: ExpectedValue;
  maxRelativeRewardError: ExpectedValue;
  /** Weight of group 0 at the end; its standard error is not on record. */
  alpha0?: number;
}

export interface ExpectedScenario {
  name: string;
  setting: BanditSetting;
  methods: Record<MethodName, ExpectedMethod>;
}

/** The main result: swapped features (paper Figures 4, 5 and 2). With balanced data IS is the plain method. */
export const swappedScenarios: readonly ExpectedScenario[] = [
  {
    name: '(i) even, imbalanced',
    setting: { features: 'swapped', responses: 'even', data: 'imbalanced' },
    methods: {
      dpo: { maxValidationLoss: [0.912, 0.043], maxRelativeRewardError: [0.0856, 0.002] },
      'is-dpo': { maxValidationLoss: [0.52, 0.017], maxRelativeRewardError: [0.0514, 0.002] },
      'gr-dpo': { maxValidationLoss: [0.477, 0.01], maxRelativeRewardError: [0.0449, 0.002], alpha0: 0.491 },
      ipo: { maxValidationLoss: [25.45, 0.49], maxRelativeRewardError: [0.0956, 0.0023] },
      'is-ipo': { maxValidationLoss: [17.37, 0.25], maxRelativeRewardError: [0.052, 0.0024] },
      'gr-ipo': { maxValidationLoss: [16.96, 0.19], maxRelativeRewardError: [0.0482, 0.0019], alpha0: 0.4847 },
    },
  },
  {
    name: '(ii) uneven, balanced',
    setting: { features: 'swapped', responses: 'uneven', data: 'balanced' },
    methods: {
      dpo: { maxValidationLoss: [0.548, 0.008], maxRelativeRewardError: [0.0873, 0.0015] },
      'is-dpo': { maxValidationLoss: [0.548, 0.008], maxRelativeRewardError: [0.0873, 0.0015] },
      'gr-dpo': { maxValidationLoss: [0.467, 0.012], maxRelativeRewardError: [0.0461, 0.0015], alpha0: 0.786 },
      ipo: { maxValidationLoss: [20.19, 0.16], maxRelativeRewardError: [0.1031, 0.002] },
      'is-ipo': { maxValidationLoss: [20.19, 0.16], maxRelativeRewardError: [0.1031, 0.002] },
      'gr-ipo': { maxValidationLoss: [17.52, 0.16], maxRelativeRewardError: [0.0557, 0.0017], alpha0: 0.8452 },
    },
  },
  {
    name: '(iii) uneven, imbalanced',
    setting: { features: 'swapped', responses: 'uneven', data: 'imbalanced' },
    methods: {
      dpo: { maxValidationLoss: [0.64, 0.01], maxRelativeRewardError: [0.101, 0.0035] },
      'is-dpo': { maxValidationLoss: [0.56, 0.01], maxRelativeRewardError: [0.0895, 0.0035] },
      'gr-dpo': { maxValidationLoss: [0.46, 0.012], maxRelativeRewardError: [0.0511, 0.0035], alpha0: 0.786 },
      ipo: { maxValidationLoss: [21.13, 0.13], maxRelativeRewardError: [0.1168, 0.0018] },
      'is-ipo': { maxValidationLoss: [20.44, 0.15], maxRelativeRewardError: [0.1089, 0.0029] },
      'gr-ipo': { maxValidationLoss: [17.93, 0.27], maxRelativeRewardError: [0.0672, 0.0055], alpha0: 0.8422 },
    },
  },
];

export interface ExpectedChi {
  chi: number;
  maxValidationLoss: ExpectedValue;
  /** Mean over groups instead of the maximum. */
  meanValidationLoss: ExpectedValue;
  alpha0: number;
}

/** The trade-off between the worst group and the average: GR-IPO in scenario (iii) (paper Figure 6). */
export const chiAblation: readonly ExpectedChi[] = [
  { chi: 0, maxValidationLoss: [20.44, 0.15], meanValidationLoss: [13.2, 0.09], alpha0: 0.5 },
  { chi: 0.2, maxValidationLoss: [20.08, 0.16], meanValidationLoss: [13.29, 0.1], alpha0: 0.9326 },
  { chi: 0.4, maxValidationLoss: [19.36, 0.18], meanValidationLoss: [13.72, 0.11], alpha0: 0.9883 },
  { chi: 0.6, maxValidationLoss: [18.18, 0.22], meanValidationLoss: [15.12, 0.17], alpha0: 0.9906 },
  { chi: 0.8, maxValidationLoss: [17.93, 0.27], meanValidationLoss: [16.93, 0.19], alpha0: 0.9272 },
  { chi: 1, maxValidationLoss: [17.93, 0.27], meanValidationLoss: [16.94, 0.19], alpha0: 0.8422 },
];
