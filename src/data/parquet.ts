import { stat } from 'node:fs/promises';
import {
  type AsyncBuffer,
  asyncBufferFromFile,
  parquetMetadataAsync,
  parquetReadObjects,
  parquetSchema,
} from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import { InputError } from '../errors.js';
import { readError } from '../read-file.js';
import type { Row } from './row.js';

/**
 * Streams the rows of a Parquet file, one row group in memory at a time, and of it only the wanted columns.
 * @throws InputError when the file is not whole Parquet
 */
export async function* readParquet(file: string, wanted: readonly string[]): AsyncGenerator<Row> {
  const buffer = await open(file);
  const metadata = await clean(file, () => parquetMetadataAsync(buffer));
  const columns = parquetSchema(metadata).children.map(({ element }) => element.name);
  const read = wanted.filter((column) => columns.includes(column));
  let rowStart = 0;
  for (const group of metadata.row_groups) {
    const rowEnd = rowStart + Number(group.num_rows);
    const options = { file: buffer, metadata, columns: read, rowStart, rowEnd, compressors };
    // With no column at all hyparquet gives no rows; each row is then still there, and lacks everything.
    const rows = read.length > 0 ? await clean(file, () => parquetReadObjects(options), rowStart + 1) : [{}];
    for (const [i, values] of rows.entries())
      yield { at: { file, row: rowStart + i + 1 }, columns, values, untyped: false };
    rowStart = rowEnd;
  }
}

async function open(file: string): Promise<AsyncBuffer> {
  try {
    if ((await stat(file)).isDirectory()) throw new InputError('is a folder, not a file', { at: { file } });
    return await asyncBufferFromFile(file);
  } catch (error) {
    throw readError(file, error);
  }
}

/** hyparquet throws errors of many kinds on a damaged file. */
async function clean<T>(file: string, read: () => Promise<T>, row?: number): Promise<T> {
  try {
    return await read();
  } catch (error) {
    throw new InputError(`cannot be read as Parquet: ${(error as Error).message}`, { at: { file, row }, cause: error });
  }
}
