import { randomUUID } from 'node:crypto';
import { InputError } from '../errors.js';
import type { NativePeers } from '../native/types.js';
import { Board } from './board.js';

/** Milliseconds between two looks at what may have changed while a process waits. */
const lookEvery = 250;

/** How a process finds the others that were started together with it. */
export interface Meeting<T> {
  rank: number;
  size: number;
  /** What this process says of itself. */
  hello: T;
  /** Whether what another one says fits; those that do not are told so at once. */
  fits(other: T): boolean;
  /** When to give up, as Date.now() has it. */
  end: number;
}

/** What came of it. */
export type Met<T> =
  | { board: Board; prefix: string; members: readonly (T | undefined)[] }
  /** Those that have not come, in the round where there is one. */
  | { board: Board | undefined; missing: readonly number[] };

/**
 * Has the processes of one start find each other. The store may outlive them, after a restart or where a job script has several commands, and
 * launchers count restarts by node: so rank 0 opens a round, the others say in the newest one that they are there, each by a number made up
 * for this start, and rank 0 says whom it has seen. Whoever is not among these has come to a round of the past and waits for the next.
 * @param base before all keys of this job
 * @throws InputError where another process has the same rank
 */
export async function meetInRound<T>(native: NativePeers, base: string, meeting: Meeting<T>): Promise<Met<T>> {
  const own = { nonce: randomUUID(), hello: meeting.hello };
  const lobby = new Board(native, base);
  return meeting.rank === 0
    ? openRound(native, base, lobby, meeting, own)
    : enterRound(native, base, lobby, meeting, own);
}

interface Entry<T> {
  nonce: string;
  hello: T;
}

async function openRound<T>(
  native: NativePeers,
  base: string,
  lobby: Board,
  { size, fits, end }: Meeting<T>,
  own: Entry<T>,
): Promise<Met<T>> {
  const round = await lobby.count('rounds');
  const prefix = `${base}${round}/`;
  const board = new Board(native, prefix);
  await lobby.set('round', round);
  const entries: (Entry<T> | null)[] = Array.from({ length: size }, () => null);
  entries[0] = own;
  for (let rank = 1; rank < size; rank++) {
    while (!(await board.wait(`hello/${rank}`, lookEvery))) {
      if ((await lobby.get<number>('round')) !== round) throw twin(0);
      if (Date.now() > end) return { board, missing: await notThere(board, 1, size) };
    }
    const entry = await board.get<Entry<T>>(`hello/${rank}`);
    entries[rank] = entry;
    // The others would be waited for in vain.
    if (!fits(entry.hello)) break;
  }
  await board.set('members', entries);
  return { board, prefix, members: entries.map((entry) => entry?.hello) };
}

async function enterRound<T>(
  native: NativePeers,
  base: string,
  lobby: Board,
  { rank, size, end }: Meeting<T>,
  own: Entry<T>,
): Promise<Met<T>> {
  let board: Board | undefined;
  for (let entered = 0; ; ) {
    const round = (await lobby.wait('round', lookEvery)) ? await lobby.get<number>('round') : 0;
    const prefix = `${base}${round}/`;
    if (round > entered) {
      entered = round;
      board = new Board(native, prefix);
      await board.set(`hello/${rank}`, own);
    }
    if (board && (await board.wait('members', lookEvery))) {
      const entries = await board.get<(Entry<T> | null)[]>('members');
      if (entries[rank]?.nonce === own.nonce) return { board, prefix, members: entries.map((entry) => entry?.hello) };
      // Of the past, whose values would be there at once.
      await new Promise((done) => setTimeout(done, lookEvery));
    }
    if (board && (await board.get<Entry<T>>(`hello/${rank}`)).nonce !== own.nonce) throw twin(rank);
    if (Date.now() <= end) continue;
    const missing = board && !(await board.wait('members', 1)) ? await notThere(board, 1, size) : [];
    return { board, missing: missing.length > 0 ? missing : [0] };
  }
}

async function notThere(board: Board, from: number, size: number): Promise<number[]> {
  const missing: number[] = [];
  for (let rank = from; rank < size; rank++) if (!(await board.wait(`hello/${rank}`, 1))) missing.push(rank);
  return missing;
}

function twin(rank: number): InputError {
  return new InputError(`is ${rank} of another process in this job too`, {
    at: { field: 'RANK' },
    fix: 'give each process a number of its own, from 0 to WORLD_SIZE - 1',
  });
}
