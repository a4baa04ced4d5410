import type { Random } from '../numbers/random.js';
import { emptyStep, GroupTotals, robustStep } from '../objective/aggregate.js';
import { marginLoss } from '../objective/losses.js';
import { Exp3, MirrorAscent, OptimisticAscent } from '../objective/moving-weights.js';
import { margins, projectOnBall } from '../policy/log-linear.js';
import type { DifferenceGroup, LogLinearProblem } from '../policy/log-linear-problem.js';
import { checkSteps, type SaddleRun, type SaddleSettings } from './algorithm.js';
import { type Algorithm, groupProbabilities } from './constants.js';

/** The paper's Algorithms 1 and 3, and what they are compared with: {@link runByObjective} defines each. */
export type PerSampleAlgorithm = Algorithm | 'every-group' | 'optimistic' | 'exp3';

export interface PerSampleSettings extends Omit<SaddleSettings, 'algorithm' | 'factors'> {
  algorithm: PerSampleAlgorithm;
  /** `exp3` only: γ in [0, 1], the share of draws that are uniform over the groups. Default 0. */
  exploration?: number;
}

/** One pair as a group of its own, so that the policy's functions take it. */
interface Pair extends DifferenceGroup {
  group: number;
}

/**
 * `count` steps of a per-sample algorithm, pair by pair through the objective that trains language models and the projection of its
 * log-linear policy. `runSaddle` and `runSideBySide` are faster and run Algorithms 1 and 3 only, to the same numbers up to rounding.
 *
 * From θ = 0 and uniform α, with l_i and ∇l_i of a drawn pair i at the θ of before the step, P the projection on the ball, and α the old
 * weights (`simultaneous`) or the new ones (`alternating`):
 *
 * | algorithm   | draws in a step                                        | step                                                          |
 * |-------------|--------------------------------------------------------|---------------------------------------------------------------|
 * | 1           | i uniform over all N pairs, so group g with p_g = N_g/N | log α_g += η_α l_i/p_g;  θ ← P(θ − η_θ α_g ∇l_i/p_g)           |
 * | 3           | g uniform, p_g = 1/K, then i uniform in g              | as 1                                                          |
 * | every-group | i_g uniform in g, for every g: K samples               | log α_g += η_α l_{i_g} for all g;  θ ← P(θ − η_θ Σ_g α_g ∇l_{i_g}) |
 * | optimistic  | as 1                                                   | base points A, Θ: log A_g += η_α l_i/p_g;  log α = log A, once more += η_α l_i/p_g at g;  Θ ← P(Θ − η_θ α_g ∇l_i/p_g);  θ = P(Θ − η_θ α_g ∇l_i/p_g) |
 * | exp3        | g by w = (1−γ) α + γ/K, then i uniform in g            | log α_g += η_α (1−γ) l_i/w_g;  θ ← P(θ − η_θ ∇l_i)             |
 *
 * α is normalised after each. So the hint of `optimistic`, what it expects of the next estimates, is the last ones (Rakhlin and Sridharan
 * 2013). EXP3 (Auer et al. 2002) is the player of α that sees only the group it has drawn; θ, which sees the same pair, takes no weight,
 * since the draw has it already: the mean of ∇l_i is Σ_g w_g ∇L_g. It has no alternating order, and its α here, averages included, is w.
 */
export function runByObjective(
  problem: LogLinearProblem,
  settings: PerSampleSettings,
  count: number,
  random: Random,
  onSteps: (steps: number) => void = () => {},
): SaddleRun {
  checkSteps(count);
  const { steps, algorithm, radius = Number.POSITIVE_INFINITY } = settings;
  const { dimension: d, groups } = problem;
  const K = groups.length;
  const loss = marginLoss(settings.loss);
  const { weighting, probabilities, draw } = methodOf(problem, settings, random);
  const drawn: Pair[] = [];
  const totals = new GroupTotals(K);
  const outcome = emptyStep(K);
  const margin = new Float64Array(1);
  const slopes = new Float64Array(K);
  const move = new Float64Array(d);
  const theta = new Float64Array(d);
  const base = algorithm === 'optimistic' ? new Float64Array(d) : theta;
  const thetaSum = new Float64Array(d);
  const alphaSum = new Float64Array(K);
  for (let step = 0; step < count; step++) {
    if (step % reportEvery === reportEvery - 1) onSteps(reportEvery);
    draw(drawn);
    totals.clear();
    for (let n = 0; n < drawn.length; n++) {
      margins(drawn[n], theta, margin);
      totals.add(drawn[n].group, loss.value(margin[0]));
      slopes[n] = loss.derivative(margin[0]);
    }
    const { coefficients } = robustStep(totals, weighting, probabilities, 'normalised', outcome);
    move.fill(0);
    for (let n = 0; n < drawn.length; n++) {
      const { group, differences } = drawn[n];
      const pull = steps.theta * coefficients[group] * slopes[n];
      for (let j = 0; j < d; j++) move[j] += pull * differences[j];
    }
    for (let j = 0; j < d; j++) base[j] -= move[j];
    projectOnBall(base, radius);
    if (base !== theta) {
      for (let j = 0; j < d; j++) theta[j] = base[j] - move[j];
      projectOnBall(theta, radius);
    }
    for (let j = 0; j < d; j++) thetaSum[j] += theta[j];
    for (let k = 0; k < K; k++) alphaSum[k] += weighting.weights[k];
  }
  onSteps(count % reportEvery);
  return {
    averageTheta: thetaSum.map((sum) => sum / count),
    averageAlpha: alphaSum.map((sum) => sum / count),
    lastTheta: theta,
    lastAlpha: weighting.weights.slice(),
  };
}

/** Steps between two reports of progress. */
const reportEvery = 2 ** 16;

interface Method {
  weighting: MirrorAscent | OptimisticAscent | Exp3;
  /** p_g, by which the objective makes the estimates unbiased: ℓ_g = Σ l / (p_g · number of pairs drawn). */
  probabilities: Float64Array;
  /** Puts the pairs of a step into `drawn`, which it fills from the start, always as many. */
  draw: (drawn: Pair[]) => void;
}

function methodOf(problem: LogLinearProblem, settings: PerSampleSettings, random: Random): Method {
  const { algorithm, steps, order, exploration = 0 } = settings;
  const { dimension: d, groups } = problem;
  const K = groups.length;
  const sizes = groups.map((group) => group.count);
  const byGroup = groups.map(({ count, differences, offsets }, group) =>
    Array.from(
      { length: count },
      (_, i): Pair => ({
        group,
        count: 1,
        differences: differences.subarray(i * d, (i + 1) * d),
        offsets: offsets?.subarray(i, i + 1),
      }),
    ),
  );
  const ofGroup = (g: number) => byGroup[g][random.integer(sizes[g])];
  const entropic = { step: steps.alpha, order };
  const uniform = groupProbabilities(problem, 3);

  switch (algorithm) {
    case 1:
    case 'optimistic': {
      const all = byGroup.flat();
      return {
        weighting: algorithm === 1 ? new MirrorAscent(entropic, sizes) : new OptimisticAscent(entropic, sizes),
        probabilities: groupProbabilities(problem, 1),
        draw: (drawn) => {
          drawn[0] = all[random.integer(all.length)];
        },
      };
    }
    case 3:
      return {
        weighting: new MirrorAscent(entropic, sizes),
        probabilities: uniform,
        draw: (drawn) => {
          drawn[0] = ofGroup(random.integer(K));
        },
      };
    case 'every-group':
      return {
        weighting: new MirrorAscent(entropic, sizes),
        probabilities: uniform,
        draw: (drawn) => {
          for (let g = 0; g < K; g++) drawn[g] = ofGroup(g);
        },
      };
    case 'exp3': {
      const weighting = new Exp3({ step: steps.alpha, chi: 1 - exploration }, sizes, random);
      return {
        weighting,
        // Exp3 divides by the chance of the draw itself.
        probabilities: new Float64Array(K).fill(1),
        draw: (drawn) => {
          drawn[0] = ofGroup(weighting.draw());
        },
      };
    }
  }
}
