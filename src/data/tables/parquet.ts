import type { ChildProcess } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { totalmem } from 'node:os';
import { InputError } from '../../errors.js';
import { readError, refuseSpecial } from '../../files/read.js';
import { askBounded, startBounded } from '../../processes/bounded-process.js';
import type { GroupReply, GroupRequest } from './parquet-group.js';
import { type Row, refuseRepeated } from './row.js';

/**
 * Streams the rows of a Parquet file, one row group in memory at a time, and of it only the wanted columns. Lengths and counts
 * in a damaged file may let the reader go on for ever or fill the memory, so it runs in a process that is stopped when it
 * takes more of either than a file of that size can need, and gives the rows in pieces.
 * @throws InputError when the file is not whole Parquet
 */
export async function* readParquet(
  file: string,
  wanted: readonly string[],
  onBytes?: (bytes: number) => void,
): AsyncGenerator<Row> {
  const size = await sizeOf(file);
  const limits = limitsOf(size);
  const header = { file };
  let row = 0;
  let groups = 1;
  for (let group = 0; group < groups; group++) {
    using reader = readerWithin(limits.megabytes);
    for (let request: GroupRequest = { file, wanted, group }, done = false; !done; request = 'more') {
      const read = await reader.ask(request, limits, { file, row: row + 1 });
      if (row === 0) refuseRepeated(read.columns, header);
      ({ groups, done } = read);
      const { columns } = read;
      for (const values of read.rows) yield { at: { file, row: ++row }, columns, header, values, untyped: false };
    }
    onBytes?.((size * (group + 1)) / groups);
  }
}

async function sizeOf(file: string): Promise<number> {
  refuseSpecial(file);
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
/** Seconds of the processor: for any file, and for each MB of it. */
const TIME = { least: 0.5, perMegabyte: 1 };

interface Limits {
  megabytes: number;
  seconds: number;
}

function limitsOf(size: number): Limits {
  const megabytes = size / 2 ** 20;
  const needed = Math.max(LEAST_MEMORY, Math.min(MEMORY_PER_BYTE * megabytes, totalmem() / 2 ** 20));
  return {
    megabytes: 2 ** Math.ceil(Math.log2(needed)),
    seconds: TIME.least + TIME.perMegabyte * megabytes,
  };
}

/** Processes at rest by their limit of memory in MB, for the next row group or file; they do not keep this one. */
const resting = new Map<number, ChildProcess[]>();
/** More are not kept. */
const MOST_RESTING = 2;

/** A process for one row group; then it rests, unless it was ended. */
function readerWithin(limit: number) {
  const atRest = resting.get(limit) ?? [];
  resting.set(limit, atRest);
  const rested = atRest.pop();
  const fresh = () => startBounded(new URL('./parquet-group.js', import.meta.url).href, limit);
  let child = rested ?? fresh();
  child.ref();
  child.channel?.ref();
  child.removeAllListeners('exit');
  let ended = false;
  return {
    async ask(request: GroupRequest, { megabytes, seconds }: Limits, at: { file: string; row: number }) {
      const refuse = (problem: string, fix?: string): never => {
        throw new InputError(`cannot be read as Parquet: ${problem}`, { at, fix });
      };
      const damaged = 'the file is damaged, or else needs smaller row groups';
      let outcome = await askBounded<GroupReply>(child, request, seconds);
      // It may have had the memory of the file before.
      if (outcome === 'ended' && child === rested && request !== 'more') {
        child = fresh();
        outcome = await askBounded<GroupReply>(child, request, seconds);
      }
      ended = typeof outcome === 'string';
      if (outcome === 'late') return refuse(`a row group takes longer than ${seconds.toFixed(1)} s`, damaged);
      if (outcome === 'ended') return refuse(`a row group takes more than ${megabytes} MB`, damaged);
      const { reply } = outcome;
      return 'problem' in reply ? refuse(reply.problem) : reply;
    },
    // Whatever the reason is to stop here, it has given its answer, and waits for the next request.
    [Symbol.dispose]() {
      if (ended) return;
      if (atRest.length >= MOST_RESTING) {
        child.kill('SIGKILL');
        return;
      }
      atRest.push(child);
      child.unref();
      child.channel?.unref();
      child.once('exit', () => atRest.splice(0, atRest.length, ...atRest.filter((other) => other !== child)));
    },
  };
}
