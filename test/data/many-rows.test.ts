import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, it } from 'vitest';
import { loadPairs } from '../../src/data/pairs/dataset.js';
import { Random } from '../../src/numbers/random.js';
import { temporaryFolder } from '../temporary-folder.js';

const ROWS = 100_000;
setFlagsFromString('--expose-gc');
const gc = runInNewContext('gc') as () => void;
const used = () => {
  gc();
  gc();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
};

it('keeps less than 300 bytes of a pair beside its tokens, reads fast and says how far it is', async () => {
  const file = join(temporaryFolder(), 'many.jsonl');
  const random = Random.stream(1, 'many');
  const ids = (count: number) => Array.from({ length: count }, () => 3 + random.integer(1000));
  const stream = createWriteStream(file);
  for (let i = 0; i < ROWS; i++)
    stream.write(
      `${JSON.stringify({ group: `g${i % 5}`, prompt_ids: [2, ...ids(14)], chosen_ids: ids(9), rejected_ids: ids(9) })}\n`,
    );
  stream.end();
  await once(stream, 'finish');
  const seen: number[] = [];
  const before = used();
  const started = process.cpuUsage();
  const { pairs } = await loadPairs(file, { vocabulary: 1024, bos: 2, onBytes: (bytes) => seen.push(bytes) });
  const { user, system } = process.cpuUsage(started);
  expect((used() - before) / ROWS).toBeLessThan(4 * 33 + 300);
  // 50,000 rows a second where nothing else runs; other tests share the cores here.
  expect(ROWS / ((user + system) / 1e6)).toBeGreaterThan(20_000);
  expect(seen.length).toBeGreaterThan(10);
  expect(seen).toEqual([...seen].sort((a, b) => a - b));
  const [first, last] = [pairs[0], pairs[ROWS - 1]];
  expect([first.id, last.id, last.group, last.weight]).toEqual([`${file}:1`, `${file}:${ROWS}`, 4, 1]);
  expect([last.prompt.length, last.chosen.length, last.rejected.length]).toEqual([15, 9, 9]);
});
