import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects, parquetSchema } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import * as z from 'zod';
import { present } from '../../errors.js';
import { answerRequests } from '../../processes/bounded-child.js';

/** The program of a process of its own, see parquet.ts: it answers each {@link GroupRequest} with a {@link GroupReply}. */

/** A row group from its beginning, or the next piece of it. */
export type GroupRequest =
  | 'more'
  | {
      file: string;
      /** Columns to read, those that there are. */
      wanted: readonly string[];
      /** Which row group, from 0. */
      group: number;
    };

interface RowGroup {
  /** Names of all columns of the file. */
  columns: string[];
  /** Row groups in the file. */
  groups: number;
  rows: Record<string, unknown>[];
}

/** A piece of the row group, or why it cannot be read. */
export type GroupReply = (RowGroup & { done: boolean }) | { problem: string };

/** Bytes, about, of a piece: values that share their memory here do not where they arrive. */
const PIECE = 2 ** 23;
/** Of a row; as a row of CSV may have. */
const LONGEST_ROW = 2 ** 26;

/** hyparquet's own would put U+FFFD in place of what is not UTF-8. */
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const parsers = { stringFromBytes: (bytes: Uint8Array | undefined) => bytes && utf8.decode(bytes) };

/** Reads one row group; past the last one, no rows. */
async function readRowGroup({ file, wanted, group }: Exclude<GroupRequest, 'more'>): Promise<RowGroup> {
  const buffer = await asyncBufferFromFile(file);
  const metadata = await parquetMetadataAsync(buffer);
  const columns = parquetSchema(metadata).children.map(({ element }) => element.name);
  // What a damaged file lacks is undefined here, whatever hyparquet's types say.
  if (columns.some((name) => typeof name !== 'string')) throw new Error('a column has no name');
  const groups = metadata.row_groups.length;
  if (group >= groups) return { columns, groups, rows: [] };
  const { num_rows: count, columns: chunks } = present(metadata.row_groups[group]);
  // A row without a value has one too, which says that it is null.
  if (chunks.some(({ meta_data: chunk }) => chunk && chunk.num_values < count))
    throw new Error(`a column has fewer values than the ${count} rows there should be`);
  const sizes = metadata.row_groups.slice(0, group + 1).map(({ num_rows }) => Number(num_rows));
  const rowEnd = sizes.reduce((sum, size) => sum + size, 0);
  const rowStart = rowEnd - Number(count);
  const read = wanted.filter((column) => columns.includes(column));
  // With no column at all hyparquet gives no rows; each row is then still there, and lacks everything.
  const rows =
    read.length > 0
      ? await parquetReadObjects({ file: buffer, metadata, columns: read, rowStart, rowEnd, compressors, parsers })
      : [{}];
  const labels = classLabels(metadata.key_value_metadata ?? []);
  for (const column of read) {
    const names = labels.get(column);
    if (names) for (const row of rows) row[column] = labelName(row[column], names);
  }
  return { columns, groups, rows };
}

/** Python's datasets writes a ClassLabel as a number, and the names of its values beside the table. */
const labelSchema = z.object({ _type: z.literal('ClassLabel'), names: z.array(z.string()) });

/** Names of the values, by column. */
function classLabels(entries: readonly { key: string; value?: string }[]): Map<string, string[]> {
  const text = entries.find(({ key }) => key === 'huggingface')?.value;
  let features: unknown;
  try {
    features = JSON.parse(text ?? '').info.features;
  } catch {
    // Not what datasets writes: then there are no names.
  }
  const labels = new Map<string, string[]>();
  for (const [column, feature] of Object.entries(features ?? {})) {
    const parsed = labelSchema.safeParse(feature);
    if (parsed.success) labels.set(column, parsed.data.names);
  }
  return labels;
}

/** −1 is a row without label. */
function labelName(value: unknown, names: readonly string[]): unknown {
  if (value == null || Number(value) === -1) return null;
  const name = names[Number(value)];
  if (name === undefined) throw new Error(`the label ${value} is not one of the ${names.length} that have a name`);
  return name;
}

let current: RowGroup = { columns: [], groups: 0, rows: [] };
let given = 0;

async function replyTo(request: GroupRequest): Promise<GroupReply> {
  try {
    if (request !== 'more') {
      current = await readRowGroup(request);
      given = 0;
    }
    const start = given;
    for (let bytes = 0; given < current.rows.length && bytes < PIECE; given++) {
      const size = sizeOf(current.rows[given]);
      if (size > LONGEST_ROW) throw new Error(`row ${given + 1} of a row group takes more than ${LONGEST_ROW} bytes`);
      bytes += size;
    }
    return { ...current, rows: current.rows.slice(start, given), done: given === current.rows.length };
  } catch (error) {
    return { problem: (error as Error).message };
  }
}

/** Bytes that a value takes, about; counting stops where they are too many. */
function sizeOf(value: unknown): number {
  if (typeof value === 'string') return value.length + 8;
  if (ArrayBuffer.isView(value)) return value.byteLength + 8;
  let size = 8;
  if (typeof value === 'object' && value !== null)
    for (const part of Object.values(value)) {
      size += sizeOf(part);
      if (size > LONGEST_ROW) break;
    }
  return size;
}

answerRequests(replyTo);
