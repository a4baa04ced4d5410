import { InputError } from '../errors.js';
import { Random } from '../numbers/random.js';
import { margins } from '../policy/log-linear.js';
import type { LogLinearProblem } from '../policy/log-linear-problem.js';
import { drawState, paperDimension, paperGroupCount, reward } from './environment.js';
import { actionCount, type FeatureMapName, features } from './features.js';

/** How the two responses of a pair are drawn, see {@link drawActions}. */
export const responseRules = ['even', 'uneven'] as const;
export type ResponseRule = (typeof responseRules)[number];

/** How the training pairs fall on the groups, see {@link trainingSizes}. */
export const dataBalances = ['balanced', 'imbalanced'] as const;
export type DataBalance = (typeof dataBalances)[number];

/** A synthetic experiment; the first three make the cells of the paper's (§5.1, Appendix D), the rest its code's options. */
export interface BanditSetting {
  features: FeatureMapName;
  responses: ResponseRule;
  data: DataBalance;
  /** K ≥ 1; default 2. The parity of g decides what the paper says of groups 0 and 1. */
  groups?: number;
  /** d, even; default 4. */
  dimension?: number;
  /**
   * q_g in [0, 1], one number or one per group: with probability q_g the higher reward wins, otherwise the second action
   * wins with probability s(r_2 − r_1). In training and validation alike. Default 1.
   */
  deterministicRatio?: number | readonly number[];
  /** θ_ref of the reference policy π_ref(y|x) ∝ exp⟨φ(x,y,g), θ_ref⟩, d numbers; default 0, the uniform policy. */
  referenceTheta?: readonly number[];
}

/** One preference of one group. */
export interface PreferencePair {
  state: Float64Array;
  /** The action with the higher true reward in `state`, unless its label is noise. */
  chosen: number;
  rejected: number;
}

const trainingCount = 300;
/** Share of an even and of an odd group, before they are made to sum to one. */
const shares: Record<DataBalance, readonly [number, number]> = { balanced: [1, 1], imbalanced: [1, 4] };
const validationCount = 500;
const testStateCount = 1000;

/** N_g = round(w_g N) of the training pairs: 150/150 or 60/240 in two groups. */
export function trainingSizes({ data, groups = paperGroupCount }: BanditSetting): number[] {
  const parts = Array.from({ length: groups }, (_, g) => shares[data][g % 2]);
  const total = parts.reduce((sum, part) => sum + part, 0);
  return parts.map((part) => Math.round((part / total) * trainingCount));
}

/** @throws InputError where an option is out of its range or does not fit the others. */
export function checkSetting(setting: BanditSetting): void {
  const { groups = paperGroupCount, dimension = paperDimension, deterministicRatio = 1, referenceTheta } = setting;
  const refuse = (field: string, says: string) => {
    throw new InputError(`${field} must be ${says}`, { at: { field } });
  };
  if (!Number.isInteger(groups) || groups < 1 || groups > trainingCount)
    refuse('groups', `a whole number in [1, ${trainingCount}], not ${groups}`);
  if (trainingSizes(setting).includes(0)) refuse('groups', `small enough for ${trainingCount} pairs, not ${groups}`);
  if (!Number.isInteger(dimension / 2) || dimension < 2) refuse('dimension', `2, 4, 6, …, not ${dimension}`);
  const ratios = [deterministicRatio].flat();
  if (ratios.some((q) => !(q >= 0 && q <= 1))) refuse('deterministicRatio', `in [0, 1], not ${ratios.join(', ')}`);
  if (typeof deterministicRatio !== 'number' && ratios.length !== groups)
    refuse('deterministicRatio', `one number, or one for each of the ${groups} groups, not ${ratios.length}`);
  if (referenceTheta && (referenceTheta.length !== dimension || !referenceTheta.every(Number.isFinite)))
    refuse('referenceTheta', `${dimension} numbers, not ${referenceTheta.join(', ')}`);
}

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

/**
 * `count` pairs of one group, labelled by the true reward; the second action wins a tie.
 * @param labels draws the noise of labels: from a stream of its own it leaves states and actions as they are without noise
 */
export function drawPairs(
  setting: BanditSetting,
  group: number,
  count: number,
  random: Random,
  labels: Random = random,
): PreferencePair[] {
  const { dimension, deterministicRatio = 1 } = setting;
  const ratio = typeof deterministicRatio === 'number' ? deterministicRatio : deterministicRatio[group];
  return Array.from({ length: count }, () => {
    const state = drawState(random, dimension);
    const [first, second] = drawActions(setting.responses, group, random);
    const gain = reward(setting.features, state, first, group) - reward(setting.features, state, second, group);
    const deterministic = ratio === 1 || labels.uniform() < ratio;
    const firstWins = deterministic ? gain > 0 : labels.uniform() * (1 + Math.exp(-gain)) < 1;
    const [chosen, rejected] = firstWins ? [first, second] : [second, first];
    return { state, chosen, rejected };
  });
}

/** The training pairs of one seed as feature differences: N = 300, in the paper in two groups. @throws InputError */
export function trainingProblem(setting: BanditSetting, seed: number): LogLinearProblem {
  return drawProblem(setting, seed, 'train', trainingSizes(setting));
}

/** The validation pairs of one seed: 500 a group whatever `setting.data`, by the same rules as in training. */
export function validationProblem(setting: BanditSetting, seed: number): LogLinearProblem {
  const sizes = trainingSizes(setting).map(() => validationCount);
  return drawProblem(setting, seed, 'validation', sizes);
}

/** The 1000 states of one seed on which rewards are measured, for every group alike. */
export function testStates(seed: number, dimension?: number): Float64Array[] {
  const random = Random.stream(seed, 'bandit', 'test');
  return Array.from({ length: testStateCount }, () => drawState(random, dimension));
}

/** θ⁰ ~ Uniform[0, 5]^d, the same for every method. */
export function initialTheta(seed: number, dimension = paperDimension): Float64Array {
  const random = Random.stream(seed, 'bandit', 'theta');
  return Float64Array.from({ length: dimension }, () => 5 * random.uniform());
}

function drawProblem(
  setting: BanditSetting,
  seed: number,
  purpose: string,
  sizes: readonly number[],
): LogLinearProblem {
  checkSetting(setting);
  const { dimension = paperDimension, referenceTheta } = setting;
  const groups = sizes.map((count, group) => {
    // One stream per group: the size of one group does not shift the pairs of another.
    const stream = (name: string) => Random.stream(seed, 'bandit', name, group);
    const pairs = drawPairs(setting, group, count, stream(purpose), stream(`${purpose} labels`));
    const differences = new Float64Array(count * dimension);
    pairs.forEach(({ state, chosen, rejected }, i) => {
      const winner = features(setting.features, state, chosen, group);
      const loser = features(setting.features, state, rejected, group);
      differences.set(
        winner.map((value, j) => value - loser[j]),
        i * dimension,
      );
    });
    if (!referenceTheta) return { count, differences };
    // The reference's normaliser cancels as the policy's does: o_i = log(π_ref(y_w)/π_ref(y_l)) = ⟨d_i, θ_ref⟩.
    const offsets = margins({ count, differences }, Float64Array.from(referenceTheta), new Float64Array(count));
    return { count, differences, offsets };
  });
  return { dimension, groups };
}
