import { SingleBar } from 'cli-progress';

/** Shows how far a long job is: a bar with rate and remaining time on a terminal, a plain line now and then elsewhere. */
export interface Progress {
  /** `done` units of the total; `note` is shown beside it. */
  update(done: number, note?: string): void;
  stop(): void;
}

/** Without a terminal a line is written at every fifth of the work, and after this long without one. */
const LINE_SECONDS = 60;

/**
 * Writes to stderr only, so that stdout stays free for results.
 * @param start units that were done before, such as the steps of a run that is resumed: they say nothing about the rate
 */
export function progress(label: string, total: number, quiet = false, start = 0): Progress {
  if (quiet) return { update: () => {}, stop: () => {} };
  const clock = stopwatch();
  if (process.stderr.isTTY) {
    const bar = new SingleBar({
      format: `${label} [{bar}] {value}/{total}{pace} {note}`,
      stream: process.stderr,
      clearOnComplete: false,
      // Its own handler would swallow the first Ctrl-C; and without one nothing may be left to put back.
      gracefulExit: false,
      hideCursor: false,
      linewrap: true,
    });
    bar.start(total, start, { pace: '', note: '' });
    return {
      update: (done, note = '') => bar.update(done, { pace: pace(done - start, total - done, clock()), note }),
      stop: () => bar.stop(),
    };
  }
  let nextPercent = 0;
  let lastLine = 0;
  return {
    update(done, note = '') {
      const percent = Math.floor((100 * done) / total);
      const seconds = clock();
      if (percent < nextPercent && seconds - lastLine < LINE_SECONDS) return;
      nextPercent = percent - (percent % 20) + 20;
      lastLine = seconds;
      process.stderr.write(
        `${label}: ${done}/${total} (${percent} %)${pace(done - start, total - done, seconds)}${note && ` ${note}`}\n`,
      );
    },
    stop: () => {},
  };
}

function stopwatch(): () => number {
  const start = performance.now();
  return () => (performance.now() - start) / 1000;
}

/** " · 12.3/s · 1 min 5 s left", at the rate so far; the whole time once nothing is left; nothing before the first unit. */
function pace(done: number, left: number, seconds: number): string {
  if (done <= 0) return '';
  const rate = done / seconds;
  const each = rate >= 1 ? `${compact.format(rate)}/s` : `${compact.format(1 / rate)} s each`;
  return ` · ${each} · ${left > 0 ? `${duration(left / rate)} left` : `took ${duration(seconds)}`}`;
}

const compact = new Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 3 });

/** The two largest units: "1.2 s", "48 s", "3 min 20 s", "5 h 8 min". */
export function duration(seconds: number): string {
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  const minutes = Math.round(whole / 60);
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
