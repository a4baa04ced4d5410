import { symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { resolveConfig } from '../../src/train/config.js';
import { pairReader, readRunData } from '../../src/train/inputs.js';
import { temporaryFolder } from '../temporary-folder.js';

const folder = temporaryFolder();

/** A file with one pair of each of these groups. */
function pairsOf(name: string, groups: string[]): string {
  const file = join(folder, name);
  const rows = groups.map((group) => ({ group, prompt_ids: [2, 5], chosen_ids: [6], rejected_ids: [7] }));
  writeFileSync(file, rows.map((row) => JSON.stringify(row)).join('\n'));
  return file;
}

function read(splits: Record<string, string>, changes: object = {}) {
  const { data } = resolveConfig({
    model: 'random:tiny',
    output: 'none',
    data: { ...splits, ...changes },
    objective: { loss: 'sft' },
    steps: 1,
  });
  return readRunData(pairReader('random:tiny', { config: { vocabulary: 100 }, bos: 2 } as never), data);
}

describe('the splits of a run', () => {
  const train = pairsOf('train.jsonl', ['b', 'a', 'c']);

  it.each(['validation', 'test'] as const)('share the groups of training and their order: %s', async (split) => {
    const data = await read({ train, [split]: pairsOf('other.jsonl', ['c', 'b', 'b']) });
    expect(data[split]?.groups).toEqual(['b', 'a', 'c']);
    expect(data[split]?.counts).toEqual([2, 0, 1]);
    expect(data.warnings.join()).toContain('"a"');
  });

  it.each(['validation', 'test'])('have no group of their own: %s', async (split) => {
    const file = pairsOf('strange.jsonl', ['a', 'd']);
    await expect(read({ train, [split]: file })).rejects.toThrow(/strange\.jsonl:2.*"d" is not one of the groups/);
  });

  it('have the order of data.groups where that is given, and no pair of another group', async () => {
    expect((await read({ train }, { groups: ['c', 'b', 'a'] })).train.groups).toEqual(['c', 'b', 'a']);
    await expect(read({ train }, { groups: ['a', 'b'] })).rejects.toThrow(/:3.*"c" is not one of the groups/);
    await expect(read({ train }, { groups: ['a', 'b', 'c', 'd'] })).rejects.toThrow(/no usable pair of group "d"/);
  });

  it('are told of when they have pairs in common, under whatever name', async () => {
    const known = (split: string, of: string) =>
      expect.stringMatching(new RegExp(`${split}: .* pairs stand in data\\.${of} too`));
    symlinkSync(train, join(folder, 'linked.jsonl'));
    const linked = join(folder, 'linked.jsonl');
    expect((await read({ train, validation: linked })).warnings).toEqual([known('linked.jsonl', 'train')]);
    const [one, other] = ['one.jsonl', 'other.jsonl'].map((name) => join(folder, name));
    const row = (...ids: number[]) => ({
      group: 'a',
      prompt_ids: [2, 5],
      chosen_ids: [ids[0]],
      rejected_ids: [ids[1]],
    });
    // Neither what is labelled otherwise nor what has another prompt is the same pair.
    const more = [
      row(7, 6),
      { ...row(6, 7), prompt_ids: [2, 5, 6] },
      { ...row(6, 7), prompt_ids: [2], chosen_ids: [5, 6] },
    ];
    writeFileSync(one, more.map((each) => JSON.stringify(each)).join('\n'));
    writeFileSync(other, [row(6, 7), row(6, 7), ...more].map((each) => JSON.stringify(each)).join('\n'));
    const { warnings } = await read({ train, validation: one, test: other }, { groups: ['a', 'b', 'c'] });
    expect(warnings.filter((text) => text.includes('pairs stand in'))).toEqual([
      `${other}: 2 of 5 pairs stand in data.train too, so its evaluation is not one of new pairs`,
      `${other}: 3 of 5 pairs stand in data.validation too, so test figures are not independent of choices made`,
    ]);
  });
});
