import type { LogLinearProblem } from '../policy/log-linear-problem.js';
import { Random } from '../random.js';
import { dimension, drawState, reward, trueThetas } from './environment.js';
import { actionCount, type FeatureMapName, features } from './features.js';

/** How the two responses of a pair are drawn, see {@link drawActions}. */
export const responseRules = ['even', 'uneven'] as const;
export type ResponseRule = (typeof responseRules)[number];

/** Training sizes of the two groups: balanced 150/150, imbalanced 60/240. */
export const dataBalances = ['balanced', 'imbalanced'] as const;
export type DataBalance = (typeof dataBalances)[number];

/** One cell of the paper's synthetic experiments (§5.1, Appendix D). */
export interface BanditSetting {
  features: FeatureMapName;
  responses: ResponseRule;
  data: DataBalance;
}

/** One preference of one group: `chosen` has the higher true reward in `state`. */
export interface PreferencePair {
  state: Float64Array;
  chosen: number;
  rejected: number;
}

const sizesOf: Record<DataBalance, readonly number[]> = { balanced: [150, 150], imbalanced: [60, 240] };
const validationSizes: readonly number[] = [500, 500];
const testStateCount = 1000;

/**
 * The two actions of a pair, before labelling. Even: two different ones, uniform. Uneven: an even group compares
 * neighbours (y_2 = y_1 ± 1, reflected at the ends), an odd group the actions half the range apart, so that the margins
 * of the even group are small and it is the hard one.
 */
export function drawActions(rule: ResponseRule, group: number, random: Random): [number, number] {
  const first = random.integer(actionCount);
  if (rule === 'even') return [first, (first + 1 + random.integer(actionCount - 1)) % actionCount];
  if (group % 2 === 1) return [first, (first + actionCount / 2) % actionCount];
  const step = random.integer(2) === 0 ? -1 : 1;
  const inside = first + step >= 0 && first + step < actionCount;
  return [first, inside ? first + step : first - step];
}

/** `count` pairs of one group, labelled by the true reward; the second action wins a tie. */
export function drawPairs(setting: BanditSetting, group: number, count: number, random: Random): PreferencePair[] {
  return Array.from({ length: count }, () => {
    const state = drawState(random);
    const [first, second] = drawActions(setting.responses, group, random);
    const rewardOf = (action: number) => reward(setting.features, state, action, group);
    const [chosen, rejected] = rewardOf(first) > rewardOf(second) ? [first, second] : [second, first];
    return { state, chosen, rejected };
  });
}

/** The training pairs of one seed as feature differences: N = 300 in two groups; the reference policy is uniform. */
export function trainingProblem(setting: BanditSetting, seed: number): LogLinearProblem {
  return drawProblem(setting, seed, 'train', sizesOf[setting.data]);
}

/** The validation pairs of one seed: 500 a group whatever `setting.data`, by the same response rule as in training. */
export function validationProblem(setting: BanditSetting, seed: number): LogLinearProblem {
  return drawProblem(setting, seed, 'validation', validationSizes);
}

/** The 1000 states of one seed on which rewards are measured, for every group alike. */
export function testStates(seed: number): Float64Array[] {
  const random = Random.stream(seed, 'bandit', 'test');
  return Array.from({ length: testStateCount }, () => drawState(random));
}

/** θ⁰ ~ Uniform[0, 5]^d, the same for every method. */
export function initialTheta(seed: number): Float64Array {
  const random = Random.stream(seed, 'bandit', 'theta');
  return Float64Array.from({ length: dimension }, () => 5 * random.uniform());
}

function drawProblem(
  setting: BanditSetting,
  seed: number,
  purpose: string,
  sizes: readonly number[],
): LogLinearProblem {
  const groups = trueThetas.map((_, group) => {
    // One stream per group: the size of one group does not shift the pairs of another.
    const pairs = drawPairs(setting, group, sizes[group], Random.stream(seed, 'bandit', purpose, group));
    const differences = new Float64Array(pairs.length * dimension);
    pairs.forEach(({ state, chosen, rejected }, i) => {
      const winner = features(setting.features, state, chosen, group);
      const loser = features(setting.features, state, rejected, group);
      differences.set(
        winner.map((value, j) => value - loser[j]),
        i * dimension,
      );
    });
    return { count: pairs.length, differences };
  });
  return { dimension, groups };
}
