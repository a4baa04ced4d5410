import { Random } from '../numbers/random.js';
import { norm } from '../policy/group-losses.js';
import type { LogLinearProblem } from '../policy/log-linear-problem.js';
import { runSaddle, type SaddleSettings } from './algorithm.js';
import { runByObjective } from './objective-run.js';
import { slope } from './rate-fit.js';
import { runSideBySide } from './side-by-side.js';

/** What is known of the measured loop apart from its errors. */
export interface Premises {
  /** Rates at which the steps of the loop were seen to shrink with T; Proposition 4.1 is about −½. Null: too few horizons. */
  step_rates: { theta: number; alpha: number } | null;
  /**
   * Largest distance between the loop and its replay by the objective code, relative to the size of the numbers. Infinite where
   * a step is negative, which that code refuses.
   */
  replay_distance: number;
}

/**
 * Errors alone cannot tell whether the algorithm of Proposition 4.1 was run: with a step that does not shrink with T the
 * averages go on improving for a long time, faster than 1/√T, before they stop. So two premises are checked directly, on the loop itself
 * and not on its settings: that its steps shrink as 1/√T, and that it is Algorithm 1 (or 3).
 *
 * @param measured the settings of the runs that are measured, by their horizon T; at least one
 * @returns what was found, and one sentence for each premise that fails
 */
export function checkPremises(
  problem: LogLinearProblem,
  measured: ReadonlyMap<number, SaddleSettings>,
  seed: number,
): { premises: Premises; reasons: string[] } {
  const reasons: string[] = [];
  const backward = (['theta', 'alpha'] as const).filter((name) =>
    [...measured.values()].some(({ steps }) => !(steps[name] >= 0)),
  );
  for (const name of backward) reasons.push(`the ${name} step is negative: in Algorithm 1 θ descends and α ascends`);
  const step_rates = measured.size < 2 ? null : stepRates(problem, measured, seed);
  for (const [name, rate] of Object.entries(step_rates ?? {}))
    if (!(Math.abs(rate + 0.5) <= 0.1))
      reasons.push(
        `the ${name} step falls as T^${rate.toPrecision(3)}, and not as T^-0.5: this is not the run of the proposition`,
      );
  // The objective code refuses a negative step.
  const replay_distance = backward.length > 0 ? Number.POSITIVE_INFINITY : replayDistance(problem, measured, seed);
  if (!(replay_distance <= 1e-6))
    reasons.push(
      `the loop differs by ${replay_distance.toPrecision(3)} from Algorithm 1 (or 3) as the objective code runs it, pair by pair`,
    );
  return { premises: { step_rates, replay_distance }, reasons };
}

const probes = 20;

/**
 * Slopes of log(first step) on log T. The first step from θ = 0 and uniform α is proportional to the step size, and equal
 * streams draw equal pairs at every T.
 */
function stepRates(
  problem: LogLinearProblem,
  measured: ReadonlyMap<number, SaddleSettings>,
  seed: number,
): { theta: number; alpha: number } {
  const x = [...measured.keys()].map(Math.log);
  const moves = [...measured.values()].map((given) => {
    // The ball could cut a long first step short.
    const settings = { ...given, radius: undefined };
    const sum = { theta: 0, alpha: 0 };
    for (let probe = 0; probe < probes; probe++) {
      const { lastTheta, lastAlpha } = runSaddle(problem, settings, 1, Random.stream(seed, 'theory', 'step', probe));
      sum.theta += norm(lastTheta);
      sum.alpha += Math.log(Math.max(...lastAlpha) / Math.min(...lastAlpha));
    }
    return sum;
  });
  const rate = (values: number[]) => (values.every((value) => value === 0) ? -0.5 : slope(x, values.map(Math.log)));
  return { theta: rate(moves.map(({ theta }) => theta)), alpha: rate(moves.map(({ alpha }) => alpha)) };
}

/**
 * Streams that are replayed, and steps of each: enough for θ to move far, too few for rounding to grow, which steps in a large ball, or with a
 * large β, soon make chaos of.
 */
const replays = { streams: 10, steps: 200 };

/**
 * Compares runs with their replays, with the settings of the least horizon, whose steps are the longest: in the ball of the
 * settings and in one so small that it is left all the time.
 */
function replayDistance(
  problem: LogLinearProblem,
  measured: ReadonlyMap<number, SaddleSettings>,
  seed: number,
): number {
  const settings = measured.get(Math.min(...measured.keys())) as SaddleSettings;
  const { radius = 1 } = settings;
  let largest = 0;
  for (const ball of [radius, radius / 1000]) {
    const within = { ...settings, radius: ball };
    const streams = () => Array.from({ length: replays.streams }, (_, n) => Random.stream(seed, 'theory', 'replay', n));
    const runs = runSideBySide(
      problem,
      streams().map((random) => ({ settings: within, random })),
      replays.steps,
    );
    for (const [n, random] of streams().entries()) {
      const run = runs[n];
      const again = runByObjective(problem, within, replays.steps, random);
      for (const key of ['averageTheta', 'averageAlpha', 'lastTheta', 'lastAlpha'] as const) {
        const difference = norm(run[key].map((value, j) => value - again[key][j]));
        if (difference > 0) largest = Math.max(largest, difference / norm(again[key]));
      }
    }
  }
  return largest;
}
