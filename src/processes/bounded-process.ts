import { type ChildProcess, type ForkOptions, fork, type Serializable } from 'node:child_process';
import { startable } from './parallel.js';

/**
 * Processes of our own for work whose time and memory a file of the user's decides, such as a damaged table or a regular
 * expression: one that takes more than it may is ended, and this process goes on. Their programs call `answerRequests`, see
 * bounded-child.ts. Time is that of the processor: where other work wants the machine, no file is at fault.
 */

/** What is sent to them. */
export interface BoundedRequest<Request> {
  request: Request;
  /** Of the processor, for the answer. */
  seconds: number;
}

/** The answer; or the process took too long, or has ended, which it does where it takes more memory than it may. */
export type Outcome<Reply> = { reply: Reply } | 'late' | 'ended';

/**
 * What to fork.
 * @param moduleUrl of the compiled program
 * @param megabytes of memory in all, its start not counted
 */
export function forkArguments(moduleUrl: string, megabytes: number) {
  const { filename, execArgv } = startable(moduleUrl);
  const options: ForkOptions = {
    execArgv: [...execArgv, `--max-old-space-size=${megabytes}`],
    serialization: 'advanced',
    // Nothing but the answers: Node tells at length of a process that has no memory left.
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  };
  return [filename, [String(process.pid), String(megabytes)], options] as const;
}

export function startBounded(moduleUrl: string, megabytes: number): ChildProcess {
  return fork(...forkArguments(moduleUrl, megabytes));
}

/** Of the clock: what takes longer, and no time of the processor, waits for nothing that will come. */
export function longestWait(seconds: number): number {
  return 60 + 30 * seconds;
}

/** The signal that ends a process which takes longer; another one ends it where it takes more memory. */
export const LATE = 'SIGVTALRM';

/** Sends one request; where the outcome is no answer, the process is ended. */
export async function askBounded<Reply>(
  child: ChildProcess,
  request: Serializable,
  seconds: number,
): Promise<Outcome<Reply>> {
  let timer: NodeJS.Timeout | undefined;
  const outcome = await new Promise<Outcome<Reply>>((done, fail) => {
    timer = setTimeout(() => done('late'), 1000 * longestWait(seconds));
    child.once('message', (reply) => done({ reply: reply as Reply }));
    child.once('exit', (_, signal) => done(signal === LATE ? 'late' : 'ended'));
    child.once('error', fail);
    child.send({ request, seconds }, (error) => error && done('ended'));
  }).finally(() => {
    clearTimeout(timer);
    child.removeAllListeners('message').removeAllListeners('exit').removeAllListeners('error');
  });
  if (typeof outcome === 'string') child.kill('SIGKILL');
  return outcome;
}
