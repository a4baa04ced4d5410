import { fork } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { expect, it } from 'vitest';
import { loadPairs } from '../../src/data/pairs/dataset.js';
import { PairParser } from '../../src/data/pairs/pairs.js';
import { readRows } from '../../src/data/tables/rows.js';
import { askBounded, startBounded } from '../../src/processes/bounded-process.js';
import { isAlive } from '../is-alive.js';
import { temporaryFolder } from '../temporary-folder.js';
import { inputError } from './helpers.js';

const folder = temporaryFolder();
const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/preferences/${name}`, import.meta.url));

it('Parquet: a file of 868 bytes with 200 million rows is refused', { timeout: 60_000 }, async () => {
  const error = await inputError(async () => {
    for await (const _ of new PairParser().rows(fixture('bomb-rows.parquet'))) break;
  });
  expect(error.message).toMatch(
    /bomb-rows\.parquet, row 1: cannot be read as Parquet: a row group takes (more|longer) than/,
  );
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

/** A file whose page has a negative length, which leads its reader in a circle, and one that names 2^31 rows. */
const endless = {
  'circle.parquet': () => {
    const bytes = readFileSync(fixture('ids64.parquet'));
    bytes[8] = 72;
    bytes[582] = 3;
    return bytes;
  },
  'rows.parquet': () => {
    const bytes = readFileSync(fixture('ids64.parquet'));
    const at = bytes.length - 660;
    // The zigzag varint of 2^31 in place of that of 2; the metadata's length stands 8 bytes from the end.
    const more = Buffer.concat([
      bytes.subarray(0, at),
      Buffer.from([0x80, 0x80, 0x80, 0x80, 0x10]),
      bytes.subarray(at + 1),
    ]);
    more.writeUInt32LE(bytes.readUInt32LE(bytes.length - 8) + 4, more.length - 8);
    return more;
  },
};

it.each([
  ['circle.parquet', /circle\.parquet, row 1: cannot be read as Parquet: .* takes longer than 0\.5 s\n {2}fix: /],
  [
    'rows.parquet',
    /rows\.parquet, row 1: cannot be read as Parquet: a column has fewer values than the 2147483648 rows/,
  ],
] as const)(
  'Parquet that has no end: %s',
  async (name, message) => {
    const file = join(folder, name);
    writeFileSync(file, endless[name]());
    const error = await inputError(() => loadPairs(file));
    expect(error.message).toMatch(message);
  },
  60_000,
);

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

it('time that a process does not get from a busy machine is not counted', { timeout: 60_000 }, async () => {
  const child = startBounded(new URL('../../src/data/tables/parquet-group.js', import.meta.url).href, 256);
  const request = { file: fixture('ids64.parquet'), wanted: ['group'], group: 0 };
  child.kill('SIGSTOP');
  setTimeout(() => child.kill('SIGCONT'), 3000);
  const outcome = await askBounded(child, request, 1);
  expect(outcome).toMatchObject({ reply: { groups: 1, done: true } });
  child.kill();
});

it('a program that cannot be started is told of by its end', async () => {
  const child = startBounded(pathToFileURL(join(folder, 'none.js')).href, 64);
  expect(await new Promise((done) => child.on('exit', done))).not.toBe(0);
});
