import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { ReferenceCache } from '../../src/train/reference-cache.js';
import { Reference, scoringBatches } from '../../src/train/scoring.js';
import { memoryTeam } from '../distributed/memory-team.js';
import { temporaryFolder } from '../temporary-folder.js';
import { dataset, UnigramPolicy } from './unigram-policy.js';

/** The cache of a team, which is kept under the identity of rank 0. */

const data = dataset(
  Array.from({ length: 6 }, (_, i): [number, number[], number[], number] => [i % 2, [i % 5, 1], [3], 1]),
);

const identity = (device: string, processor: string) => ({
  settings: { device, threads: 1 },
  native: { torchVersion: '2', cudaDevices: 1 },
  environment: [['CUDA_VISIBLE_DEVICES', device.slice(-1)]],
  processor,
});

let folders = 0;
/** What is kept, and what is said by rank 0, where each process of two is of one of these identities. */
async function kept(identities: readonly Record<string, unknown>[]) {
  const folder = join(temporaryFolder(), `${folders++}`);
  const said: string[] = [];
  await Promise.all(
    memoryTeam(2).map(async (team, rank) => {
      const warn = (text: string) => {
        if (rank === 0) said.push(text);
      };
      const cache = new ReferenceCache(async () => identities[rank], warn, folder);
      const reference = new Reference(new UnigramPolicy(), { cache, team });
      for (const maxPairs of [1, 2])
        await reference.score({ ...data, file: 'made.jsonl' }, scoringBatches(data, { maxPairs }));
    }),
  );
  return { files: existsSync(folder) ? readdirSync(folder).length : 0, said };
}

it('keeps scores of a team where all compute alike, each on a card of its own', async () => {
  expect(await kept([identity('cuda:0', 'x'), identity('cuda:1', 'x')])).toEqual({ files: 2, said: [] });
});

it.each([
  ['processor', identity('cpu', 'y')],
  ['kind of device', identity('cuda:0', 'x')],
])('keeps none where one has another %s, and says so once', async (_, other) => {
  const { files, said } = await kept([identity('cpu', 'x'), other]);
  expect(files).toBe(0);
  expect(said).toHaveLength(1);
  expect(said[0]).toContain('reference scores are not kept: rank 1 has another');
});
