import { type ChildProcess, fork } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { totalmem } from 'node:os';
import { InputError } from '../errors.js';
import { startable } from '../parallel.js';
import { readError, refuseSpecial } from '../read-file.js';
import type { GroupReply, GroupRequest, RowGroup } from './parquet-group.js';
import { type Row, refuseRepeated } from './row.js';

/**
 * Streams the rows of a Parquet file, one row group in memory at a time, and of it only the wanted columns. Lengths and counts
 * in a damaged file may let the reader go on for ever or fill the memory, so it runs in a process that is stopped when it
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
/** Seconds: for any file, and for each MB of it. */
const TIME = { least: 10, perMegabyte: 1 };

/** Processes at rest by their limit of memory in MB, for the next row group or file; they do not keep this one. */
const resting = new Map<number, ChildProcess[]>();
/** More are not kept. */
const MOST_RESTING = 2;

async function readGroup(request: GroupRequest, size: number, row: number): Promise<RowGroup> {
  const megabytes = size / 2 ** 20;
  const needed = Math.max(LEAST_MEMORY, Math.min(MEMORY_PER_BYTE * megabytes, totalmem() / 2 ** 20));
  const limit = 2 ** Math.ceil(Math.log2(needed));
  const seconds = Math.ceil(TIME.least + TIME.perMegabyte * megabytes);
  const refuse = (problem: string, fix?: string): never => {
    throw new InputError(`cannot be read as Parquet: ${problem}`, { at: { file: request.file, row }, fix });
  };
  const damaged = 'the file is damaged, or else needs smaller row groups';
  const reply = await ask(request, limit, seconds);
  if (reply === 'late') return refuse(`a row group takes longer than ${seconds} s`, damaged);
  if (reply === 'ended') return refuse(`a row group takes more than ${limit} MB`, damaged);
  return 'problem' in reply ? refuse(reply.problem) : reply;
}

async function ask(request: GroupRequest, limit: number, seconds: number): Promise<GroupReply | 'late' | 'ended'> {
  const atRest = resting.get(limit) ?? [];
  resting.set(limit, atRest);
  const child = atRest.pop() ?? start(limit);
  child.ref();
  child.channel?.ref();
  let timer: NodeJS.Timeout | undefined;
  const reply = await new Promise<GroupReply | 'late' | 'ended'>((done, fail) => {
    timer = setTimeout(() => done('late'), 1000 * seconds);
    child.once('message', (message) => done(message as GroupReply));
    child.once('exit', () => done('ended'));
    child.once('error', fail);
    child.send(request, (error) => error && done('ended'));
  }).finally(() => clearTimeout(timer));
  child.removeAllListeners();
  if (typeof reply === 'string' || atRest.length >= MOST_RESTING) child.kill('SIGKILL');
  else {
    atRest.push(child);
    child.unref();
    child.channel?.unref();
    child.once('exit', () => atRest.splice(0, atRest.length, ...atRest.filter((other) => other !== child)));
  }
  return reply;
}

function start(limit: number): ChildProcess {
  const { filename, execArgv } = startable(new URL('./parquet-group.js', import.meta.url).href);
  return fork(filename, {
    execArgv: [...execArgv, `--max-old-space-size=${limit}`],
    serialization: 'advanced',
    // Nothing but the answers: Node tells at length of a process that has no memory left.
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  });
}
