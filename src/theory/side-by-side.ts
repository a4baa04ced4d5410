import { loadSimulator, type NativeSimulator } from '../native/simulator.js';
import type { Random } from '../numbers/random.js';
import { marginLoss } from '../objective/losses.js';
import type { LogLinearProblem } from '../policy/log-linear-problem.js';
import { checkSteps, flatten, groupFactors, runSaddle, type SaddleRun, type SaddleSettings } from './algorithm.js';

/** One of the runs that are done side by side: all else but loss and algorithm may differ. */
export interface SaddleStart {
  settings: SaddleSettings;
  random: Random;
}

/** Steps of one call: some 10 ms, so that progress is told often. */
const stepsAtOnce = 2 ** 16;

/**
 * {@link runSaddle} of each of `starts`, all with one loss and algorithm. Where the simulator's addon is built, sixteen at a time take
 * little longer than one: a step waits for the one before, but not for other runs. Which runs are done together does not change their
 * numbers; they differ from `runSaddle`'s by rounding.
 */
export function runSideBySide(
  problem: LogLinearProblem,
  starts: readonly SaddleStart[],
  count: number,
  onSteps: (steps: number) => void = () => {},
  simulator: NativeSimulator | null = loadSimulator(),
  width = simulator?.widths[0],
): SaddleRun[] {
  checkSteps(count);
  const kernel = marginLoss(starts[0].settings.loss).kernel;
  if (!simulator || width === undefined || !kernel)
    return starts.map(({ settings, random }) => runSaddle(problem, settings, count, random, onSteps));

  const { runs: R } = simulator;
  const d = problem.dimension;
  const K = problem.groups.length;
  const { width: columns, differences, offsets, starts: begins } = flatten(problem);
  const pairs = {
    count: begins[K],
    columns,
    groups: K,
    rows: differences,
    offsets: offsets.some((offset) => offset !== 0) ? offsets : undefined,
    starts: Float64Array.from(begins),
  };
  const { algorithm } = starts[0].settings;

  return starts.flatMap((_, first) => {
    if (first % R !== 0) return [];
    const here = starts.slice(first, first + R);
    const random = new BigUint64Array(2 * R);
    const state = new Float64Array((2 * columns + 5 * K + 2) * R);
    let used = 0;
    const next = (variables: number) => {
      used += variables;
      return state.subarray((used - variables) * R, used * R);
    };
    const [theta, thetaSum] = [next(columns), next(columns)];
    const [, alpha, alphaSum, thetaFactor, alphaFactor] = [next(K), next(K), next(K), next(K), next(K)];
    const [limit, simultaneous] = [next(1), next(1)];
    alpha.fill(1 / K);
    for (const [r, { settings, random: stream }] of here.entries()) {
      const { steps, radius = Number.POSITIVE_INFINITY, order } = settings;
      for (const [g, factor] of groupFactors(problem, settings).entries()) {
        thetaFactor[g * R + r] = steps.theta * factor;
        alphaFactor[g * R + r] = steps.alpha * factor;
      }
      limit[r] = radius * radius;
      simultaneous[r] = order === 'simultaneous' ? 1 : 0;
      [random[r], random[R + r]] = stream.words();
    }
    for (let done = 0; done < count; ) {
      const steps = Math.min(stepsAtOnce, count - done);
      simulator.stepRuns(width, kernel, pairs, algorithm === 3, random, state, steps);
      done += steps;
      onSteps(steps * here.length);
    }
    return here.map((_, r): SaddleRun => {
      const column = (variables: Float64Array, length: number) =>
        Float64Array.from({ length }, (_, n) => variables[n * R + r]);
      const [lastTheta, lastAlpha] = [column(theta, d), column(alpha, K)];
      return {
        // The steps summed θ_0 = 0 to θ_{T−1}.
        averageTheta: column(thetaSum, d).map((sum, j) => (sum + lastTheta[j]) / count),
        averageAlpha: column(alphaSum, K).map((sum) => sum / count),
        lastTheta,
        lastAlpha,
      };
    });
  });
}
