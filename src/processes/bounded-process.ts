import { type ChildProcess, type ForkOptions, fork, type Serializable } from 'node:child_process';
import { startable } from './parallel.js';

/**
 * Processes of our own for work whose time and memory a file of the user's decides, such as a damaged table or a regular
 * expression: one that takes more than it may is ended, and this process goes on. Their programs call `keepBounds`, see
 * bounded-child.ts.
 */

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

/** Sends one request; where the outcome is no answer, the process is ended. */
export async function askBounded<Reply>(
  child: ChildProcess,
  request: Serializable,
  seconds: number,
): Promise<Outcome<Reply>> {
  let timer: NodeJS.Timeout | undefined;
  const outcome = await new Promise<Outcome<Reply>>((done, fail) => {
    timer = setTimeout(() => done('late'), 1000 * seconds);
    child.once('message', (reply) => done({ reply: reply as Reply }));
    child.once('exit', () => done('ended'));
    child.once('error', fail);
    child.send(request, (error) => error && done('ended'));
  }).finally(() => {
    clearTimeout(timer);
    child.removeAllListeners('message').removeAllListeners('exit').removeAllListeners('error');
  });
  if (typeof outcome === 'string') child.kill('SIGKILL');
  return outcome;
}
