import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects, parquetSchema } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';

/** Runs in a thread of its own, see parquet.ts. What it takes and returns must survive structured cloning. */

export interface GroupRequest {
  file: string;
  /** Columns to read, those that there are. */
  wanted: readonly string[];
  /** Which row group, from 0. */
  group: number;
}

export interface RowGroup {
  /** Names of all columns of the file. */
  columns: string[];
  /** Row groups in the file. */
  groups: number;
  rows: Record<string, unknown>[];
}

/** hyparquet's own would put U+FFFD in place of what is not UTF-8. */
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const parsers = { stringFromBytes: (bytes: Uint8Array | undefined) => bytes && utf8.decode(bytes) };

/** Reads one row group; past the last one, no rows. */
export async function readRowGroup({ file, wanted, group }: GroupRequest): Promise<RowGroup> {
  const buffer = await asyncBufferFromFile(file);
  const metadata = await parquetMetadataAsync(buffer);
  const columns = parquetSchema(metadata).children.map(({ element }) => element.name);
  const groups = metadata.row_groups.length;
  if (group >= groups) return { columns, groups, rows: [] };
  const sizes = metadata.row_groups.slice(0, group + 1).map(({ num_rows }) => Number(num_rows));
  const rowEnd = sizes.reduce((sum, size) => sum + size, 0);
  const rowStart = rowEnd - sizes[group];
  const read = wanted.filter((column) => columns.includes(column));
  // With no column at all hyparquet gives no rows; each row is then still there, and lacks everything.
  const rows =
    read.length > 0
      ? await parquetReadObjects({ file: buffer, metadata, columns: read, rowStart, rowEnd, compressors, parsers })
      : [{}];
  return { columns, groups, rows };
}
