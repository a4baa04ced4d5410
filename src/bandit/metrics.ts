import { logSoftmax, margins } from '../policy/log-linear.js';
import type { DifferenceGroup } from '../policy/log-linear-problem.js';
import { paperGroupCount, trueTheta } from './environment.js';
import { actionCount, type FeatureMapName, features } from './features.js';

/** How well θ serves one group, over the test states (paper-spec: greedy actions). */
export interface RewardMetrics {
  /** Mean over states of max_y r(x,y,g) − r(x,ŷ,g), with ŷ = argmax_y ⟨φ(x,y,g), θ⟩; in units of reward. */
  absoluteError: number;
  /** That error divided by the mean of max_y r: what the paper's figures show as "reward error". */
  relativeError: number;
  /** Mean of KL(softmax r_g(x,·) ‖ π_θ(·|x,g)) at temperature 1, in nats. */
  divergence: number;
}

/** The test states with features, true rewards and the softmax of those worked out once. */
export class TestSet {
  private readonly groups: GroupTestSet[];

  constructor(map: FeatureMapName, states: readonly ArrayLike<number>[], groupCount = paperGroupCount) {
    this.groups = Array.from({ length: groupCount }, (_, group) => groupTestSet(map, states, group));
  }

  /** One entry per group, each over all states. */
  evaluate(theta: Float64Array): RewardMetrics[] {
    return this.groups.map((group) => rewardMetrics(group, theta));
  }
}

function rewardMetrics(group: GroupTestSet, theta: Float64Array): RewardMetrics {
  const { rewards, trueLogps, trueProbabilities, bestReward } = group;
  const logits = margins(group.features, theta, group.logits);
  let got = 0;
  let divergence = 0;
  for (let at = 0; at < logits.length; at += actionCount) {
    const end = at + actionCount;
    let greedy = at;
    for (let i = at + 1; i < end; i++) if (logits[i] > logits[greedy]) greedy = i;
    const largest = logits[greedy];
    let sum = 0;
    for (let i = at; i < end; i++) sum += Math.exp(logits[i] - largest);
    const normaliser = largest + Math.log(sum);
    for (let i = at; i < end; i++) divergence += trueProbabilities[i] * (trueLogps[i] - (logits[i] - normaliser));
    got += rewards[greedy];
  }
  const n = logits.length / actionCount;
  const lost = bestReward - got;
  return { absoluteError: lost / n, relativeError: lost / bestReward, divergence: divergence / n };
}

/** Everything by state and action, [states × actions]; action y of state i is at 8i + y. */
interface GroupTestSet {
  /** φ, in the place of differences of two, so that {@link margins} gives ⟨φ, θ⟩. */
  features: DifferenceGroup;
  rewards: Float64Array;
  trueLogps: Float64Array;
  trueProbabilities: Float64Array;
  /** Σ over states of max_y r. */
  bestReward: number;
  /** Overwritten by every evaluation. */
  logits: Float64Array;
}

function groupTestSet(map: FeatureMapName, states: readonly ArrayLike<number>[], group: number): GroupTestSet {
  const d = 2 * states[0].length;
  const count = states.length * actionCount;
  const rows = new Float64Array(count * d);
  const rewards = new Float64Array(count);
  const trueLogps = new Float64Array(count);
  let bestReward = 0;
  states.forEach((state, i) => {
    const at = i * actionCount;
    for (let y = 0; y < actionCount; y++) rows.set(features(map, state, y, group), (at + y) * d);
    const theta = trueTheta(group, d);
    trueLogps.set(logSoftmax(rows.subarray(at * d, (at + actionCount) * d), theta), at);
    const own = margins(
      { count: actionCount, differences: rows.subarray(at * d, (at + actionCount) * d) },
      theta,
      rewards.subarray(at, at + actionCount),
    );
    bestReward += Math.max(...own);
  });
  return {
    features: { count, differences: rows },
    rewards,
    trueLogps,
    trueProbabilities: trueLogps.map(Math.exp),
    bestReward,
    logits: new Float64Array(count),
  };
}
