import { SingleBar } from 'cli-progress';

/** Shows how far a long job is: a bar with rate and remaining time on a terminal, a plain line now and then elsewhere. */
export interface Progress {
  /** `done` units of the total; `note` is shown beside it. */
  update(done: number, note?: string): void;
  stop(): void;
}

/** Writes to stderr only, so that stdout stays free for results. */
export function progress(label: string, total: number, quiet = false): Progress {
  if (quiet) return { update: () => {}, stop: () => {} };
  if (process.stderr.isTTY) {
    const bar = new SingleBar({
      format: `${label} [{bar}] {value}/{total} · {eta_formatted} left {note}`,
      stream: process.stderr,
      hideCursor: true,
      clearOnComplete: false,
    });
    bar.start(total, 0, { note: '' });
    return { update: (done, note = '') => bar.update(done, { note }), stop: () => bar.stop() };
  }
  const start = Date.now();
  let nextPercent = 0;
  return {
    update(done, note = '') {
      const percent = Math.floor((100 * done) / total);
      if (percent < nextPercent) return;
      nextPercent = percent - (percent % 20) + 20;
      const seconds = ((Date.now() - start) / 1000).toFixed(1);
      process.stderr.write(`${label}: ${done}/${total} (${percent} %, ${seconds} s)${note ? ` ${note}` : ''}\n`);
    },
    stop: () => {},
  };
}
