import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { loadPairs } from '../../src/data/dataset.js';
import { opinionPairs, readSurvey } from '../../src/data/global-opinions.js';
import { openTokenizer } from '../../src/data/tokenizer.js';
import { InputError } from '../../src/errors.js';
import { GemmaPolicy } from '../../src/policy/gemma.js';
import { Random } from '../../src/random.js';
import { mutate } from './mutate.js';

/**
 * Readers on mutated files: each must read the file or throw an InputError; anything else, a crash of the process or
 * memory without bound fails. `FUZZ_INPUTS=100000 npx vitest run test/fuzz` tries that many of each kind; input i is the
 * same in every run.
 */
const inputs = Number(process.env.FUZZ_INPUTS ?? 400);
const timeout = 60_000 + inputs * 50;
/** Inputs in flight: most of the time goes into waiting for other threads. */
const atOnce = 32;
/** More than any reader here may need above what it starts with, in bytes. */
const memoryLimit = 400 * 2 ** 20;

const folder = mkdtempSync(join(tmpdir(), 'fuzz-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function fuzz(kind: string, seeds: Buffer[], read: (file: string) => unknown): Promise<void> {
  const outcomes = { read: 0, refused: 0 };
  const before = process.memoryUsage().rss;
  for (const seed of seeds) {
    const file = join(folder, kind);
    writeFileSync(file, seed);
    await read(file);
  }
  const attempt = async (i: number) => {
    const random = Random.stream(0, 'fuzz', kind, i);
    const file = join(folder, `${i % atOnce}-${kind}`);
    writeFileSync(file, mutate(seeds[random.integer(seeds.length)], random));
    try {
      await read(file);
      outcomes.read++;
    } catch (error) {
      if (!(error instanceof InputError)) throw new Error(`input ${i} of ${kind}`, { cause: error });
      outcomes.refused++;
    }
  };
  for (let first = 0; first < inputs; first += atOnce)
    await Promise.all(Array.from({ length: Math.min(atOnce, inputs - first) }, (_, i) => attempt(first + i)));
  // Linux counts the peak in KiB; macOS, in bytes, would only make this looser.
  expect(process.resourceUsage().maxRSS * 1024 - before).toBeLessThan(memoryLimit);
  // Mutations so mild that all files are good, or so wild that none is, would test little.
  expect(outcomes.refused).toBeGreaterThan(inputs / 10);
  expect(outcomes.read).toBeGreaterThan(inputs / 50);
}

it('safetensors', { timeout }, async () => {
  using policy = await GemmaPolicy.open('random:tiny?layers=1&hidden=8&heads=1&head=8&mlp=8&vocab=16', { threads: 1 });
  await policy.addAdapter({ rank: 1, alpha: 1 });
  const [adapter, state] = [join(folder, 'adapter'), join(folder, 'state')];
  await policy.native.saveAdapter(adapter);
  await policy.saveState(state);
  const isState = (file: string) => readFileSync(file).includes('first_moment');
  await fuzz('file.safetensors', [readFileSync(adapter), readFileSync(state)], (file) =>
    isState(file) ? policy.loadState(file) : loadAdapter(policy, file),
  );
});

async function loadAdapter(policy: GemmaPolicy, file: string): Promise<void> {
  await policy.native.loadAdapter(file).catch((error) => {
    // What GemmaPolicy makes of it; its own method wants a whole PEFT folder.
    throw error.code === 'NATIVE_INPUT' ? new InputError(error.message, { cause: error }) : error;
  });
}

it('GlobalOpinionQA', { timeout }, async () => {
  const rows = [
    `"Is ""it"" so?","defaultdict(<class 'list'>, {'Nigeria': [0.5, 0.25, 0.25], 'Egypt': [1.0, 0.0, 0]})","['Yes', 'No', ""Don't know""]",GAS`,
    `"Which,\nthen?","{'Nigeria': [nan, 1e-3], 'India (Current national sample)': [0.1, 0.9]}","['\\xe9', 'b\\n']",WVS`,
    `Why?,"{'Nigeria': [0.2, 0.8]}","[1, 2.5]",GAS`,
  ];
  const seed = Buffer.from(`question,selections,options,source\n${rows.join('\n')}\n`);
  const good = Buffer.from(`question,selections,options,source\n${rows[0]}\n${rows[2]}\n`);
  await fuzz('survey.csv', [good, seed], (file) =>
    opinionPairs(readSurvey(file), { groups: ['Nigeria'], seed: 1, skipBadRows: true }),
  );
});

it('JSONL', { timeout }, async () => {
  const ids = { group: 'a', prompt_ids: [2, 17, 400], chosen_ids: [5, 1], rejected_ids: [6, 1], weight: 2 };
  const text = { group: 'b', prompt: 'Is it so?\n', chosen: 'Yes é 😀', rejected: 'No', note: [{ x: null }] };
  const lines = (...records: object[]) => Buffer.from(records.map((record) => `${JSON.stringify(record)}\n`).join(''));
  const tokenizer = openTokenizer('random:tiny');
  await fuzz('pairs.jsonl', [lines(ids), lines(text), lines(ids, text, ids)], (file) =>
    loadPairs(file, { tokenizer: () => tokenizer, vocabulary: 1024, bos: 2, maxLength: 100 }),
  );
});
