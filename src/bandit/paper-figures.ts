import type { Expected } from './expected.js';
import { expectedChi, expectedMethods } from './expected.js';
import type { FeatureMapName } from './features.js';
import { type MethodName, type MethodSettings, methodNames, methodSettings } from './methods.js';
import type { BanditSetting, DataBalance, ResponseRule } from './preferences.js';
import type { Quantity } from './run.js';

/** The paper's synthetic experiments: what is run for each figure, what should come out, and what the paper says of it. */

/** One curve of a figure: a method, or GR-IPO at one χ. */
export interface Arm {
  /** Unique in its figure: `gr-ipo`, `χ = 0.2`. */
  label: string;
  method: MethodName;
  settings: MethodSettings;
  expected: Expected;
}

/** A statement of the paper's on one figure, as comparisons that measured values can be held against. */
export interface PaperClaim {
  /** A sentence without its full stop. */
  claim: string;
  quantity: Quantity;
  /** Labels of arms: in each pair the first has the smaller `quantity`. */
  below: readonly (readonly [lower: string, higher: string])[];
  /** That our numbers contradict it is a finding about the claim; absent from the main results, which this package must reproduce. */
  finding?: true;
}

/** One of the paper's synthetic experiments. */
export interface BanditFigure {
  /** Its number in the paper. */
  number: number;
  title: string;
  scenario: string;
  setting: BanditSetting;
  arms: readonly Arm[];
  /** What is drawn and compared. */
  quantities: readonly Quantity[];
  claims: readonly PaperClaim[];
}

const scenarios = [
  { name: '(i) even, imbalanced', responses: 'even', data: 'imbalanced' },
  { name: '(ii) uneven, balanced', responses: 'uneven', data: 'balanced' },
  { name: '(iii) uneven, imbalanced', responses: 'uneven', data: 'imbalanced' },
] as const;

type Scenario = (typeof scenarios)[number];

const loss = 'max validation loss';
const rewardError = 'relative max reward error';

type Pair = readonly [lower: MethodName, higher: MethodName];
const families = ['dpo', 'ipo'] as const;
const importanceBelowPlain = families.map((name): Pair => [`is-${name}`, name]);
const robustBelowPlain = families.map((name): Pair => [`gr-${name}`, name]);
const robustBelowImportance = families.map((name): Pair => [`gr-${name}`, `is-${name}`]);

/**
 * What the paper says of each feature map (§5.1, Appendix D). With balanced data importance sampling is the plain method, and left out.
 */
const claims: Record<FeatureMapName, (scenario: Scenario) => PaperClaim[]> = {
  swapped: ({ responses, data }) =>
    ([loss, rewardError] as const).flatMap((quantity) => mainClaims(responses, data, quantity)),
  same: ({ data }) => [
    {
      claim: 'GR-IPO over-fits: its reward error is above that of IPO',
      quantity: rewardError,
      below: [['ipo', 'gr-ipo']],
      finding: true,
    },
    lowestRewardError(data),
  ],
  flipped: ({ data }) => [
    {
      claim: 'The group robust methods have the lowest worst-group loss',
      quantity: loss,
      below: [...robustBelowPlain, ...(data === 'balanced' ? [] : robustBelowImportance)],
      finding: true,
    },
    lowestRewardError(data),
  ],
};

function mainClaims(responses: ResponseRule, data: DataBalance, quantity: Quantity): PaperClaim[] {
  if (data === 'balanced')
    return [
      {
        claim: 'The group robust methods serve the worse group better than the plain ones',
        quantity,
        below: robustBelowPlain,
      },
    ];
  if (responses === 'uneven')
    return [
      {
        claim: 'The group robust methods serve the worse group best, the plain ones worst',
        quantity,
        below: [...robustBelowImportance, ...importanceBelowPlain],
      },
    ];
  return [
    {
      claim: 'The plain methods serve the worse group worst',
      quantity,
      below: [...robustBelowPlain, ...importanceBelowPlain],
    },
    {
      claim: 'The group robust methods serve the worse group better than importance sampling, if not by much',
      quantity,
      below: robustBelowImportance,
      finding: true,
    },
  ];
}

function lowestRewardError(data: DataBalance): PaperClaim {
  const others = methodNames.filter((name) => name !== 'gr-dpo' && !(data === 'balanced' && name.startsWith('is-')));
  return {
    claim: 'GR-DPO has the lowest reward error of all methods',
    quantity: rewardError,
    below: others.map((other): Pair => ['gr-dpo', other]),
    finding: true,
  };
}

/** The six methods in one of the nine settings. */
function methodFigure(number: number, features: FeatureMapName, scenarioIndex: number): BanditFigure {
  const { name: scenario, responses, data } = scenarios[scenarioIndex];
  return {
    number,
    title: `${features} features, ${scenario}`,
    scenario,
    setting: { features, responses, data },
    arms: methodNames.map((method) => ({
      label: method,
      method,
      settings: methodSettings(method),
      expected: expectedMethods[number]?.[method] ?? {},
    })),
    quantities: ['max validation loss', 'relative max reward error', 'alpha of group 0'],
    claims: claims[features](scenarios[scenarioIndex]),
  };
}

/** GR-IPO at every χ, in the setting of the main result. */
function chiFigure(number: number): BanditFigure {
  const { name, responses, data } = scenarios[2];
  const scenario = `GR-IPO by χ, ${name}`;
  return {
    number,
    title: `swapped features, ${scenario}`,
    scenario,
    setting: { features: 'swapped', responses, data },
    arms: [...expectedChi].map(([chi, expected]) => ({
      label: `χ = ${chi}`,
      method: 'gr-ipo',
      settings: methodSettings('gr-ipo', { chi }),
      expected,
    })),
    quantities: ['max validation loss', 'mean validation loss', 'alpha of group 0'],
    claims: [
      {
        claim: 'As χ goes from 0 (IS-IPO) to 1 (GR-IPO), the worst group’s loss falls',
        quantity: 'max validation loss',
        below: [['χ = 1', 'χ = 0']],
      },
      {
        claim: 'As χ goes from 0 (IS-IPO) to 1 (GR-IPO), the mean of the groups’ losses rises',
        quantity: 'mean validation loss',
        below: [['χ = 0', 'χ = 1']],
      },
    ],
  };
}

/**
 * Every synthetic figure of the paper. Which of Figures 7 to 12 shows which setting is our reading: they are taken in the order of
 * the features and scenarios.
 */
export const banditFigures: readonly BanditFigure[] = [
  methodFigure(2, 'swapped', 2),
  methodFigure(4, 'swapped', 0),
  methodFigure(5, 'swapped', 1),
  chiFigure(6),
  ...scenarios.map((_, s) => methodFigure(7 + s, 'same', s)),
  ...scenarios.map((_, s) => methodFigure(10 + s, 'flipped', s)),
];

/** The figures of these numbers. @throws RangeError where the paper has no such synthetic figure. */
export function figuresNumbered(...numbers: readonly number[]): BanditFigure[] {
  return numbers.map((number) => {
    const figure = banditFigures.find((candidate) => candidate.number === number);
    if (!figure) throw new RangeError(`no synthetic figure ${number}`);
    return figure;
  });
}
