import type { LossSettings } from '../objective/losses.js';
import { marginLoss } from '../objective/losses.js';
import { logSoftmax, margins } from '../policy/log-linear.js';
import type { LogLinearProblem } from '../policy/log-linear-problem.js';
import { paperGroupCount, trueTheta } from './environment.js';
import { actionCount, dot, type FeatureMapName, features } from './features.js';

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
  private readonly groups: TestPoint[][];

  constructor(map: FeatureMapName, states: readonly ArrayLike<number>[], groupCount = paperGroupCount) {
    this.groups = Array.from({ length: groupCount }, (_, group) => states.map((state) => testPoint(map, state, group)));
  }

  /** One entry per group, each over all states. */
  evaluate(theta: Float64Array): RewardMetrics[] {
    return this.groups.map((points) => {
      let best = 0;
      let got = 0;
      let divergence = 0;
      for (const { features, rewards, bestReward, trueLogps, trueProbabilities } of points) {
        const logps = logSoftmax(features, theta);
        best += bestReward;
        got += rewards[indexOfMax(logps)];
        for (let y = 0; y < actionCount; y++) divergence += trueProbabilities[y] * (trueLogps[y] - logps[y]);
      }
      const n = points.length;
      return { absoluteError: (best - got) / n, relativeError: (best - got) / best, divergence: divergence / n };
    });
  }
}

/** Mean loss L_g(θ) of every group of the problem. */
export function groupLosses(problem: LogLinearProblem, settings: LossSettings, theta: Float64Array): number[] {
  const loss = marginLoss(settings);
  return problem.groups.map((group) => {
    const h = margins(group, theta, new Float64Array(group.count));
    return h.reduce((sum, margin) => sum + loss.value(margin), 0) / group.count;
  });
}

interface TestPoint {
  /** [actions × d]. */
  features: Float64Array;
  rewards: Float64Array;
  bestReward: number;
  trueLogps: Float64Array;
  trueProbabilities: Float64Array;
}

function testPoint(map: FeatureMapName, state: ArrayLike<number>, group: number): TestPoint {
  const theta = trueTheta(group, 2 * state.length);
  const rows = new Float64Array(actionCount * theta.length);
  const rewards = new Float64Array(actionCount);
  for (let y = 0; y < actionCount; y++) {
    const phi = features(map, state, y, group);
    rows.set(phi, y * theta.length);
    rewards[y] = dot(phi, theta);
  }
  const trueLogps = logSoftmax(rows, theta);
  const trueProbabilities = trueLogps.map(Math.exp);
  return { features: rows, rewards, bestReward: Math.max(...rewards), trueLogps, trueProbabilities };
}

/** The first index of the largest value. */
function indexOfMax(values: Float64Array): number {
  let index = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[index]) index = i;
  return index;
}
