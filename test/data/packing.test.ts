import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { TokenisedPair } from '../../src/data/pairs/dataset.js';
import { type PackedPairs, packPairs, pairLogProbabilities, responseCotangents } from '../../src/data/pairs/packing.js';

const tokens = fc
  .array(fc.integer({ min: 0, max: 2 }), { minLength: 1, maxLength: 3 })
  .map((ids) => Int32Array.from(ids));
// Few different tokens, so that prompts and responses coincide often.
const pairs: fc.Arbitrary<TokenisedPair[]> = fc.array(
  fc.record({
    id: fc.string(),
    group: fc.integer({ min: 0, max: 2 }),
    prompt: tokens,
    chosen: tokens,
    rejected: tokens,
    weight: fc.constant(1),
  }),
  { minLength: 1, maxLength: 12 },
);

/** Every response of a batch with its tree's prompt and group, by walking the layout alone. */
function unpack({ batch, treeGroups }: PackedPairs) {
  const responses: { group: number; prompt: number[]; response: number[] }[] = [];
  let offset = 0;
  const take = (length: number) => {
    offset += length;
    return [...batch.tokens.slice(offset - length, offset)];
  };
  batch.promptLengths.forEach((promptLength, tree) => {
    const prompt = take(promptLength);
    for (let r = 0; r < batch.responseCounts[tree]; r++) {
      const response = take(batch.responseLengths[responses.length]);
      responses.push({ group: treeGroups[tree], prompt, response });
    }
  });
  expect(offset).toBe(batch.tokens.length);
  expect(responses.length).toBe(batch.responseLengths.length);
  return responses;
}

describe('packPairs', () => {
  it('holds every pair: unpacking gives back prompt, responses, group and lengths', () => {
    fc.assert(
      fc.property(pairs, (input) => {
        const packed = packPairs(input, { responses: 'both' });
        const responses = unpack(packed);
        input.forEach((pair, i) => {
          for (const side of ['chosen', 'rejected'] as const)
            expect(responses[packed[side][i]]).toEqual({
              group: pair.group,
              prompt: [...pair.prompt],
              response: [...pair[side]],
            });
          expect(packed.chosenLengths[i]).toBe(pair.chosen.length);
          expect(packed.rejectedLengths[i]).toBe(pair.rejected.length);
        });
      }),
    );
  });

  it('holds nothing twice, nothing unused, and the trees of a group together', () => {
    fc.assert(
      fc.property(pairs, (input) => {
        const packed = packPairs(input, { responses: 'both' });
        const keys = unpack(packed).map((response) => JSON.stringify(response));
        expect(new Set(keys).size).toBe(keys.length);
        expect(new Set([...packed.chosen, ...packed.rejected]).size).toBe(keys.length);
        const trees = new Set(input.map(({ group, prompt }) => `${group}:${prompt}`));
        expect(packed.treeGroups.length).toBe(trees.size);
        expect([...packed.treeGroups]).toEqual([...packed.treeGroups].sort((a, b) => a - b));
      }),
    );
  });

  it('packs chosen responses alone for supervised fine-tuning', () => {
    fc.assert(
      fc.property(pairs, (input) => {
        const packed = packPairs(input, { responses: 'chosen' });
        const responses = unpack(packed);
        expect([packed.rejected.length, packed.rejectedLengths.length]).toEqual([0, 0]);
        expect(new Set(packed.chosen).size).toBe(responses.length);
        input.forEach((pair, i) => {
          expect(responses[packed.chosen[i]].response).toEqual([...pair.chosen]);
        });
      }),
    );
  });

  it('shares a prompt and a response, by hand', () => {
    const pair = (group: number, prompt: number[], chosen: number[], rejected: number[]): TokenisedPair => ({
      id: '',
      group,
      prompt: Int32Array.from(prompt),
      chosen: Int32Array.from(chosen),
      rejected: Int32Array.from(rejected),
      weight: 1,
    });
    const packed = packPairs(
      [pair(1, [2, 9], [5, 1], [6, 1]), pair(0, [2, 9], [5, 1], [6, 1]), pair(1, [2, 9], [7, 1], [5, 1])],
      { responses: 'both' },
    );
    expect(packed.batch).toEqual({
      tokens: Int32Array.of(2, 9, 5, 1, 6, 1, 2, 9, 5, 1, 6, 1, 7, 1),
      promptLengths: Int32Array.of(2, 2),
      responseCounts: Int32Array.of(2, 3),
      responseLengths: Int32Array.of(2, 2, 2, 2, 2),
    });
    expect([packed.treeGroups, packed.chosen, packed.rejected]).toEqual([
      Int32Array.of(0, 1),
      Int32Array.of(2, 0, 4),
      Int32Array.of(3, 1, 2),
    ]);
    // The response shared by pairs 0 and 2 gets the sum of their cotangents.
    const cotangents = responseCotangents(packed, Float64Array.of(1, 2, 4), Float64Array.of(8, 16, 32));
    expect([...cotangents]).toEqual([2, 16, 1 + 32, 8, 4]);
  });

  it('makes cotangents the transpose of the gather: <gather(l), c> = <l, scatter(c)>', () => {
    const number = fc.integer({ min: -1000, max: 1000 });
    fc.assert(
      fc.property(pairs, fc.infiniteStream(number), (input, numbers) => {
        const packed = packPairs(input, { responses: 'both' });
        const draw = (length: number) => Float64Array.from([...numbers.take(length)]);
        const logps = draw(packed.batch.responseLengths.length);
        const [chosen, rejected] = [draw(input.length), draw(input.length)];
        const dot = (a: Float64Array, b: Float64Array) => a.reduce((sum, value, i) => sum + value * b[i], 0);
        const gathered = pairLogProbabilities(packed, logps);
        expect(dot(gathered.chosen, chosen) + dot(gathered.rejected, rejected)).toBe(
          dot(logps, responseCotangents(packed, chosen, rejected)),
        );
      }),
    );
  });
});
