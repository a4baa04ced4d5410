import { Random } from '../numbers/random.js';
import type { LogLinearProblem } from '../policy/log-linear-problem.js';
import { parallelMap } from '../processes/parallel.js';
import type { SaddleRun, SaddleSettings } from './algorithm.js';
import { type PerSampleSettings, runByObjective } from './objective-run.js';
import { runSideBySide, type SaddleStart } from './side-by-side.js';

/** One run of a per-sample algorithm; its random stream is named by seed, `count` and `run`. */
export interface SaddleJob {
  problem: LogLinearProblem;
  settings: SaddleSettings | PerSampleSettings;
  count: number;
  seed: number;
  run: number;
}

/** Jobs of one problem, loss, algorithm and `count`, as a worker thread takes them. */
interface SaddleBatch {
  jobs: SaddleJob[];
  /** One 64-bit integer, shared by all workers, to which the steps done are added. */
  progress?: SharedArrayBuffer;
}

export function runSaddleBatch({ jobs, progress }: SaddleBatch): SaddleRun[] {
  const done = progress && new BigInt64Array(progress);
  const [{ problem, count }] = jobs;
  const starts = jobs.map(({ settings, seed, run }) => ({
    settings,
    random: Random.stream(seed, 'theory', 'saddle', count, run),
  }));
  const onSteps = (steps: number) => {
    if (done) Atomics.add(done, 0, BigInt(steps));
  };
  if (starts.every(isFast)) return runSideBySide(problem, starts, count, onSteps);
  return starts.map(({ settings, random }) => runByObjective(problem, settings, count, random, onSteps));
}

/** Whether there is a loop of its own for it. */
function isFast<Start extends { settings: SaddleJob['settings'] }>(start: Start): start is Start & SaddleStart {
  return start.settings.algorithm === 1 || start.settings.algorithm === 3;
}

export interface SaddleOptions {
  /** Number of worker threads; default one per core. The results do not depend on it. */
  workers?: number;
  /** Called a few times a second, within runs too, with the number of steps done and to do in all. */
  onSteps?: (done: number, total: number) => void;
}

/** Jobs in a batch at most: what the simulator's addon does at once. */
const batchSize = 16;

/** Jobs that can be done side by side, by their places in `jobs`, in batches of about equal size. */
function batches(jobs: readonly SaddleJob[]): number[][] {
  const alike: number[][] = [];
  for (const [n, job] of jobs.entries()) {
    const found = alike.find(([first]) => isAlike(jobs[first], job));
    if (found) found.push(n);
    else alike.push([n]);
  }
  return alike.flatMap((places) => {
    // Only what is done side by side gains by company.
    const parts = isFast(jobs[places[0]]) ? Math.ceil(places.length / batchSize) : places.length;
    const bound = (part: number) => Math.round((part * places.length) / parts);
    return Array.from({ length: parts }, (_, part) => places.slice(bound(part), bound(part + 1)));
  });
}

function isAlike(a: SaddleJob, b: SaddleJob): boolean {
  const what = ({ count, settings: { loss, algorithm } }: SaddleJob) => JSON.stringify([count, loss, algorithm]);
  return a.problem === b.problem && what(a) === what(b);
}

/** Runs `jobs` across cores; results come in the order of `jobs` and do not depend on the number of workers. */
export async function runSaddles(
  jobs: readonly SaddleJob[],
  { workers, onSteps = () => {} }: SaddleOptions = {},
): Promise<SaddleRun[]> {
  const progress = new SharedArrayBuffer(BigInt64Array.BYTES_PER_ELEMENT);
  const done = new BigInt64Array(progress);
  const total = jobs.reduce((sum, { count }) => sum + count, 0);
  const report = () => onSteps(Number(Atomics.load(done, 0)), total);
  const timer = setInterval(report, 250);
  try {
    const places = batches(jobs);
    const work = places.map((batch) => ({ jobs: batch.map((n) => jobs[n]), progress }));
    const found = await parallelMap<SaddleBatch, SaddleRun[]>(import.meta.url, runSaddleBatch.name, work, {
      workers,
      onDone: report,
    });
    const results: SaddleRun[] = [];
    for (const [b, batch] of places.entries()) for (const [k, n] of batch.entries()) results[n] = found[b][k];
    return results;
  } finally {
    clearInterval(timer);
  }
}
