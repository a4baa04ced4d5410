import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { staleSeconds, takeLock } from '../../src/files/lock.js';
import { lockRun } from '../../src/train/run-lock.js';
import { temporaryFolder } from '../temporary-folder.js';

let folder: string;
let lock: string;
beforeEach(() => {
  folder = temporaryFolder();
  lock = join(folder, 'held.lock');
});

const refuse = (holder?: { pid: number; host: string }) => new Error(`held by ${holder?.pid}`);
const take = () => takeLock(lock, () => {}, refuse);

/** A process that takes the lock, says so, and keeps it. */
const program = `
  import { takeLock } from ${JSON.stringify(resolve('src/files/lock.ts'))};
  const refuse = (holder) => new Error('held by ' + holder?.pid);
  const held = await takeLock(${JSON.stringify('LOCK')}, () => {}, refuse).catch((error) => console.log(error.message));
  if (held) console.log('taken');
  const end = setTimeout(() => {}, 60_000);
  process.on('SIGUSR2', () => held?.[Symbol.asyncDispose]().then(() => clearTimeout(end)));
`;
function other() {
  const child = spawn(
    process.execPath,
    ['--import', 'tsx', '--input-type=module', '-e', program.replace('LOCK', lock)],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  return {
    child,
    said: new Promise<string>((done) => child.stdout.once('data', (text) => done(String(text).trim()))),
    ended: new Promise((done) => child.once('close', done)),
  };
}

describe('a lock', () => {
  it('is for one holder, and leaves nothing', async () => {
    const first = await take();
    await expect(take()).rejects.toThrow(`held by ${process.pid}`);
    await first[Symbol.asyncDispose]();
    const second = await take();
    await second[Symbol.asyncDispose]();
    expect(readdirSync(folder)).toEqual([]);
  });

  it('is waited for where no error is asked for', async () => {
    const first = await take();
    let had = false;
    const second = takeLock(lock, () => {}).then((held) => {
      had = true;
      return held;
    });
    await new Promise((done) => setTimeout(done, 100));
    expect(had).toBe(false);
    await first[Symbol.asyncDispose]();
    await (await second)[Symbol.asyncDispose]();
  });

  it('of a killed process is taken over at once, and by one alone', async () => {
    const killed = other();
    expect(await killed.said).toBe('taken');
    await expect(take()).rejects.toThrow(`held by ${killed.child.pid}`);
    killed.child.kill('SIGKILL');
    await killed.ended;
    expect(existsSync(lock)).toBe(true);
    const outcomes = await Promise.allSettled(Array.from({ length: 8 }, take));
    expect(outcomes.filter(({ status }) => status === 'fulfilled').length).toBe(1);
    for (const outcome of outcomes) if (outcome.status === 'fulfilled') await outcome.value[Symbol.asyncDispose]();
  });

  it('of a killed process is taken over by one of several processes', async () => {
    const killed = other();
    await killed.said;
    killed.child.kill('SIGKILL');
    await killed.ended;
    const all = Array.from({ length: 4 }, other);
    const said = await Promise.all(all.map((one) => one.said));
    expect(said.filter((text) => text === 'taken').length).toBe(1);
    for (const { child } of all) child.kill('SIGKILL');
    await Promise.all(all.map(({ ended }) => ended));
  });

  it.each(['SIGINT', 'SIGTERM'] as const)('is gone after %s', async (signal) => {
    const stopped = other();
    await stopped.said;
    stopped.child.kill(signal);
    await stopped.ended;
    expect(readdirSync(folder)).toEqual([]);
  });

  it.each([
    ['gives it back', (child: ChildProcess) => child.kill('SIGUSR2')],
    ['ends', (child: ChildProcess) => child.kill('SIGTERM')],
  ])('that another has taken during a standstill stays the other’s when the first one %s', async (_, wake) => {
    const stalled = other();
    expect(await stalled.said).toBe('taken');
    stalled.child.kill('SIGSTOP');
    const past = Date.now() / 1000 - staleSeconds - 5;
    utimesSync(lock, past, past);
    const held = await take();
    expect(held.isOurs()).toBe(true);
    wake(stalled.child);
    stalled.child.kill('SIGCONT');
    await stalled.ended;
    expect(held.isOurs()).toBe(true);
    await held[Symbol.asyncDispose]();
    expect(held.isOurs()).toBe(false);
    expect(readdirSync(folder)).toEqual([]);
  });

  it('of another machine, or another container of this one, counts until its holder has been silent for half a minute', async () => {
    const dead = spawnSync('true').pid;
    mkdirSync(lock);
    writeFileSync(join(lock, `${dead}.0123456789abcdef.elsewhere`), '');
    const silentFor = (seconds: number) => utimesSync(lock, Date.now() / 1000 - seconds, Date.now() / 1000 - seconds);
    silentFor(25);
    await expect(take()).rejects.toThrow(`held by ${dead}`);
    silentFor(35);
    const held = await take();
    expect(readdirSync(lock)).toEqual([expect.stringMatching(new RegExp(`^${process.pid}\\.`))]);
    await held[Symbol.asyncDispose]();
  });
});

describe('a run whose folder is moved away', () => {
  it('may write no more from then on, and is told what has happened', async () => {
    const [run, moved] = [join(folder, 'here'), join(folder, 'there')];
    const held = await lockRun(run);
    writeFileSync(join(run, 'metrics.jsonl'), '');
    renameSync(run, moved);
    expect(() => held.check()).toThrow(/here: has been moved or removed/);
    renameSync(moved, run);
    held.check();
    await held[Symbol.asyncDispose]();
    expect(readdirSync(run)).toEqual(['metrics.jsonl']);
  });
});

describe('a run whose lock another process has taken', () => {
  afterEach(() => {
    vi.useRealTimers();
  });

  it('may write no more', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] });
    const run = join(folder, 'run');
    const held = await lockRun(run);
    held.check();
    // As after a standstill of which the other one has made use.
    rmSync(join(run, '.lock'), { recursive: true });
    const other = join(run, '.lock', `${process.pid + 1}.0123456789abcdef.elsewhere`);
    mkdirSync(join(run, '.lock'));
    writeFileSync(other, '');
    vi.advanceTimersByTime(20_000);
    vi.useRealTimers();
    await vi.waitFor(() => expect(() => held.check()).toThrow(/run: another process has taken this run over/));
    await held[Symbol.asyncDispose]();
    expect(existsSync(other)).toBe(true);
  });
});
