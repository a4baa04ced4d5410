import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, expect, it, vi } from 'vitest';
import type { PatternReply, PatternRequest } from '../../src/policy/pattern-process.js';
import { SyncProcess } from '../../src/processes/sync-process.js';
import { isAlive } from '../is-alive.js';
import { temporaryFolder } from '../temporary-folder.js';

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
  // What a thread sees that was notified before the answer is there, which on a busy machine may be there by now.
  vi.spyOn(Atomics, 'load').mockReturnValueOnce(0 as never);
  const wait = vi.spyOn(Atomics, 'wait').mockReturnValueOnce('ok');
  expect(ask('a')).toEqual({ reply: { matches: [[null]] } });
  expect(wait).toHaveBeenCalled();
});

/** A program that answers with its id, or writes that to a file and is then busy for ever. */
const program = join(temporaryFolder(), 'pid.ts');
writeFileSync(
  program,
  `import { writeFileSync } from 'node:fs';
import { answerRequests } from '${pathToFileURL(resolve('src/processes/bounded-child.ts')).href}';
answerRequests(({ busy }) => {
  if (busy !== undefined) {
    writeFileSync(busy, String(process.pid));
    for (;;);
  }
  return process.pid;
});`,
);
const start = () => new SyncProcess<{ busy?: string }, number>(pathToFileURL(program).href, 64);

it('lets several be asked before one is waited for', async () => {
  const processes = [start(), start()];
  for (const one of processes) one.send({}, 10);
  await expect.poll(() => processes[1].answered, { timeout: 60_000 }).toBe(true);
  const pids = processes.map((one) => one.wait());
  expect(new Set(pids.map((outcome) => (outcome as { reply: number }).reply)).size).toBe(2);
  // The answers of the requests after belong to these.
  for (const [i, one] of processes.entries()) expect(one.ask({}, 10)).toEqual(pids[i]);
  for (const one of processes) one.end();
});

it('ends a process that is busy, and starts another with the next request', { timeout: 60_000 }, async () => {
  const busy = join(temporaryFolder(), 'pid');
  const one = start();
  expect(one.ask({}, 10)).toEqual({ reply: expect.any(Number) });
  one.send({ busy }, 60);
  await expect.poll(() => existsSync(busy) && readFileSync(busy, 'utf8') !== '', { timeout: 30_000 }).toBe(true);
  const pid = Number(readFileSync(busy, 'utf8'));
  one.end();
  await expect.poll(() => isAlive(pid), { timeout: 30_000 }).toBe(false);
  expect((one.ask({}, 10) as { reply: number }).reply).not.toBe(pid);
  expect(Number(readFileSync(busy, 'utf8'))).toBe(pid);
});
