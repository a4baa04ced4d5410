import { Worker } from 'node:worker_threads';

/** MB that Node itself takes, and what it reads programs with. */
const START = 192;

/**
 * Ends this process, whatever it is doing, when its parent has gone, or when all of its memory, that outside the heap too, is
 * more than it was started with. For programs started by `startBounded`, see bounded-process.ts.
 */
export function keepBounds(): void {
  const [parent = Number.NaN, megabytes = 0] = process.argv.slice(2).map(Number);
  // A signal that a terminal sends to all is the parent's to act upon.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => {});
  process.on('disconnect', () => process.exit());
  const watch = `
    const { parent, bytes } = require('node:worker_threads').workerData;
    setInterval(() => {
      if (process.ppid !== parent || process.memoryUsage.rss() > bytes) process.kill(process.pid, 'SIGKILL');
    }, 20);`;
  // In a thread of its own, since this one may be busy for ever.
  new Worker(watch, { eval: true, execArgv: [], workerData: { parent, bytes: (megabytes + START) * 2 ** 20 } }).unref();
}
