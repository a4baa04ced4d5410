import { InputError, type InputLocation } from '../errors.js';
import { type Line, readLines } from './lines.js';
import { editDistance } from './near-matches.js';

/** A preference as it stands in the file: which response to a prompt a member of `group` preferred. */
export type PreferenceRecord = RecordOrigin &
  (
    | { kind: 'text'; prompt: string; chosen: string; rejected: string }
    /** Token ids, used exactly as given: no BOS or EOS is added. */
    | { kind: 'ids'; prompt: Int32Array; chosen: Int32Array; rejected: Int32Array }
  );

export interface RecordOrigin {
  group: string;
  /** Importance of the pair within its group, ≥ 0, as given (1 where absent). */
  weight: number;
  /** Line of the file, from 1. */
  line: number;
}

export interface ReadPairsOptions {
  /** Field that names the group (default `["group"]`); several fields make their cross product, `country=x/sex=y`. */
  groupBy?: readonly string[];
  /** Ids must be below this, where it is known. */
  vocabulary?: number;
}

/**
 * Streams the preference records of a JSONL file: `{"group", "prompt", "chosen", "rejected", "weight"?}` with text, or
 * `prompt_ids`, `chosen_ids`, `rejected_ids`. Blank lines are skipped, further fields ignored.
 * @throws InputError naming file, line and field
 */
export async function* readPairs(file: string, options: ReadPairsOptions = {}): AsyncGenerator<PreferenceRecord> {
  for await (const line of readLines(file)) if (line.text.trim() !== '') yield parsePair(line, file, options);
}

/** Parses and checks one line of a pairs file. @throws InputError naming file, line and field */
export function parsePair(line: Line, file: string, options: ReadPairsOptions = {}): PreferenceRecord {
  const at = { file, line: line.number };
  let value: unknown;
  try {
    value = JSON.parse(line.text);
  } catch (error) {
    throw new InputError(`is not JSON: ${(error as Error).message}`, {
      at,
      cause: error,
      fix: 'write one complete JSON object on each line (JSON has no NaN or Infinity)',
    });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new InputError(`is ${describe(value)}, not a JSON object`, { at });
  const record = value as Record<string, unknown>;

  const origin = { group: readGroup(record, options.groupBy ?? ['group'], at), weight: readWeight(record, at) };
  const hasIds = ['prompt_ids', 'chosen_ids', 'rejected_ids'].filter((field) => field in record);
  if (hasIds.length === 0) {
    const text = (field: string) => readText(record, field, at);
    const [prompt, chosen, rejected] = [text('prompt'), text('chosen'), text('rejected')];
    return { ...origin, line: line.number, kind: 'text', prompt, chosen, rejected };
  }
  for (const field of ['prompt', 'chosen', 'rejected'])
    if (field in record)
      throw new InputError(`is given beside "${hasIds[0]}"`, {
        at: { ...at, field },
        fix: 'give text or token ids, not both',
      });
  const ids = (field: string) => readIds(record, field, at, options.vocabulary);
  const [prompt, chosen, rejected] = [ids('prompt_ids'), ids('chosen_ids'), ids('rejected_ids')];
  return { ...origin, line: line.number, kind: 'ids', prompt, chosen, rejected };
}

function readGroup(record: Record<string, unknown>, groupBy: readonly string[], at: InputLocation): string {
  const values = groupBy.map((field) => {
    const value = record[field];
    // Numbers are taken as names too: survey codes are often numeric.
    if (typeof value === 'number' && Number.isFinite(value)) return String(value);
    if (typeof value === 'string' && value.trim() !== '') return value;
    throw new InputError(`expected the name of a group, found ${describe(value)}`, { at: { ...at, field } });
  });
  return values.length === 1 ? values[0] : values.map((value, i) => `${groupBy[i]}=${value}`).join('/');
}

function readWeight(record: Record<string, unknown>, at: InputLocation): number {
  if (record.weight === undefined) {
    // The one optional field: a slip of the pen here would change results in silence.
    const misspelt = Object.keys(record).find((field) => editDistance(field.toLowerCase(), 'weight') <= 2);
    if (misspelt === undefined) return 1;
    throw new InputError('is not known, and looks like a misspelt "weight"', {
      at: { ...at, field: misspelt },
      fix: 'write "weight", or give the field a name that is further from it',
    });
  }
  if (typeof record.weight === 'number' && Number.isFinite(record.weight) && record.weight >= 0) return record.weight;
  throw new InputError(`expected a finite number ≥ 0, found ${describe(record.weight)}`, {
    at: { ...at, field: 'weight' },
  });
}

function readText(record: Record<string, unknown>, field: string, at: InputLocation): string {
  const value = record[field];
  if (typeof value !== 'string')
    throw new InputError(`expected text, found ${describe(value)}`, { at: { ...at, field } });
  if (value.trim() === '')
    throw new InputError('is empty', { at: { ...at, field }, fix: 'remove the pair or mend it' });
  return value;
}

function readIds(record: Record<string, unknown>, field: string, at: InputLocation, vocabulary?: number): Int32Array {
  const value = record[field];
  if (!Array.isArray(value))
    throw new InputError(`expected a list of token ids, found ${describe(value)}`, { at: { ...at, field } });
  if (value.length === 0) throw new InputError('is empty', { at: { ...at, field }, fix: 'give at least one token id' });
  const limit = vocabulary ?? 2 ** 31;
  for (const [i, id] of value.entries())
    if (!Number.isInteger(id) || id < 0 || id >= limit)
      throw new InputError(
        `entry ${i} is ${describe(id)}, not a token id${vocabulary === undefined ? '' : ` below the vocabulary's ${vocabulary}`}`,
        { at: { ...at, field } },
      );
  return Int32Array.from(value as number[]);
}

function describe(value: unknown): string {
  if (value === undefined) return 'nothing';
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
