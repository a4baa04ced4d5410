import { Worker } from 'node:worker_threads';
import { type BoundedRequest, LATE } from './bounded-process.js';

/** MB that Node itself takes, and what it reads programs with. */
const START = 192;

/**
 * Ends this process, whatever it is doing, when its parent has gone, or when all of its memory, that outside the heap too, is
 * more than it was started with.
 * @returns the processor time, in ms since the start, at which it is ended too; 0 for none
 */
export function keepBounds(): Int32Array {
  const [parent = Number.NaN, megabytes = 0] = process.argv.slice(2).map(Number);
  // A signal that a terminal sends to all is the parent's to act upon.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => {});
  process.on('disconnect', () => process.exit());
  const deadline = new Int32Array(new SharedArrayBuffer(4));
  const watch = `
    const { parent, bytes, deadline } = require('node:worker_threads').workerData;
    setInterval(() => {
      if (process.ppid !== parent || process.memoryUsage.rss() > bytes) process.kill(process.pid, 'SIGKILL');
      const end = Atomics.load(deadline, 0);
      if (end === 0) return;
      const { user, system } = process.cpuUsage();
      if ((user + system) / 1000 > end) process.kill(process.pid, '${LATE}');
    }, 20);`;
  const workerData = { parent, bytes: (megabytes + START) * 2 ** 20, deadline };
  // In a thread of its own, since this one may be busy for ever.
  new Worker(watch, { eval: true, execArgv: [], workerData }).unref();
  return deadline;
}

/** The program of a process of `startBounded`, see bounded-process.ts: answers each request within its bounds. */
export function answerRequests<Request, Reply>(answer: (request: Request) => Reply | Promise<Reply>): void {
  const deadline = keepBounds();
  process.on('message', async ({ request, seconds }: BoundedRequest<Request>) => {
    const { user, system } = process.cpuUsage();
    Atomics.store(deadline, 0, Math.ceil((user + system) / 1000 + 1000 * seconds));
    const reply = await answer(request);
    Atomics.store(deadline, 0, 0);
    process.send?.(reply);
  });
}
