import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { duration, progress } from '../src/progress.js';

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
