import { fork } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { expect, it } from 'vitest';
import { PairParser } from '../../src/data/pairs/pairs.js';
import { readRows } from '../../src/data/tables/rows.js';
import { startBounded } from '../../src/processes/bounded-process.js';
import { inputError, temporaryFolder } from './helpers.js';

const folder = temporaryFolder();
const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/preferences/${name}`, import.meta.url));

it('Parquet: a file of 868 bytes with 200 million rows is refused', { timeout: 60_000 }, async () => {
  const error = await inputError(async () => {
    for await (const _ of new PairParser().rows(fixture('bomb-rows.parquet'))) break;
  });
  expect(error.message).toMatch(/bomb-rows\.parquet, row 1: cannot be read as Parquet: a row group takes more than/);
});

it('Parquet: rows that share a text of 1 MB come in pieces', { timeout: 60_000 }, async () => {
  const before = process.memoryUsage().rss;
  let rows = 0;
  for await (const { values } of readRows(fixture('bomb-texts.parquet'), ['group', 'prompt'])) {
    expect((values.prompt as string).length).toBe(2 ** 20);
    if (++rows === 100) break;
  }
  expect(process.memoryUsage().rss - before).toBeLessThan(300 * 2 ** 20);
});

/** A process that answers with its id and is then busy for ever, outside the heap where it is asked to fill the memory. */
const busy = join(folder, 'busy.mts');
writeFileSync(
  busy,
  `import { keepBounds } from '${pathToFileURL(resolve('src/processes/bounded-child.ts')).href}';
keepBounds();
process.on('message', (fill) => {
  process.send(process.pid);
  const kept = [];
  setTimeout(() => { for (;;) if (fill) kept.push(Buffer.alloc(2 ** 20, 1)); }, 100);
});`,
);
const tsx = ['--import', 'tsx'];
const isAlive = (pid: number) => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

it('a process that fills the memory outside its heap is ended', { timeout: 60_000 }, async () => {
  const child = fork(busy, [String(process.pid), '100'], { execArgv: tsx });
  child.send(true);
  const signal = await new Promise((done) => child.on('exit', (_, name) => done(name)));
  expect(signal).toBe('SIGKILL');
});

it('a busy process ends with its parent', { timeout: 60_000 }, async () => {
  const parent = join(folder, 'parent.mjs');
  writeFileSync(
    parent,
    `import { fork } from 'node:child_process';
const child = fork(${JSON.stringify(busy)}, [String(process.pid), '100'], { execArgv: ${JSON.stringify(tsx)} });
child.on('message', (pid) => process.send(pid));
child.send(false);`,
  );
  const started = fork(parent, [], { execArgv: [] });
  const pid = await new Promise<number>((done) => started.once('message', (id) => done(id as number)));
  await new Promise((done) => setTimeout(done, 500));
  expect(isAlive(pid)).toBe(true);
  started.kill('SIGKILL');
  await expect.poll(() => isAlive(pid), { timeout: 10_000 }).toBe(false);
});

it('a program that cannot be started is told of by its end', async () => {
  const child = startBounded(pathToFileURL(join(folder, 'none.js')).href, 64);
  expect(await new Promise((done) => child.on('exit', done))).not.toBe(0);
});
