import { present } from '../errors.js';
import type { NativePeers } from '../native/types.js';

/** The processes that do one job together, as the rest of the package knows them. All call the same methods in the same order. */
export interface Team {
  /** Of this process, from 0; that of rank 0 writes all files and speaks. */
  readonly rank: number;
  readonly size: number;
  /** Rank among the processes of this machine. */
  readonly localRank: number;
  /** For sums of gradients; absent where the processes are made up by a test. */
  readonly native?: NativePeers;
  /** How this process is asked to stop; {@link gather} takes the wish to all. */
  signals?: Signals;
  /** What each process has given, by rank; all give as many numbers. */
  gather(numbers: Float64Array): Promise<Float64Array[]>;
  /** A value of plain JSON of each process, by rank. */
  gatherJson<T>(value: T): Promise<T[]>;
  /** The bytes that rank 0 gives; what others give does not count. */
  fromFirst(bytes: Uint8Array | undefined): Promise<Uint8Array>;
}

/** A wish to stop, on its way from the process that was sent a signal to all of them, which obey it at the same place. */
export interface Signals {
  /** The signal that this process was sent; undefined before. */
  readonly asked?: StopSignal;
  obey(signal: StopSignal): void;
}

/** Signals that ask a run to save and stop. */
export const stopSignals = ['SIGINT', 'SIGTERM'] as const;
export type StopSignal = (typeof stopSignals)[number];

/** What every team makes of its one primitive: bytes of all processes, by rank, of one length. */
export abstract class GatheringTeam implements Team {
  signals?: Signals;

  constructor(
    readonly rank: number,
    readonly size: number,
    readonly localRank: number,
    readonly native?: NativePeers,
  ) {}

  protected abstract gatherBytes(bytes: Uint8Array): Promise<Uint8Array[]>;
  /** As {@link Team.fromFirst}, where all know the length. */
  protected abstract broadcast(bytes: Uint8Array): Promise<Uint8Array>;

  async gather(numbers: Float64Array): Promise<Float64Array[]> {
    const { signals } = this;
    // 0, or the signal's number in the list from 1.
    const wish = signals?.asked === undefined ? 0 : stopSignals.indexOf(signals.asked) + 1;
    const given = new Float64Array(1 + numbers.length);
    given[0] = wish;
    given.set(numbers, 1);
    const all = (await this.gatherBytes(bytesOf(given))).map(numbersOf);
    const wishes = all.map(([first]) => present(first));
    const signal = stopSignals[(wishes.find((one) => one > 0) ?? 0) - 1];
    if (signal !== undefined) signals?.obey(signal);
    return all.map((one) => one.subarray(1));
  }

  async gatherJson<T>(value: T): Promise<T[]> {
    const bytes = Buffer.from(JSON.stringify(value));
    const lengths = (await this.gather(Float64Array.of(bytes.length))).map(([length]) => present(length));
    const padded = new Uint8Array(Math.max(...lengths));
    padded.set(bytes);
    const all = await this.gatherBytes(padded);
    return all.map((one, rank) => JSON.parse(Buffer.from(one.subarray(0, lengths[rank])).toString()) as T);
  }

  async fromFirst(bytes: Uint8Array | undefined): Promise<Uint8Array> {
    const [length] = numbersOf(await this.broadcast(bytesOf(Float64Array.of(bytes?.length ?? 0))));
    if (length === 0) return new Uint8Array(0);
    return this.broadcast(this.rank === 0 && bytes ? bytes : new Uint8Array(present(length)));
  }
}

function bytesOf(numbers: Float64Array): Uint8Array {
  return new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);
}

/** @param bytes which may begin anywhere in memory */
function numbersOf(bytes: Uint8Array): Float64Array {
  return new Float64Array(Uint8Array.from(bytes).buffer);
}

/** Sums of lists of numbers, each added up from rank 0 on, so that all processes come to the same bits. */
export function sumByRank(lists: readonly Float64Array[]): Float64Array {
  const sums = present(lists[0]).slice();
  for (const list of lists.slice(1)) for (const [i, value] of list.entries()) sums[i] = present(sums[i]) + value;
  return sums;
}

/** A value of plain JSON that rank 0 has. */
export async function shareJson<T>(team: Team, value: T | undefined): Promise<T> {
  const bytes = team.rank === 0 ? Buffer.from(JSON.stringify({ value })) : undefined;
  return (JSON.parse(Buffer.from(await team.fromFirst(bytes)).toString()) as { value: T }).value;
}

/** The numbers that rank 0 has. */
export async function shareNumbers(team: Team, numbers: Float64Array): Promise<Float64Array> {
  return numbersOf(await team.fromFirst(bytesOf(numbers)));
}
