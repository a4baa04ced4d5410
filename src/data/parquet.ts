import { stat } from 'node:fs/promises';
import { totalmem } from 'node:os';
import type { Piscina } from 'piscina';
import { InputError } from '../errors.js';
import { threadPool } from '../parallel.js';
import { readError } from '../read-file.js';
import type { GroupRequest, RowGroup } from './parquet-group.js';
import { type Row, refuseRepeated } from './row.js';

/**
 * Streams the rows of a Parquet file, one row group in memory at a time, and of it only the wanted columns. Lengths and counts
 * in a damaged file may let the reader go on for ever or fill the memory, so it runs in a thread that is stopped when it
 * takes more of either than a file of that size can need.
 * @throws InputError when the file is not whole Parquet
 */
export async function* readParquet(file: string, wanted: readonly string[]): AsyncGenerator<Row> {
  const size = await sizeOf(file);
  let row = 0;
  let groups = 1;
  for (let group = 0; group < groups; group++) {
    const read = await readGroup({ file, wanted, group }, size, row + 1);
    if (group === 0) refuseRepeated(read.columns, { file });
    groups = read.groups;
    for (const values of read.rows) yield { at: { file, row: ++row }, columns: read.columns, values, untyped: false };
  }
}

async function sizeOf(file: string): Promise<number> {
  try {
    const found = await stat(file);
    if (found.isDirectory()) throw new InputError('is a folder, not a file', { at: { file } });
    if (found.size === 0) throw new InputError('is empty', { at: { file } });
    return found.size;
  } catch (error) {
    throw readError(file, error);
  }
}

/** What the values of a row group may take beside each byte of the file: compression rarely saves more than this. */
const MEMORY_PER_BYTE = 64;
/** MB, for any file. */
const LEAST_MEMORY = 256;
/** Seconds: for any file, and for each MB of it. */
const TIME = { least: 10, perMegabyte: 1 };

/** Threads by their limit of memory in MB, kept for the next row group or file; they do not keep the process. */
const pools = new Map<number, Promise<Piscina>>();

async function readGroup(request: GroupRequest, size: number, row: number): Promise<RowGroup> {
  const megabytes = size / 2 ** 20;
  const needed = Math.max(LEAST_MEMORY, Math.min(MEMORY_PER_BYTE * megabytes, totalmem() / 2 ** 20));
  const limit = 2 ** Math.ceil(Math.log2(needed));
  const pool =
    pools.get(limit) ??
    threadPool(new URL('./parquet-group.js', import.meta.url).href, {
      name: 'readRowGroup',
      maxThreads: 2,
      resourceLimits: { maxOldGenerationSizeMb: limit },
    });
  pools.set(limit, pool);
  const seconds = Math.ceil(TIME.least + TIME.perMegabyte * megabytes);
  try {
    return await (await pool).run(request, { signal: AbortSignal.timeout(1000 * seconds) });
  } catch (cause) {
    const { name, code, message } = cause as NodeJS.ErrnoException;
    const limits: Record<string, string> = {
      AbortError: `a row group takes longer than ${seconds} s`,
      ERR_WORKER_OUT_OF_MEMORY: `a row group takes more than ${limit} MB`,
    };
    const problem = limits[name] ?? limits[code ?? ''];
    throw new InputError(`cannot be read as Parquet: ${problem ?? message}`, {
      at: { file: request.file, row },
      fix: problem && 'the file is damaged, or else needs smaller row groups',
      cause,
    });
  }
}
