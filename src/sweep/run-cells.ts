import { type ChildProcess, fork } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { startable } from '../processes/parallel.js';
import { type Progress, progress } from '../terminal/progress.js';
import { newestStep } from '../train/checkpoint.js';
import { StopRequest } from '../train/interrupt.js';
import type { CellOutcome, CellReply, CellRequest } from './cell-process.js';
import { type Cell, defaultThreads, isDone } from './cells.js';
import { StepCount } from './step-count.js';

/** A run that could not be made. */
export interface Failure {
  folder: string;
  problem: string;
}

/**
 * Makes the runs that are not done, `jobs` at a time, each in a process of its own. One that fails does not stop the others, and is not
 * tried again.
 *
 * @throws InputError where a folder holds a run of other settings
 * @throws InterruptedError after SIGINT or SIGTERM, once the runs that were going on have saved and ended
 */
export async function runCells(
  cells: readonly Cell[],
  {
    base,
    file,
    jobs,
    quiet,
    log,
  }: { base: string; file: string; jobs: number; quiet: boolean; log(text: string): void },
): Promise<Failure[]> {
  const count = new StepCount<Cell>();
  const waiting = cells.filter((cell) => {
    const done = isDone(cell);
    count.add(cell, newestStep(cell.folder));
    if (done) count.end(cell);
    return !done;
  });
  const before = cells.length - waiting.length;
  if (before > 0) log(`${before} of ${cells.length} runs are done already`);
  if (waiting.length === 0) return [];
  tellOfIdleCores(waiting, jobs, log);
  const children = new Set<ChildProcess>();
  using stop = new StopRequest((signal) => {
    log(`${signal}: the runs that go on finish their step and save; once more stops at once`);
    for (const child of children) child.kill('SIGTERM');
  }, 'the same command');
  const said = new Set<string>();
  const failures: Failure[] = [];
  const bar = stepBar(count, quiet);
  let done = before;
  const show = () => bar.show(`${done} of ${cells.length} runs`);
  show();
  const work = async () => {
    for (let cell = waiting.shift(); cell !== undefined && !stop.made; cell = waiting.shift()) {
      const { folder, method } = cell;
      const outcome = await runCell(
        { base, overrides: cell.overrides, from: `${file}, method ${method}` },
        children,
        (reply) => {
          if ('taken' in reply) {
            count.update(cell, reply.taken, reply.planned);
            show();
            return;
          }
          // Runs of one data set have the same to say; what is no warning is in their folders.
          const text = reply.log;
          if (text.startsWith('warning: ') && !said.has(text)) log(`${folder}: ${text}`);
          said.add(text);
        },
      );
      if ('interrupted' in outcome && stop.made) continue;
      if (!('done' in outcome)) {
        const problem = 'failed' in outcome ? outcome.failed : outcome.interrupted;
        failures.push({ folder, problem });
        log(`failed: ${folder}: ${problem}`);
      }
      count.end(cell);
      done++;
      show();
    }
  };
  try {
    await Promise.all(Array.from({ length: Math.min(jobs, waiting.length) }, work));
  } finally {
    bar.stop();
  }
  stop.check(`with ${done - failures.length} of ${cells.length} runs done; those that were going on are saved`);
  return failures;
}

function tellOfIdleCores(cells: readonly Cell[], jobs: number, log: (text: string) => void): void {
  const cores = availableParallelism();
  const threads = cells.map(({ config }) => config.threads ?? defaultThreads);
  const busy = Math.min(jobs, cells.length) * Math.max(...threads);
  if (busy < cores && jobs < cells.length)
    log(
      `${busy} of ${cores} cores are used: raise --jobs, which changes no number, or threads in the base, which may change last bits`,
    );
}

/** One line for all runs, from when it is known how many steps they are: those of `epochs` wait for the first that has read its pairs. */
function stepBar(count: StepCount<Cell>, quiet: boolean): { show(note: string): void; stop(): void } {
  let bar: Progress | undefined;
  return {
    show(note) {
      const { taken, total } = count;
      if (total === undefined) return;
      bar ??= progress('sweep, steps', total, quiet, taken);
      bar.update(taken, note, total);
    },
    stop: () => bar?.stop(),
  };
}

async function runCell(
  request: CellRequest,
  children: Set<ChildProcess>,
  told: (reply: Exclude<CellReply, { outcome: CellOutcome }>) => void,
): Promise<CellOutcome> {
  const { filename, execArgv } = startable(new URL('./cell-process.js', import.meta.url).href);
  // In a group of its own: a Ctrl-C reaches it once, from here, and not a second time from the terminal, which would stop it at once.
  const child = fork(filename, [], { execArgv, detached: true, stdio: ['ignore', 'ignore', 'pipe', 'ipc'] });
  children.add(child);
  let outcome: CellOutcome | undefined;
  let stderr = '';
  child.stderr?.on('data', (chunk) => {
    stderr = (stderr + chunk).slice(-4000);
  });
  child.on('message', (reply: CellReply) => {
    if ('outcome' in reply) outcome = reply.outcome;
    else told(reply);
  });
  try {
    return await new Promise<CellOutcome>((resolve) => {
      child.on('error', (error) => resolve({ failed: `could not be started: ${error.message}` }));
      child.on('close', (code, signal) =>
        resolve(outcome ?? ended(signal === null ? `exit code ${code}` : `${signal}`, stderr)),
      );
      child.send(request, () => {});
    });
  } finally {
    children.delete(child);
  }
}

/** A process that said nothing of its end: killed, perhaps for its memory, or broken off in C++. */
function ended(how: string, stderr: string): CellOutcome {
  if (how === 'SIGTERM') return { interrupted: how };
  return { failed: `its process ended by itself (${how})${stderr.trim() && `:\n${stderr.trim()}`}` };
}
