import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import type { PairDataset, TokenisedPair } from '../../src/data/pairs/dataset.js';
import type { NativeBatch } from '../../src/native/types.js';
import type { LogProbabilitySource, Policy } from '../../src/policy/policy.js';
import { ReferenceCache } from '../../src/train/reference-cache.js';
import { packBatch, packForScoring, Reference, scoringBatches } from '../../src/train/scoring.js';
import { temporaryFolder } from '../temporary-folder.js';

function dataset(rows: Pick<TokenisedPair, 'group' | 'prompt' | 'chosen' | 'rejected'>[]): PairDataset {
  return {
    file: 'made.jsonl',
    groups: ['a', 'b', 'c'],
    pairs: rows.map((row, i) => ({ ...row, id: `made.jsonl:${i + 1}`, weight: 1 })),
    counts: [0, 1, 2].map((g) => rows.filter(({ group }) => group === g).length),
    report: {
      dropped: { empty: 0, degenerate: 0, tooLong: 0 },
      boundaryDiffers: { count: 0, firstLines: [] },
      warnings: [],
    },
  };
}

const ids = (...tokens: number[]) => Int32Array.from(tokens);
const span = (length: number, first: number) => Int32Array.from({ length }, (_, i) => first + i);

/** A policy that counts: the score of a response is minus its length times its tree's first token, plus 1/3. */
class CountingPolicy implements Policy<NativeBatch> {
  batches: NativeBatch[] = [];
  logProbabilities(batch: NativeBatch, source: LogProbabilitySource) {
    expect(source).toBe('reference');
    this.batches.push(batch);
    const scores: number[] = [];
    let offset = 0;
    batch.promptLengths.forEach((length, tree) => {
      const first = batch.tokens[offset];
      offset += length;
      for (let r = 0; r < batch.responseCounts[tree]; r++) {
        const size = batch.responseLengths[scores.length];
        scores.push(-size * first + 1 / 3);
        offset += size;
      }
    });
    return Float64Array.from(scores);
  }
  forward = () => expect.unreachable();
  backward = () => expect.unreachable();
  discardGradients = () => expect.unreachable();
  step = () => expect.unreachable();
}

describe('scoringBatches', () => {
  const tokens = (longest: number) =>
    fc.array(fc.integer({ min: 0, max: 1 }), { minLength: 1, maxLength: longest }).map((list) => Int32Array.from(list));
  const pairs = fc.array(
    fc.record({
      group: fc.integer({ min: 0, max: 2 }),
      prompt: tokens(3),
      chosen: fc.integer({ min: 1, max: 700 }).map((length) => span(length, 0)),
      rejected: fc.integer({ min: 1, max: 700 }).map((length) => span(length, 1)),
    }),
    { minLength: 1, maxLength: 30 },
  );

  it.each([
    [1024, undefined],
    [1024, 'cpu'],
    [8192, 'cuda:1'],
  ])(
    'holds every pair once, at most %i tokens (%s) or one pair, and parts a prompt only where it must',
    (limit, device) => {
      fc.assert(
        fc.property(pairs, fc.option(fc.integer({ min: 1, max: 5 }), { nil: undefined }), (rows, maxPairs) => {
          const data = dataset(rows);
          const batches = scoringBatches(data, { maxPairs, device });
          expect(batches.flatMap((batch) => [...batch]).sort((a, b) => a - b)).toEqual([...rows.keys()]);
          const most = maxPairs ?? Number.POSITIVE_INFINITY;
          for (const batch of batches) {
            expect(batch.length).toBeLessThanOrEqual(most);
            if (batch.length > 1) expect(packForScoring(data, batch).batch.tokens.length).toBeLessThanOrEqual(limit);
          }
          for (const prompt of new Set(rows.map((row) => row.prompt.join()))) {
            const members = [...rows.keys()].filter((i) => rows[i].prompt.join() === prompt);
            const size = members.reduce(
              (sum, i) => sum + rows[i].chosen.length + rows[i].rejected.length,
              rows[members[0]].prompt.length,
            );
            const homes = batches.filter((batch) => batch.some((pair) => members.includes(pair)));
            if (size <= limit && members.length <= most) expect(homes).toHaveLength(1);
          }
        }),
      );
    },
  );

  it('takes eight times as many tokens at once on a GPU', () => {
    const data = dataset(
      Array.from({ length: 64 }, (_, i) => ({
        group: 0,
        prompt: span(126, 1000 * i),
        chosen: ids(1),
        rejected: ids(2),
      })),
    );
    for (const [device, pairs] of [
      ['cpu', 8],
      ['cuda:0', 64],
    ] as const)
      expect(scoringBatches(data, { device }).map(({ length }) => length)).toEqual(Array(64 / pairs).fill(pairs));
  });

  it('depends on the pairs alone, not on their groups', () => {
    fc.assert(
      fc.property(pairs, (rows) => {
        const other = dataset(rows.map((row) => ({ ...row, group: 2 - row.group })));
        const data = dataset(rows);
        expect(scoringBatches(other)).toEqual(scoringBatches(data));
        for (const batch of scoringBatches(data))
          expect(packForScoring(other, batch).batch).toEqual(packForScoring(data, batch).batch);
      }),
    );
  });

  it('computes the prompt of a question once for all its pairs: tokens counted', () => {
    // 3 questions of 50 tokens with 4 answers of 2 tokens, and 4 of the 6 pairs of them, as --multi-pair makes them; pair
    // k of every question first, so that pairs of one question lie apart in the file.
    const answers = [0, 1, 2, 3].map((a) => ids(60 + a, 1));
    const ranked = [
      [0, 1],
      [0, 3],
      [1, 2],
      [2, 3],
    ];
    const question = (q: number) => span(50, 100 * (q + 1));
    const rows = (groups: number[]) =>
      ranked.flatMap(([w, l]) =>
        groups.map((group, q) => ({ group, prompt: question(q), chosen: answers[w], rejected: answers[l] })),
      );
    const once = 3 * (50 + 4 * 2);
    const asPairs = 12 * (50 + 2 + 2);
    const tokensOf = (data: PairDataset) =>
      scoringBatches(data).reduce((sum, batch) => sum + packForScoring(data, batch).batch.tokens.length, 0);
    expect(tokensOf(dataset(rows([0, 0, 1])))).toBe(once);
    expect(asPairs / once).toBeGreaterThan(3.7);
    // A training batch keeps the groups apart, and shares within them.
    const mixed = dataset([...rows([0, 0, 1]), ...rows([2, 0, 1])]);
    expect(tokensOf(mixed)).toBe(once);
    expect(packBatch(mixed, [...mixed.pairs.keys()], 'both').batch.tokens.length).toBe(once + 50 + 4 * 2);
  });
});

describe('reference scores', () => {
  let folder: string;
  let warnings: string[];
  beforeEach(() => {
    folder = temporaryFolder();
    warnings = [];
  });

  const cache = (identity: Record<string, unknown> = { model: 1 }) =>
    new ReferenceCache(
      async () => identity,
      (text) => warnings.push(text),
      join(folder, 'reference'),
    );
  // 10 pairs of 5 prompts, each prompt 300 tokens: two batches of three and two prompts.
  const data = dataset(
    Array.from({ length: 10 }, (_, i) => ({
      group: i % 3,
      prompt: span(300, 1 + (i % 5)),
      chosen: span(1 + i, 3),
      rejected: span(2, 40 + i),
    })),
  );
  const everything = [...data.pairs.keys()];

  async function score(options: { cache?: ReferenceCache; set?: PairDataset } = {}) {
    const policy = new CountingPolicy();
    const reference = new Reference(policy, { cache: options.cache });
    const set = options.set ?? data;
    const scores = await reference.score(set, scoringBatches(set));
    const none = new Float64Array(everything.length);
    const { referenceChosen, referenceRejected } = scores.addTo(
      { chosen: none, chosenLengths: new Int32Array(none.length) },
      everything,
    );
    expect(reference.forwardPasses).toBe(policy.batches.length);
    return { forwardPasses: reference.forwardPasses, columns: [referenceChosen, referenceRejected] };
  }
  const files = () => readdirSync(join(folder, 'reference')).map((name) => join(folder, 'reference', name));

  it('are those of each pair, with and without a cache, cold and warm; warm takes no forward pass', async () => {
    const expected = [
      Float64Array.from(data.pairs, ({ prompt, chosen }) => -chosen.length * prompt[0] + 1 / 3),
      Float64Array.from(data.pairs, ({ prompt }) => -2 * prompt[0] + 1 / 3),
    ];
    expect(await score()).toEqual({ forwardPasses: 2, columns: expected });
    expect(await score({ cache: cache() })).toEqual({ forwardPasses: 2, columns: expected });
    expect(await score({ cache: cache() })).toEqual({ forwardPasses: 0, columns: expected });
    expect(warnings).toEqual([]);
    expect(files()).toHaveLength(1);
    // 10 chosen and 10 rejected responses, no two alike under one prompt.
    expect(readFileSync(files()[0]).length).toBe(40 + 8 * 20);
  });

  it.each<[string, (file: string) => void]>([
    ['a flipped bit', (file) => flip(file, -5)],
    ['a flipped bit of the checksum', (file) => flip(file, 20)],
    ['another version', (file) => flip(file, 7)],
    ['a score missing', (file) => truncateSync(file, 40 + 8 * 19)],
    ['a cut score', (file) => truncateSync(file, 40 + 8 * 19 + 3)],
    ['a cut header', (file) => truncateSync(file, 10)],
    ['no content', (file) => truncateSync(file, 0)],
  ])('are computed again, with a warning, where the file has %s', async (_, spoil) => {
    const { columns } = await score({ cache: cache() });
    const [file] = files();
    const whole = readFileSync(file);
    spoil(file);
    expect(await score({ cache: cache() })).toEqual({ forwardPasses: 2, columns });
    expect(warnings).toEqual([expect.stringContaining(`${file} is damaged`)]);
    expect(readFileSync(file)).toEqual(whole);
    expect((await score({ cache: cache() })).forwardPasses).toBe(0);
  });

  it('are not taken from a whole file under the wrong name', async () => {
    await score({ cache: cache({ model: 2 }) });
    const [wrong] = files();
    const { file } = await cache().entry(scoringBatches(data).map((batch) => packForScoring(data, batch).batch));
    renameSync(wrong, file);
    expect((await score({ cache: cache() })).forwardPasses).toBe(2);
    expect(warnings).toHaveLength(1);
  });

  it.each(['stopped', 'failed'])('of a run that was %s are gone on from, batch by batch', async (how) => {
    const { columns } = await score();
    const policy = new CountingPolicy();
    const stop = () => {
      if (policy.batches.length === 1) throw new Error('enough');
    };
    const scoreBatch = policy.logProbabilities.bind(policy);
    if (how === 'failed')
      policy.logProbabilities = (...args) => {
        stop();
        return scoreBatch(...args);
      };
    const reference = new Reference(policy, { cache: cache(), pause: how === 'stopped' ? stop : undefined });
    await expect(reference.score(data, scoringBatches(data))).rejects.toThrow('enough');
    // Three prompts with two pairs each.
    expect(readFileSync(files()[0]).length).toBe(40 + 8 * 12);
    expect(await score({ cache: cache() })).toEqual({ forwardPasses: 1, columns });
    expect(await score({ cache: cache() })).toEqual({ forwardPasses: 0, columns });
    expect(warnings).toEqual([]);
  });

  it('do without a cache that cannot be written or read, and say so', async () => {
    writeFileSync(join(folder, 'reference'), 'a file where the folder should be');
    expect((await score({ cache: cache() })).forwardPasses).toBe(2);
    expect(warnings).toEqual([expect.stringContaining('not kept')]);
    rmSync(join(folder, 'reference'));
    const { file } = await cache().entry(scoringBatches(data).map((batch) => packForScoring(data, batch).batch));
    mkdirSync(file, { recursive: true });
    expect((await score({ cache: cache() })).forwardPasses).toBe(2);
    expect(warnings[1]).toContain('not read');
  });

  it('are whole whichever of many writers comes last', async () => {
    const runs = await Promise.all(Array.from({ length: 8 }, () => score({ cache: cache() })));
    for (const run of runs) expect(run.columns).toEqual(runs[0].columns);
    expect(files()).toHaveLength(1);
    expect((await score({ cache: cache() })).forwardPasses).toBe(0);
    expect(existsSync(files()[0])).toBe(true);
  });

  it('have a key of everything that changes them, and of nothing else', async () => {
    const keyOf = async (set: PairDataset, identity?: Record<string, unknown>, maxPairs?: number) =>
      (await cache(identity).entry(scoringBatches(set, { maxPairs }).map((batch) => packForScoring(set, batch).batch)))
        .file;
    const changed = (change: (pairs: TokenisedPair[]) => TokenisedPair[]): PairDataset => ({
      ...data,
      pairs: change(data.pairs.map((pair) => ({ ...pair }))),
    });
    const withPair = (part: Partial<TokenisedPair>) => changed(([first, ...rest]) => [{ ...first, ...part }, ...rest]);
    const { prompt, chosen, rejected } = data.pairs[0];
    const keys = await Promise.all([
      keyOf(data),
      keyOf(data, { model: 2 }),
      // Other tokens, as another tokenizer, template, length limit or edited file gives them.
      keyOf(withPair({ prompt: ids(...prompt, 7) })),
      keyOf(withPair({ prompt: ids(9, ...prompt.slice(1)) })),
      keyOf(withPair({ chosen: ids(...chosen, 7) })),
      keyOf(withPair({ rejected: ids(8, ...rejected.slice(1)) })),
      // The same ids in the same order, the boundary of prompt and response elsewhere.
      keyOf(withPair({ prompt: prompt.slice(0, -1), chosen: ids(prompt[299], ...chosen) })),
      keyOf(changed((pairs) => pairs.slice(1))),
      keyOf(changed((pairs) => [...pairs].reverse())),
      // Other batches are rounded otherwise.
      keyOf(data, undefined, 1),
    ]);
    expect(new Set(keys).size).toBe(keys.length);
    const same = changed((pairs) => pairs.map((pair) => ({ ...pair, group: 0, weight: 2, id: 'elsewhere' })));
    expect(await keyOf({ ...same, file: 'copy.jsonl', groups: ['z'] })).toBe(keys[0]);
  });
});

/** Flips one bit of the byte at `offset`, from the end where negative. */
function flip(file: string, offset: number): void {
  const bytes = readFileSync(file);
  bytes[offset < 0 ? bytes.length + offset : offset] ^= 4;
  writeFileSync(file, bytes);
}
