import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, it } from 'vitest';
import { loadNative } from '../../src/native/load.js';
import type { NativePeers } from '../../src/native/types.js';
import { GemmaPolicy } from '../../src/policy/gemma.js';
import { freePort } from '../distributed/processes.js';

/** c10d through the addon, by several objects of one process: each has a thread of its own. */

const made: NativePeers[] = [];
afterEach(() => {
  for (const peers of made.splice(0)) peers.dispose();
});

/** Met and, unless that is left out, connected. */
async function peersOf(size: number, { timeout = 20_000, connected = true } = {}): Promise<NativePeers[]> {
  const port = await freePort();
  const all = Array.from({ length: size }, () => new (loadNative().Peers)());
  made.push(...all);
  for (const [rank, one] of all.entries()) await one.meet({ address: '127.0.0.1', port, serves: rank === 0, timeout });
  if (!connected) return all;
  for (const one of all) await one.open({ interface: '', address: '127.0.0.1' });
  await Promise.all(all.map((one, rank) => one.connect(rank, size, 'test/')));
  return all;
}

it('keeps values and counts for all, and waits no longer than it is told', async () => {
  const [first, second] = await peersOf(2, { connected: false });
  await first.set('a', Buffer.from('one'));
  expect(Buffer.from(await second.get('a')).toString()).toBe('one');
  expect(await second.wait('a', 1)).toBe(true);
  const start = performance.now();
  expect(await second.wait('b', 300)).toBe(false);
  expect(performance.now() - start).toBeGreaterThan(250);
  const late = second.wait('b', 10_000);
  await first.set('b', new Uint8Array(0));
  expect(await late).toBe(true);
  expect([await first.count('n'), await second.count('n'), await first.count('n')]).toEqual([1, 2, 3]);
});

it('gathers by rank and broadcasts from rank 0, while timers go on', async () => {
  const all = await peersOf(3);
  let ticks = 0;
  const timer = setInterval(() => ticks++, 5);
  const gathered = Promise.all(
    all.map(async (one, rank) => {
      await sleep(rank === 2 ? 500 : 0);
      return one.gather(Uint8Array.of(rank, 10 + rank));
    }),
  );
  for (const one of await gathered)
    expect(one.map((bytes) => [...bytes])).toEqual([
      [0, 10],
      [1, 11],
      [2, 12],
    ]);
  clearInterval(timer);
  expect(ticks).toBeGreaterThan(5);
  const sent = await Promise.all(all.map((one, rank) => one.broadcast(Uint8Array.of(7 * (rank + 1), 9))));
  for (const bytes of sent) expect([...bytes]).toEqual([7, 9]);
  expect(all.map((one) => one.traffic().bytes)).toEqual([4, 2, 2]);
});

it('a lost process is an error of code PEER, at once or after the timeout', async () => {
  const [first, second] = await peersOf(2, { timeout: 1500 });
  const broken = expect(first.gather(Uint8Array.of(1))).rejects.toMatchObject({ code: 'PEER' });
  await second.disconnect(false);
  await broken;
  const [third] = await peersOf(2, { timeout: 1500 });
  const start = performance.now();
  await expect(third.gather(Uint8Array.of(1))).rejects.toMatchObject({
    code: 'PEER',
    message: /1500ms|[Tt]imed? ?out/,
  });
  expect(performance.now() - start).toBeGreaterThan(1200);
});

it('rejects what does not come in order', async () => {
  const peers = new (loadNative().Peers)();
  made.push(peers);
  await expect(peers.set('a', Uint8Array.of(1))).rejects.toMatchObject({ code: 'NATIVE_INPUT' });
  expect(() => peers.traffic()).toThrow('meet() comes first');
  const [met] = await peersOf(1, { connected: false });
  await expect(met.connect(0, 1, '')).rejects.toThrow('open() comes first');
});

it('a step on two models with halves of the batch is the step on one with the whole, and the same bits on both', async () => {
  const pair = await peersOf(2);
  const batch = (start: number) => ({
    tokens: Int32Array.of(2, start, start + 1, 1, start + 5, 1),
    promptLengths: Int32Array.of(2),
    responseCounts: Int32Array.of(2),
    responseLengths: Int32Array.of(2, 2),
  });
  const open = async () => {
    const policy = await GemmaPolicy.open('random:tiny?layers=1', { device: 'cpu', threads: 1, dtype: 'float64' });
    await policy.addAdapter({ rank: 2, alpha: 8 }, { seed: 3, accumulators: 2 });
    return policy;
  };
  const add = async (policy: GemmaPolicy, start: number, group: number) => {
    await policy.forward(batch(start));
    await policy.backward(Float64Array.of(1, -0.5), Int32Array.of(group));
  };
  const values = async (policy: GemmaPolicy) => {
    const all: number[] = [];
    for (const { name } of policy.native.trainable()) all.push(...(await policy.native.readTrainable(name)));
    return all;
  };
  const coefficients = Float64Array.of(0.3, 0.7);
  const step = { learningRate: 0.01, maxGradNorm: 0.5 };
  using alone = await open();
  using left = await open();
  using right = await open();
  left.stepWith(pair[0]);
  right.stepWith(pair[1]);
  for (let n = 0; n < 3; n++) {
    await add(alone, 10 + n, 0);
    await add(alone, 50 + n, 1);
    await add(left, 10 + n, 0);
    // A process may have none of a group.
    await add(right, 50 + n, 1);
    const { gradNorm } = await alone.step(coefficients, step);
    const both = await Promise.all([left.step(coefficients, step), right.step(coefficients, step)]);
    expect(both[0]).toEqual(both[1]);
    expect(both[0].gradNorm).toBeCloseTo(gradNorm, 10);
  }
  expect(await values(left)).toEqual(await values(right));
  const expected = await values(alone);
  (await values(left)).forEach((value, i) => {
    expect(value).toBeCloseTo(expected[i], 10);
  });
  // Numbers: each gives its gradient once a step.
  expect(pair[0].traffic().bytes).toBe(3 * 8 * expected.length);
});
