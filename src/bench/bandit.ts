import { methodSettings } from '../bandit/methods.js';
import { initialTheta, trainingProblem } from '../bandit/preferences.js';
import { train } from '../bandit/training.js';
import { GroupRobustError } from '../errors.js';
import { Random } from '../numbers/random.js';
import { GroupTotals, robustStep } from '../objective/aggregate.js';
import { groupWeights, MirrorAscent } from '../objective/group-weights.js';
import { marginLoss } from '../objective/losses.js';
import type { LogLinearProblem } from '../policy/log-linear-problem.js';
import { runSaddle, runSaddles, type SaddleJob, type SaddleSettings } from '../theory/algorithm.js';
import { convergenceConstants, stepSizes } from '../theory/constants.js';
import { callsPerSecond, type MachineRecord, machineRecord, relativeDistance } from './measure.js';

export interface BanditBenchmark {
  machine: MachineRecord;
  /** Full-batch GR-DPO, 60 + 240 pairs, d = 4, one core. */
  full_batch_iterations_per_second: number;
  /** Algorithm 1 on the same pairs, one core. */
  per_sample_steps_per_second: number;
  /** Rates over those of the plain loops below, measured in turn with them. */
  full_batch_ratio: number;
  per_sample_ratio: number;
  /** Time of the same per-sample runs on one worker thread over that on two, start-up included. */
  two_workers_ratio: number;
  /** The plain loops gave the same θ and α to 1e-9 before anything was timed. */
  checked: true;
}

/**
 * Speed of the simulator: first the fast loops are checked against plain ones written straight from the paper, then both are
 * timed in one run.
 * @throws GroupRobustError with code CHECK_FAILED when they disagree
 */
export async function benchmarkBandit(seconds = 1): Promise<BanditBenchmark> {
  const problem = trainingProblem({ features: 'swapped', responses: 'uneven', data: 'imbalanced' }, 2021);
  const start = initialTheta(2021);
  const full = (iterations: number) => train(problem, { ...methodSettings('gr-dpo'), iterations }, start);
  const plainFull = (iterations: number) => plainFullBatch(problem, start, iterations);
  const iterations = 1000;
  agree('full batch', full(iterations), plainFull(iterations));

  const loss = { loss: 'dpo', beta: 1 } as const;
  const steps = stepSizes(convergenceConstants(problem, marginLoss(loss), 10, 1), 1e5);
  const settings: SaddleSettings = { loss, algorithm: 1, radius: 10, steps };
  const count = 100_000;
  const perSample = () => runSaddle(problem, settings, count, Random.stream(1, 'bench'));
  const plainPerSample = () => plainSaddle(problem, settings, count, Random.stream(1, 'bench'));
  const last = perSample();
  agree('per sample', { theta: last.lastTheta, alpha: last.lastAlpha }, plainPerSample());

  const [fullBatch, plainFullBatchRate] = callsPerSecond(
    [() => full(iterations), () => plainFull(iterations)],
    seconds,
  );
  const [sampled, plainSampled] = callsPerSecond([perSample, plainPerSample], seconds);
  // Four runs of `seconds` each.
  const runSteps = Math.ceil(sampled * count * seconds);
  const jobs = [0, 1, 2, 3].map((run): SaddleJob => ({ problem, settings, count: runSteps, seed: 1, run }));
  const one = await secondsOf(() => runSaddles(jobs, { workers: 1 }));
  const two = await secondsOf(() => runSaddles(jobs, { workers: 2 }));
  return {
    machine: machineRecord(),
    full_batch_iterations_per_second: fullBatch * iterations,
    per_sample_steps_per_second: sampled * count,
    full_batch_ratio: fullBatch / plainFullBatchRate,
    per_sample_ratio: sampled / plainSampled,
    two_workers_ratio: one / two,
    checked: true,
  };
}

async function secondsOf(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
}

interface Outcome {
  theta: ArrayLike<number>;
  alpha: ArrayLike<number>;
}

function agree(what: string, fast: Outcome, plain: Outcome): void {
  const distance = Math.max(relativeDistance(fast.theta, plain.theta), relativeDistance(fast.alpha, plain.alpha));
  if (!(distance <= 1e-9))
    throw new GroupRobustError('CHECK_FAILED', `${what}: the fast loop is off by ${distance} from the plain one`);
}

/** Full-batch GR-DPO (β 1, η_θ 0.9, η_α 0.5), pair by pair and nothing saved. */
function plainFullBatch(problem: LogLinearProblem, start: ArrayLike<number>, iterations: number): Outcome {
  const loss = marginLoss({ loss: 'dpo', beta: 1 });
  const theta = Array.from(start);
  const sizes = problem.groups.map((group) => group.count);
  const total = sizes.reduce((sum, n) => sum + n, 0);
  const weighting = groupWeights({ weights: 'mirror-ascent', step: 0.5 }, sizes);
  for (let t = 0; t < iterations; t++) {
    const totals = new GroupTotals(sizes.length);
    const gradients = problem.groups.map(({ count, differences }, g) => {
      const gradient = theta.map(() => 0);
      for (let i = 0; i < count; i++) {
        const row = Array.from(differences.subarray(i * theta.length, (i + 1) * theta.length));
        const h = row.reduce((sum, d, j) => sum + d * theta[j], 0);
        totals.add(g, loss.value(h));
        row.forEach((d, j) => {
          gradient[j] += loss.derivative(h) * d;
        });
      }
      return gradient;
    });
    const { coefficients } = robustStep(
      totals,
      weighting,
      sizes.map((n) => n / total),
    );
    gradients.forEach((gradient, g) => {
      gradient.forEach((value, j) => {
        theta[j] -= 0.9 * coefficients[g] * value;
      });
    });
  }
  return { theta, alpha: weighting.alpha };
}

/** Algorithm 1 as the paper lists it, on the objective's own α and loss. */
function plainSaddle(
  problem: LogLinearProblem,
  { loss: lossSettings, radius = Number.POSITIVE_INFINITY, steps }: SaddleSettings,
  count: number,
  random: Random,
): Outcome {
  const loss = marginLoss(lossSettings);
  const sizes = problem.groups.map((group) => group.count);
  const total = sizes.reduce((sum, n) => sum + n, 0);
  const mirror = new MirrorAscent({ step: steps.alpha }, sizes);
  let theta = new Array<number>(problem.dimension).fill(0);
  for (let t = 0; t < count; t++) {
    let i = random.integer(total);
    let g = 0;
    while (i >= sizes[g]) i -= sizes[g++];
    const row = Array.from(problem.groups[g].differences.subarray(i * theta.length, (i + 1) * theta.length));
    const h = row.reduce((sum, d, j) => sum + d * theta[j], 0);
    const signal = new Float64Array(sizes.length);
    signal[g] = (total / sizes[g]) * loss.value(h);
    const weight = (total / sizes[g]) * mirror.next(signal)[g];
    theta = theta.map((value, j) => value - steps.theta * weight * loss.derivative(h) * row[j]);
    const length = Math.hypot(...theta);
    if (length > radius) theta = theta.map((value) => (value * radius) / length);
  }
  return { theta, alpha: mirror.alpha };
}
