import { afterEach, expect, it, vi } from 'vitest';
import type { PatternReply, PatternRequest } from '../../src/policy/pattern-process.js';
import { SyncProcess } from '../../src/processes/sync-process.js';

afterEach(() => {
  vi.restoreAllMocks();
});

it('waits for its answer also where the notification of the request before comes late', () => {
  const matcher = new SyncProcess<PatternRequest, PatternReply>(
    new URL('../../src/policy/pattern-process.ts', import.meta.url).href,
    64,
  );
  const ask = (text: string) => matcher.ask({ expressions: ['b+$'], texts: [text] }, 10);
  expect(ask('bb')).toEqual({ reply: { matches: [['']] } });
  // What a thread sees that was notified before the answer is there.
  const wait = vi.spyOn(Atomics, 'wait').mockReturnValueOnce('ok');
  expect(ask('a')).toEqual({ reply: { matches: [[null]] } });
  expect(wait).toHaveBeenCalled();
});
