import { extname } from 'node:path';
import { InputError } from '../errors.js';
import { readCsv } from './csv.js';
import { type Line, readLines } from './lines.js';

/** Where a row stands: its first line, from 1, or in files without lines its number, from 1. */
export type RowLocation = { file: string } & ({ line: number } | { row: number });

/** One row of a table, whatever the format of its file. */
export interface Row {
  at: RowLocation;
  /** Names of all columns of the row, those that were not asked for too. */
  columns: readonly string[];
  /** By column; BigInt for 64-bit integers of Parquet. */
  values: Record<string, unknown>;
  /** Whether every value is text, as in CSV, so that numbers and lists are still to be parsed. */
  untyped: boolean;
}

/** Line or row number, for messages that already name the file. */
export function rowNumber(at: RowLocation): number {
  return 'line' in at ? at.line : at.row;
}

/**
 * Streams the rows of a file: Parquet (.parquet), CSV with a header (.csv), else JSONL. Memory holds a row, or of Parquet
 * one row group.
 * @param wanted columns to read; of JSONL and CSV all come
 * @throws InputError naming file and line or row
 */
export async function* readRows(file: string, wanted: readonly string[]): AsyncGenerator<Row> {
  const extension = extname(file).toLowerCase();
  if (extension === '.csv') yield* readCsv(file);
  else if (extension !== '.parquet') yield* readJsonLines(file);
  else {
    // Its decompressors take a while to load.
    const { readParquet } = await import('./parquet.js');
    yield* readParquet(file, wanted);
  }
}

async function* readJsonLines(file: string): AsyncGenerator<Row> {
  for await (const line of readLines(file)) if (line.text.trim() !== '') yield parseJsonLine(line, file);
}

/** @throws InputError when the line is not one JSON object */
export function parseJsonLine(line: Line, file: string): Row {
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
  return { at, columns: Object.keys(value), values: value as Record<string, unknown>, untyped: false };
}

/** A value of the user's file in a message, cut where it is long. */
export function describe(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'number' && !Number.isFinite(value)) return String(value);
  const text = JSON.stringify(value, (_, part) => (typeof part === 'bigint' ? Number(part) : part));
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
