import { InputError, type InputLocation } from '../errors.js';

/** "2021-2023", "2030" → [2021, 2022, 2023, 2030], each once. @throws InputError */
export function parseSeedItems(items: readonly string[], at: InputLocation): number[] {
  const seeds = items.flatMap((item) => {
    const range = /^(\d+)(?:-(\d+))?$/.exec(item);
    const first = Number(range?.[1]);
    const last = Number(range?.[2] ?? range?.[1]);
    if (!range || last < first || last - first > 100_000 || !Number.isSafeInteger(last))
      throw new InputError(`"${item}" is not a seed or a range of seeds`, { at, fix: 'e.g. 2021-2040' });
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
  return [...new Set(seeds)];
}
