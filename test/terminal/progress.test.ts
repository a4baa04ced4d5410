import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { duration, progress } from '../../src/terminal/progress.js';

let written: string;
let terminal: boolean;
beforeEach(() => {
  written = '';
  vi.useFakeTimers({ toFake: ['performance'] });
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    written += text;
    return true;
  });
  terminal = process.stderr.isTTY;
});
afterEach(() => {
  process.stderr.isTTY = terminal;
  vi.useRealTimers();
  vi.restoreAllMocks();
});

describe('where stderr is piped', () => {
  beforeEach(() => {
    process.stderr.isTTY = false;
  });

  it('writes a plain line at every fifth of the work, with rate and remaining time', () => {
    const bar = progress('training', 50);
    for (let step = 0; step <= 50; step++) {
      bar.update(step, step === 0 ? '' : `loss ${step}`);
      vi.advanceTimersByTime(100);
    }
    bar.stop();
    expect(written.split('\n')).toEqual([
      'training: 0/50 (0 %)',
      'training: 10/50 (20 %) · 10/s · 4.0 s left loss 10',
      'training: 20/50 (40 %) · 10/s · 3.0 s left loss 20',
      'training: 30/50 (60 %) · 10/s · 2.0 s left loss 30',
      'training: 40/50 (80 %) · 10/s · 1.0 s left loss 40',
      'training: 50/50 (100 %) · 10/s · took 5.0 s loss 50',
      '',
    ]);
  });

  it('writes at least a line a minute of slow work, and rates a resumed run by what it does itself', () => {
    const bar = progress('training', 1000, false, 500);
    bar.update(500);
    for (let step = 501; step <= 504; step++) {
      vi.advanceTimersByTime(25_000);
      bar.update(step);
    }
    bar.stop();
    expect(written.split('\n').slice(1, -1)).toEqual(['training: 503/1000 (50 %) · 25 s each · 3 h 27 min left']);
  });
});

it('draws a bar with rate and remaining time on a terminal', () => {
  process.stderr.isTTY = true;
  const bar = progress('scoring', 40);
  vi.advanceTimersByTime(2000);
  bar.update(10, 'note');
  bar.stop();
  expect(written).toMatch(/scoring \[.*\] 10\/40 · 5\/s · 6\.0 s left note/);
});

/** What a terminal of 60 columns shows after `text`, line by line, as far as the sequences that progress bars use go. */
function screen(text: string): string[] {
  const lines = [''];
  let [row, column] = [0, 0];
  // biome-ignore lint/suspicious/noControlCharactersInRegex: terminals are driven by them
  for (const [piece, csi, verb] of text.matchAll(/\x1b\[(\d*)([A-Z])|\x1b[78]|[^\x1b]/g)) {
    const line = lines[row];
    if (piece === '\n') [row, column] = [row + 1, 0];
    else if (piece === '\r') column = 0;
    else if (verb === 'G') column = Number(csi || 1) - 1;
    else if (verb === 'K') lines[row] = csi === '2' ? '' : line.slice(0, column);
    else if (piece.startsWith('\x1b')) throw new Error(`unknown to this terminal: ${JSON.stringify(piece)}`);
    else {
      if (column === 60) [row, column] = [row + 1, 0];
      const at = (lines[row] ?? '').padEnd(column);
      lines[row] = at.slice(0, column) + piece + at.slice(column + 1);
      column++;
    }
    lines[row] ??= '';
  }
  return lines;
}

describe('lines that others write while a bar is on the terminal', () => {
  const originals = [process.stdout.isTTY, process.stdout.write, process.stderr.columns] as const;
  beforeEach(() => {
    process.stderr.isTTY = true;
    process.stdout.isTTY = true;
    process.stderr.columns = 60;
    vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
      written += text;
      return true;
    });
  });
  afterEach(() => {
    [process.stdout.isTTY, process.stdout.write, process.stderr.columns] = originals;
  });

  it('stay whole above it, from either stream, however they come', () => {
    const before = [process.stdout.write, process.stderr.write];
    const bar = progress('training', 4);
    process.stdout.write('GR-IPO: 4 steps\n');
    bar.update(1, 'loss 1');
    process.stderr.write('warning: ');
    bar.update(2, 'loss 2');
    process.stderr.write('of two pieces\n');
    expect(screen(written).at(-1)).toMatch(/^training \[.*\] \d\/4/);
    process.stdout.write(Buffer.from('two\nlines\n').toString());
    bar.update(4, 'and a note that is far too long for the line');
    bar.stop();
    process.stdout.write('done\n');
    const [a, b, c, d, last, e, empty] = screen(written);
    expect([a, b, c, d, e, empty]).toEqual(['GR-IPO: 4 steps', 'warning: of two pieces', 'two', 'lines', 'done', '']);
    expect(last).toMatch(/^training \[=+\] 4\/4/);
    expect(screen(written)).toHaveLength(7);
    expect([process.stdout.write, process.stderr.write]).toEqual(before);
  });

  it('a bar within another is shown in its place, and gone at its end', () => {
    const training = progress('training', 9);
    training.update(2);
    const validation = progress('validation', 3);
    validation.update(1);
    training.update(3);
    process.stdout.write('a line\n');
    expect(screen(written)).toEqual(['a line', expect.stringMatching(/^validation \[/)]);
    validation.stop();
    expect(screen(written)).toEqual(['a line', expect.stringMatching(/^training \[/)]);
    training.update(9);
    training.stop();
    expect(screen(written)).toEqual(['a line', expect.stringMatching(/^training \[=+\] 9\/9/), '']);
    training.stop();
  });
});

it('where stderr is piped, what goes on within something longer has a line a minute only', () => {
  process.stderr.isTTY = false;
  const training = progress('training', 9);
  const validation = progress('validation', 100);
  for (let pair = 1; pair <= 100; pair++) {
    vi.advanceTimersByTime(1000);
    validation.update(pair);
  }
  validation.stop();
  training.update(9);
  training.stop();
  expect(written.split('\n')).toEqual([
    'validation: 60/100 (60 %) · 1/s · 40 s left',
    expect.stringMatching(/^training: 9\/9/),
    '',
  ]);
});

it.each([true, false])('writes nothing when quiet (terminal: %s)', (isTTY) => {
  process.stderr.isTTY = isTTY;
  const bar = progress('scoring', 10, true);
  bar.update(10);
  bar.stop();
  expect(written).toBe('');
});

it.each([
  [1.24, '1.2 s'],
  [9.96, '10 s'],
  [59.7, '1 min 0 s'],
  [200, '3 min 20 s'],
  [3599.7, '1 h 0 min'],
  [18_500, '5 h 8 min'],
])('%d seconds are "%s"', (seconds, text) => expect(duration(seconds)).toBe(text));
