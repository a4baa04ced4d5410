import { SingleBar } from 'cli-progress';
import { printable } from './names.js';
import { isMuted, say } from './output.js';
import { cutToWidth } from './width.js';

/** Shows how far a long job is: a bar with rate and remaining time on a terminal, a plain line now and then elsewhere. */
export interface Progress {
  /** `done` units of the total, which may have changed; `note` is shown beside it. */
  update(done: number, note?: string, total?: number): void;
  stop(): void;
}

/** Without a terminal a line is written at every fifth of the work, and after this long without one. */
const LINE_SECONDS = 60;

/** What goes on now, each begun while the one before it went on (an evaluation in a training run); the last is shown. */
const active: { draw?: () => void }[] = [];

/**
 * Writes to stderr only, so that stdout stays free for results. On a terminal the bar gives way to whatever else is written
 * there, and comes back below it.
 * @param start units that were done before, such as the steps of a run that is resumed: they say nothing about the rate
 */
export function progress(label: string, total: number, quiet = false, start = 0): Progress {
  if (quiet || isMuted()) return { update: () => {}, stop: () => {} };
  return process.stderr.isTTY ? bar(label, total, start) : plainLines(label, total, start);
}

function plainLines(label: string, planned: number, start: number): Progress {
  let total = planned;
  const clock = stopwatch();
  // Within something longer, which has its own lines, only what takes long is worth more of them.
  let nextPercent = active.length > 0 ? Number.POSITIVE_INFINITY : 0;
  let lastLine = 0;
  const own = {};
  active.push(own);
  return {
    update(done, note = '', now = total) {
      total = now;
      const percent = Math.floor((100 * done) / total);
      const seconds = clock();
      if (percent < nextPercent && seconds - lastLine < LINE_SECONDS) return;
      if (nextPercent < Number.POSITIVE_INFINITY) nextPercent = percent - (percent % 20) + 20;
      lastLine = seconds;
      say(
        process.stderr,
        `${label}: ${done}/${total} (${percent} %)${pace(done - start, total - done, seconds)}${note && ` ${printable(note)}`}`,
      );
    },
    stop: () => leave(own),
  };
}

function bar(label: string, planned: number, start: number): Progress {
  let total = planned;
  const clock = stopwatch();
  const shared = terminal();
  let line = '';
  const own = { draw: () => shared.draw(line) };
  // The library draws in place, so others' lines and its own would overwrite each other: it only says what the line is.
  const stream = {
    isTTY: true,
    get columns() {
      return process.stderr.columns ?? 80;
    },
    write(text: string) {
      if (text.startsWith('\x1b') || text === '\n') return;
      // More than a row of the terminal could not be erased again.
      line = cutToWidth(text, Math.max(1, (process.stderr.columns ?? 80) - 1));
      if (active.at(-1) === own) own.draw();
    },
  };
  const single = new SingleBar({
    format: `${printable(label)} [{bar}] {value}/{total}{pace} {note}`,
    stream: stream as unknown as NodeJS.WritableStream,
    // Its own handler would swallow the first Ctrl-C.
    gracefulExit: false,
    hideCursor: false,
    linewrap: true,
    barsize: Math.max(5, Math.min(40, (process.stderr.columns ?? 80) - 50)),
  });
  active.push(own);
  single.start(total, start, { pace: '', note: '' });
  return {
    update(done, note = '', now = total) {
      if (now !== total) single.setTotal(now);
      total = now;
      single.update(done, { pace: pace(done - start, total - done, clock()), note: printable(note) });
    },
    stop() {
      if (!active.includes(own)) return;
      single.stop();
      leave(own);
      if (active.length === 0) shared.close();
      else active.at(-1)?.draw?.();
    },
  };
}

function leave(own: object): void {
  const place = active.indexOf(own);
  if (place >= 0) active.splice(place, 1);
}

/** The terminal while a bar is on it; one for all bars. */
let open: { draw(line: string): void; close(): void } | undefined;

function terminal() {
  if (open) return open;
  const ERASE = '\r\x1b[K';
  const draw = process.stderr.write.bind(process.stderr);
  let shown = false;
  // Others may write a line in pieces; the bar waits for its end.
  let amid = false;
  const streams = [process.stderr, process.stdout].filter(({ isTTY }) => isTTY);
  const originals = streams.map((stream) => {
    const { write } = stream;
    stream.write = ((...args: Parameters<typeof write>) => {
      if (shown) draw(ERASE);
      shown = false;
      const written = write.apply(stream, args);
      const text: string | Uint8Array = args[0];
      amid = typeof text === 'string' ? !text.endsWith('\n') : text.at(-1) !== 0x0a;
      active.at(-1)?.draw?.();
      return written;
    }) as typeof write;
    return { stream, write };
  });
  open = {
    draw(line) {
      if (amid) return;
      draw(`${shown ? ERASE : ''}${line}`);
      shown = true;
    },
    close() {
      if (shown) draw('\n');
      for (const { stream, write } of originals) stream.write = write;
      open = undefined;
    },
  };
  return open;
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
