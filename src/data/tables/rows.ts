import { extname } from 'node:path';
import { InputError } from '../../errors.js';
import { checkUnchanged, stateOf } from '../../files/opened-file.js';
import { parseJson, readBytes } from '../../files/read.js';
import { readCsv } from './csv.js';
import { type Line, splitLines } from './lines.js';
import { type BadRowHandler, describe, type Row, refuseBadRow } from './row.js';

export interface ReadRowsOptions {
  /** Told of rows that cannot be read; by default they are refused. */
  badRow?: BadRowHandler;
  /** Told how much of the file has been read. */
  onBytes?: (bytes: number) => void;
}

/**
 * Streams the rows of a file: Parquet (.parquet), CSV with a header (.csv), else JSONL. Memory holds a row, or of Parquet
 * one row group.
 * @param wanted columns to read; of JSONL and CSV all come
 * @throws InputError naming file and line or row; also where the file changes meanwhile, so that rows are of two files
 */
export async function* readRows(
  file: string,
  wanted: readonly string[],
  options: ReadRowsOptions = {},
): AsyncGenerator<Row> {
  const before = stateOf(file);
  yield* rowsOf(file, wanted, options);
  if (before) checkUnchanged([before]);
}

async function* rowsOf(file: string, wanted: readonly string[], options: ReadRowsOptions): AsyncGenerator<Row> {
  if (isParquet(file)) {
    // Its decompressors take a while to load.
    const { readParquet } = await import('./parquet.js');
    yield* readParquet(file, wanted, options.onBytes);
  } else if (hasEnding(file, '.csv')) yield* readCsv(file, readBytes(file, options.onBytes), options.badRow);
  else yield* readJsonLines(file, options);
}

export function isParquet(file: string): boolean {
  return hasEnding(file, '.parquet');
}

function hasEnding(file: string, ending: string): boolean {
  return extname(file).toLowerCase() === ending;
}

async function* readJsonLines(file: string, { badRow = refuseBadRow, onBytes }: ReadRowsOptions): AsyncGenerator<Row> {
  const earlier = new Set<string>();
  for await (const line of splitLines(readBytes(file, onBytes), file)) {
    if (line.text.trim() === '') continue;
    let row: Row;
    try {
      row = parseJsonLine(line, file);
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      badRow(error);
      continue;
    }
    for (const column of row.columns) earlier.add(column);
    row.earlier = earlier;
    yield row;
  }
}

const oneObject = 'write one complete JSON object on each line, not a list of them';

/** @throws InputError when the line is not one JSON object */
export function parseJsonLine(line: Line, file: string): Row {
  const at = { file, line: line.number };
  const value = parseJson(
    line.text,
    at,
    line.number === 1 ? `${oneObject}; the names of tables end in .csv or .parquet` : `${oneObject} (JSON has no NaN)`,
  );
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new InputError(`is ${describe(value)}, not a JSON object`, { at, fix: oneObject });
  return { at, columns: Object.keys(value), values: value as Record<string, unknown>, untyped: false };
}
