import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { methodSettings } from '../bandit/methods.js';
import { initialTheta, trainingProblem } from '../bandit/preferences.js';
import { train } from '../bandit/training.js';
import { GroupRobustError, InputError } from '../errors.js';
import { loadSimulator } from '../native/simulator.js';
import { Random } from '../numbers/random.js';
import { marginLoss } from '../objective/losses.js';
import type { LogLinearProblem } from '../policy/log-linear-problem.js';
import type { SaddleSettings } from '../theory/algorithm.js';
import { convergenceConstants, type StepSizes, stepSizes } from '../theory/constants.js';
import { runSaddles, type SaddleJob } from '../theory/saddle-jobs.js';
import { runSideBySide } from '../theory/side-by-side.js';
import { callsPerSecond, type MachineRecord, machineRecord, relativeDistance } from './measure.js';

export interface BanditBenchmark {
  machine: MachineRecord;
  /** Doubles in a vector of the simulator's addon; null: it is not built, and its loops run in TypeScript. */
  vector_width: number | null;
  /** Full-batch GR-DPO, 60 + 240 pairs, d = 4, one core. */
  full_batch_iterations_per_second: number;
  /** Algorithm 1 on the same pairs, 16 runs side by side, one core: steps of all of them. */
  per_sample_steps_per_second: number;
  /** Rates over those of the plain loops in typed arrays below, measured in turn with them. */
  full_batch_ratio: number;
  per_sample_ratio: number;
  /** The full batch in NumPy, measured after that; absent where it was not asked for. */
  numpy?: { version: string; full_batch_iterations_per_second: number; full_batch_ratio: number };
  /** Time of the same per-sample runs on one worker thread over that on two, start-up included. */
  two_workers_ratio: number;
  /** All peers gave the same θ and α to 1e-9, the plain loops before anything was timed. */
  checked: true;
}

const saddleRadius = 10;

/**
 * Speed of the simulator: first the fast loops are checked against plain ones written straight from the paper, then both are
 * timed in one run.
 * @param numpy also in NumPy, by the Python that `PYTHON` names, else python3
 * @throws GroupRobustError with code CHECK_FAILED when they disagree
 * @throws InputError where there is no NumPy
 */
export async function benchmarkBandit(seconds = 1, { numpy = false } = {}): Promise<BanditBenchmark> {
  const problem = trainingProblem({ features: 'swapped', responses: 'uneven', data: 'imbalanced' }, 2021);
  const start = initialTheta(2021);
  const full = (iterations: number) => train(problem, { ...methodSettings('gr-dpo'), iterations }, start);
  const plainFull = (iterations: number) => plainFullBatch(problem, start, iterations);
  const iterations = 1000;
  agree('full batch', full(iterations), plainFull(iterations));

  const loss = { loss: 'dpo', beta: 1 } as const;
  const steps = stepSizes(convergenceConstants(problem, marginLoss(loss), saddleRadius, 1), 1e5);
  const settings: SaddleSettings = { loss, algorithm: 1, radius: saddleRadius, steps };
  const count = 100_000;
  const streamOf = (run: number) => Random.stream(1, 'bench', run);
  const runs = Array.from({ length: 16 }, (_, run) => run);
  const perSample = () =>
    runSideBySide(
      problem,
      runs.map((run) => ({ settings, random: streamOf(run) })),
      count,
    );
  const plainPerSample = (run = 0) => plainSaddle(problem, steps, count, streamOf(run));
  for (const [run, { lastTheta, lastAlpha }] of perSample().entries())
    agree('per sample', { theta: lastTheta, alpha: lastAlpha }, plainPerSample(run));

  const [fullBatch, plainFullBatchRate] = callsPerSecond(
    [() => full(iterations), () => plainFull(iterations)],
    seconds,
  );
  const peer = numpy ? numpyFullBatch(problem, start, iterations, seconds) : undefined;
  if (peer) agree('full batch, NumPy', full(iterations), peer);
  const [sampled, plainSampled] = callsPerSecond([perSample, () => plainPerSample()], seconds);
  const stepsPerSecond = sampled * runs.length * count;
  // Two batches that take two times `seconds` each.
  const runSteps = Math.ceil(sampled * count * 2 * seconds);
  const jobs = [...runs, ...runs].map((_, run): SaddleJob => ({ problem, settings, count: runSteps, seed: 1, run }));
  const one = await secondsOf(() => runSaddles(jobs, { workers: 1 }));
  const two = await secondsOf(() => runSaddles(jobs, { workers: 2 }));
  return {
    machine: machineRecord(),
    vector_width: loadSimulator()?.widths[0] ?? null,
    full_batch_iterations_per_second: fullBatch * iterations,
    per_sample_steps_per_second: stepsPerSecond,
    full_batch_ratio: fullBatch / plainFullBatchRate,
    per_sample_ratio: stepsPerSecond / (plainSampled * count),
    ...(peer && {
      numpy: {
        version: peer.numpy,
        full_batch_iterations_per_second: peer.iterations_per_second,
        full_batch_ratio: (fullBatch * iterations) / peer.iterations_per_second,
      },
    }),
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

/**
 * Full-batch GR-DPO (β 1, η_θ 0.9, η_α 0.5) as one would write it in an afternoon: straight from the paper, in typed arrays, with nothing
 * allocated within an iteration. It shares no code with what it is compared to.
 */
function plainFullBatch(
  { dimension, groups }: LogLinearProblem,
  start: ArrayLike<number>,
  iterations: number,
): Outcome {
  const theta = Float64Array.from(start);
  const alpha = new Float64Array(groups.length).fill(1 / groups.length);
  const gradients = new Float64Array(groups.length * dimension);
  for (let t = 0; t < iterations; t++) {
    gradients.fill(0);
    let total = 0;
    for (let g = 0; g < groups.length; g++) {
      const { count, differences } = groups[g];
      let loss = 0;
      for (let i = 0; i < count; i++) {
        let h = 0;
        for (let j = 0; j < dimension; j++) h += differences[i * dimension + j] * theta[j];
        const e = Math.exp(-Math.abs(h));
        loss += Math.log1p(e) + Math.max(-h, 0);
        const slope = -(h >= 0 ? e : 1) / (1 + e);
        for (let j = 0; j < dimension; j++) gradients[g * dimension + j] += slope * differences[i * dimension + j];
      }
      alpha[g] *= Math.exp((0.5 * loss) / count);
      total += alpha[g];
    }
    for (let g = 0; g < groups.length; g++) {
      alpha[g] /= total;
      const scale = (0.9 * alpha[g]) / groups[g].count;
      for (let j = 0; j < dimension; j++) theta[j] -= scale * gradients[g * dimension + j];
    }
  }
  return { theta, alpha };
}

/** Algorithm 1 as the paper lists it, for DPO, in the same style. */
function plainSaddle(
  { dimension, groups }: LogLinearProblem,
  steps: StepSizes,
  count: number,
  random: Random,
): Outcome {
  const total = groups.reduce((sum, group) => sum + group.count, 0);
  const theta = new Float64Array(dimension);
  const alpha = new Float64Array(groups.length).fill(1 / groups.length);
  for (let t = 0; t < count; t++) {
    let i = random.integer(total);
    let g = 0;
    while (i >= groups[g].count) i -= groups[g++].count;
    const { count: size, differences } = groups[g];
    let h = 0;
    for (let j = 0; j < dimension; j++) h += differences[i * dimension + j] * theta[j];
    const e = Math.exp(-Math.abs(h));
    alpha[g] *= Math.exp(((steps.alpha * total) / size) * (Math.log1p(e) + Math.max(-h, 0)));
    let sum = 0;
    for (let k = 0; k < alpha.length; k++) sum += alpha[k];
    for (let k = 0; k < alpha.length; k++) alpha[k] /= sum;
    const scale = ((steps.theta * total) / size) * alpha[g] * ((h >= 0 ? e : 1) / (1 + e));
    let square = 0;
    for (let j = 0; j < dimension; j++) {
      theta[j] += scale * differences[i * dimension + j];
      square += theta[j] * theta[j];
    }
    if (square > saddleRadius ** 2) for (let j = 0; j < dimension; j++) theta[j] *= saddleRadius / Math.sqrt(square);
  }
  return { theta, alpha };
}

/** @throws InputError where `PYTHON`, or python3, has no NumPy */
function numpyFullBatch(
  { dimension, groups }: LogLinearProblem,
  start: ArrayLike<number>,
  iterations: number,
  seconds: number,
) {
  const rows = groups.map(({ count, differences }) =>
    Array.from({ length: count }, (_, i) => [...differences.subarray(i * dimension, (i + 1) * dimension)]),
  );
  const python = process.env.PYTHON ?? 'python3';
  const script = fileURLToPath(new URL('./numpy-full-batch.py', import.meta.url));
  const input = JSON.stringify({ groups: rows, theta: Array.from(start), iterations, seconds });
  // One core for NumPy too: threads of its products would only cost time at this size.
  const env = { ...process.env, OMP_NUM_THREADS: '1', OPENBLAS_NUM_THREADS: '1', MKL_NUM_THREADS: '1' };
  const { status, stdout, stderr, error } = spawnSync(python, [script], { input, env, encoding: 'utf8' });
  if (status !== 0)
    throw new InputError(`${python} does not run NumPy: ${error?.message ?? stderr.trim().split('\n').pop()}`, {
      at: { field: '--numpy' },
      fix: 'set PYTHON to a Python that has it',
    });
  return JSON.parse(stdout) as Outcome & { numpy: string; iterations_per_second: number };
}
