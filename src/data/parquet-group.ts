import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects, parquetSchema } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';

/** The program of a process of its own, see parquet.ts: it answers each {@link GroupRequest} with a {@link GroupReply}. */

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

/** The row group, or why it cannot be read. */
export type GroupReply = RowGroup | { problem: string };

/** hyparquet's own would put U+FFFD in place of what is not UTF-8. */
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const parsers = { stringFromBytes: (bytes: Uint8Array | undefined) => bytes && utf8.decode(bytes) };

/** Reads one row group; past the last one, no rows. */
async function readRowGroup({ file, wanted, group }: GroupRequest): Promise<RowGroup> {
  const buffer = await asyncBufferFromFile(file);
  const metadata = await parquetMetadataAsync(buffer);
  const columns = parquetSchema(metadata).children.map(({ element }) => element.name);
  // What a damaged file lacks is undefined here, whatever hyparquet's types say.
  if (columns.some((name) => typeof name !== 'string')) throw new Error('a column has no name');
  const groups = metadata.row_groups.length;
  if (group >= groups) return { columns, groups, rows: [] };
  const { num_rows: count, columns: chunks } = metadata.row_groups[group];
  // A row without a value has one too, which says that it is null.
  if (chunks.some(({ meta_data: chunk }) => chunk && chunk.num_values < count))
    throw new Error(`a column has fewer values than the ${count} rows there should be`);
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

process.on('message', (request: GroupRequest) => {
  readRowGroup(request)
    .catch((error: Error): GroupReply => ({ problem: error.message }))
    .then((reply) => process.send?.(reply));
});
