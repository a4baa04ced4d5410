import { InputError, type InputLocation } from '../../errors.js';

/** Where a row stands: its first line, from 1, or in files without lines its number, from 1. */
export type RowLocation = { file: string } & ({ line: number } | { row: number });

/** One row of a table, whatever the format of its file. */
export interface Row {
  at: RowLocation;
  /** Names of all columns of the row, those that were not asked for too. */
  columns: readonly string[];
  /** Where the columns of all rows are named: the header of CSV, the schema of Parquet. Absent where each row names its own. */
  header?: InputLocation;
  /** Where each row names its own columns: those of the rows so far. */
  earlier?: ReadonlySet<string>;
  /** By column; BigInt for 64-bit integers of Parquet. */
  values: Record<string, unknown>;
  /** Whether every value is text, as in CSV, so that numbers and lists are still to be parsed. */
  untyped: boolean;
}

/** What is done with a row that cannot be read; where it returns, reading goes on with the next. */
export type BadRowHandler = (error: InputError) => void;

export const refuseBadRow: BadRowHandler = (error) => {
  throw error;
};

/** Line or row number, for messages that already name the file. */
export function rowNumber(at: RowLocation): number {
  return 'line' in at ? at.line : at.row;
}

/** @throws InputError where two columns have one name, so that it is not known which is meant */
export function refuseRepeated(columns: readonly string[], at: InputLocation): void {
  const repeated = columns.find((name, i) => name !== '' && columns.indexOf(name) !== i);
  if (repeated !== undefined)
    throw new InputError('is the name of two columns', { at: { ...at, field: repeated }, fix: 'rename one' });
}

/** Where the columns of a row are named. */
export function columnsAt({ header, at }: Pick<Row, 'header' | 'at'>): InputLocation {
  return header ?? at;
}

/** @throws InputError where the row has no such column, with those it has */
export function requireColumn(row: Row, field: string, otherwise = `name the column "${field}"`): void {
  if (row.columns.includes(field)) return;
  if (row.earlier?.has(field))
    throw new InputError('is missing here, while rows before this one have it', {
      at: { ...row.at, field },
      fix: 'fill it in, or leave the row out',
    });
  const lookalike = row.columns.find((name) => name.trim().toLowerCase() === field.toLowerCase());
  throw new InputError('there is no such column', {
    at: { ...columnsAt(row), field },
    fix: lookalike
      ? `rename the column "${lookalike}" to "${field}"`
      : `${otherwise} (columns here: ${row.columns.length > 0 ? row.columns.join(', ') : 'none'})`,
  });
}

/**
 * A value that can name somebody or something: text that is not blank, or a number or truth value, as survey codes often are; else undefined.
 * A whole number of JSON beyond 2⁵³ is no name: others were rounded to it.
 */
export function nameOf(value: unknown): string | undefined {
  if (typeof value === 'string') return value.trim() === '' ? undefined : value;
  const isName =
    typeof value === 'bigint' || typeof value === 'boolean' || (Number.isFinite(value) && !isRounded(value));
  return isName ? String(value) : undefined;
}

/** In a message what {@link nameOf} takes for no name. */
export function describeNameless(value: unknown): string {
  return isRounded(value)
    ? `${value}, a whole number with more digits than JSON's numbers keep (quote it)`
    : describe(value);
}

const isRounded = (value: unknown) => Number.isInteger(value) && !Number.isSafeInteger(value);

/** A value that is a list; Parquet's lists of numbers come as typed arrays. Undefined where it is none. */
export function listOf(value: unknown): unknown[] | undefined {
  if (ArrayBuffer.isView(value)) return Array.from(value as unknown as ArrayLike<number | bigint>);
  return Array.isArray(value) ? value : undefined;
}

/** A value of the user's file in a message, cut where it is long. */
export function describe(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'number' && !Number.isFinite(value)) return String(value);
  const text = JSON.stringify(value, (_, part) => (typeof part === 'bigint' ? Number(part) : part));
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

/** JSON can hold half a character, which UTF-8 cannot: it would be read as another one. @throws InputError */
export function checkCharacters(text: string, at: InputLocation): void {
  if (/\p{Surrogate}/u.test(text))
    throw new InputError('contains half of a character: a surrogate such as \\ud83d that stands alone', {
      at,
      fix: 'write the whole character; a text was cut in its midst',
    });
}
