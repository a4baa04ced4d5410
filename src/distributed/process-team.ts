import { connect, type Socket } from 'node:net';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { GroupRobustError, InputError, InterruptedError, messageOf, present } from '../errors.js';
import { machine } from '../files/owner.js';
import { loadNative } from '../native/load.js';
import type { NativeMeetingPlace, NativePeers } from '../native/types.js';
import { packageVersion } from '../package.js';
import { counted } from '../terminal/format.js';
import { onlyErrors, silence } from '../terminal/output.js';
import { type Board, ofPeers } from './board.js';
import { Listener, type RollCall } from './listener.js';
import { type Place, placeOf } from './place.js';
import { meetInRound } from './round.js';
import { GatheringTeam } from './team.js';

/** Seconds that a process may keep the others waiting, where nobody says otherwise. */
export const defaultTimeout = 600;

/** Seconds for those that are still there to say so after one has been lost. */
const rollCallSeconds = 5;

/**
 * Runs `work` as one process of a job, where the environment says that this is one: with the others as its team. If it fails, the others
 * are told, and if another one is lost, the error says which. Processes other than that of rank 0 then print errors alone.
 * @param timeoutSeconds how long a process may keep the others waiting; default {@link defaultTimeout}
 * @throws InputError where the environment is wrong, the processes do not fit together, or rank 0 cannot be reached; GroupRobustError PEER
 * where another process is gone or does not answer in time
 */
export async function together<T>(
  timeoutSeconds: number | undefined,
  work: (team: ProcessTeam | undefined) => Promise<T>,
): Promise<T> {
  const place = placeOf(process.env);
  if (!place) return work(undefined);
  if (place.rank > 0) onlyErrors(`rank ${place.rank}: `);
  const team = new ProcessTeam(place, timeoutSeconds ?? defaultTimeout);
  try {
    await team.join();
    const result = await work(team);
    await team.leave();
    return result;
  } catch (error) {
    throw await team.failed(error);
  } finally {
    team[Symbol.dispose]();
  }
}

/** Seconds in which the others have to come to hear that this process has failed before it could begin. */
const failureTimeout = 60;

/**
 * What `read` makes of the user's input, before there is a team. If it fails, the others hear of it rather than wait for this process.
 * @throws whatever `read` throws
 */
export async function failTogether<T>(read: () => T): Promise<T> {
  let thrown: unknown;
  try {
    return read();
  } catch (error) {
    thrown = error;
  }
  // That the others have not come either is not what is wrong.
  await together(failureTimeout, () => Promise.reject(thrown)).catch(() => {});
  throw thrown;
}

/** What each process says of itself when it comes. */
interface Hello {
  size: number;
  version: string;
  host: string;
  machine: string;
  /** By which it reaches the store. */
  address: string;
}

/** What there is to say where the store is gone, which rank 0 keeps. */
const onlyFirstMissing: Pick<RollCall, 'missing' | 'failures'> = { missing: [0], failures: [] };

/** The processes of a job, by c10d: TCPStore and Gloo, and NCCL between GPUs where the addon has it. */
export class ProcessTeam extends GatheringTeam {
  override readonly native: NativePeers;
  /** Of this use of the store, once it has begun. */
  private board: Board | undefined;
  /** From when on all are connected. */
  private listener: Listener | undefined;

  constructor(
    private readonly place: Place,
    private readonly timeoutSeconds: number,
  ) {
    const native = new (loadNative().Peers)();
    super(place.rank, place.size, place.localRank, native);
    this.native = native;
  }

  /** Meets the others: everything that may not fit is found here, by name. */
  async join(): Promise<void> {
    const { rank, size } = this;
    const end = Date.now() + 1000 * this.timeoutSeconds;
    const address = await this.reachStore(end);
    const hello: Hello = { size, version: packageVersion(), host: hostname(), machine: machine(), address };
    const fits = (other: Hello) => other.size === hello.size && other.version === hello.version;
    const base = `group-robust/${this.place.job}/`;
    const met = await meetInRound(this.native, base, { rank, size, hello, fits, end });
    this.board = met.board;
    if (!('members' in met)) throw this.absent(met.missing);
    const { board, prefix, members } = met;
    for (const [other, one] of members.entries()) if (one) this.checkFit(hello, one, other);
    this.checkAddresses(members.filter((one) => one !== undefined));
    await this.native.open({ interface: this.place.interface ?? '', address }).catch((error: unknown) => {
      const text = messageOf(error);
      if (this.place.interface === undefined || !/interface|address/i.test(text)) throw error;
      throw new InputError(`${this.place.interface} cannot be used: ${text}`, {
        at: { field: 'GLOO_SOCKET_IFNAME' },
        fix: 'name an interface that `ip address` shows as up, or unset it',
      });
    });
    await board.set(`ready/${rank}`, '');
    for (let other = 0; other < size; other++) await this.awaitReady(board, other, end);
    await this.native.connect(rank, size, prefix);
    this.listener = new Listener(this.meetingPlace(), prefix, rank);
  }

  /** Waits until another process can be connected with. @throws GroupRobustError PEER where any has failed, or that one does not come */
  private async awaitReady(board: Board, other: number, end: number): Promise<void> {
    while (!(await board.wait(`ready/${other}`, 500))) {
      const stopped = await board.find<number>('stopped');
      if (stopped !== undefined)
        throw this.lostError('', { missing: [], failures: [[stopped, await board.get<string>(`failed/${stopped}`)]] });
      if (Date.now() > end) throw this.absent([other]);
    }
  }

  /** The end of the job: nobody leaves before all have come to it, since rank 0 may keep the store. */
  async leave(): Promise<void> {
    await this.endUse();
    await this.gather(new Float64Array(0));
    await this.native.disconnect(true);
  }

  [Symbol.dispose](): void {
    this.listener?.[Symbol.dispose]();
    this.native.dispose();
  }

  /**
   * Tells the others of the error, or finds out which of them is lost.
   * @returns the error to throw
   */
  async failed(error: unknown): Promise<unknown> {
    const { board, listener } = this;
    if (!board) return this.explained(error);
    if (!listener) {
      const told = this.explained(error);
      await this.tellWaiting(board, isLost(told) ? undefined : messageOf(told)).catch(() => {});
      return told;
    }
    // All have come to it together, and have nothing to tell each other.
    if (error instanceof InterruptedError)
      return this.leave().then(
        () => error,
        () => error,
      );
    const lost = isLost(error);
    const told =
      lost && listener.heard
        ? this.native.disconnect(false).then(() => this.asSeenHere(present(listener.heard)))
        : this.tellOthers(board, lost ? undefined : messageOf(error));
    const late = sleep(3000 * rollCallSeconds, 'late' as const, { ref: false });
    const found = await Promise.race([told, late]).catch(() => undefined);
    if (found === 'late') this.abandon();
    if (lost) return this.lostError(messageOf(error), typeof found === 'object' ? found : onlyFirstMissing);
    const ofFirst = typeof found === 'object' ? new Map(found.failures).get(0) : undefined;
    if (ofFirst?.includes(problemOf(error))) silence();
    return error;
  }

  /** Before there are connections: has those that wait for this process stop. */
  private async tellWaiting(board: Board, failure: string | undefined): Promise<void> {
    if (failure !== undefined) {
      await board.set(`failed/${this.rank}`, failure);
      await board.set('stopped', this.rank);
    }
    await this.endUse();
    await this.awaitEnds([...Array(this.size).keys()], 1000 * rollCallSeconds);
  }

  /** What another process has found, which does not count itself and counts this one. */
  private asSeenHere({ missing, ...found }: RollCall): RollCall {
    return { ...found, missing: missing.filter((rank) => rank !== this.rank) };
  }

  /**
   * Has the others notice that this process has stopped, and finds out which of them are still there.
   * @param failure why it has, where that is its own error
   */
  private async tellOthers(board: Board, failure: string | undefined): Promise<RollCall> {
    // Whoever waits for this process notices, and comes to the roll call too; for who computes, the listener does.
    await this.native.disconnect(false);
    if (failure !== undefined) await board.set(`failed/${this.rank}`, failure);
    await board.set(`present/${this.rank}`, '');
    await board.set('lost', '');
    const found = await this.rollCall(board);
    const own = failure === undefined ? [] : [[this.rank, failure] as const];
    await board.set('found', { ...found, failures: [...own, ...found.failures] } satisfies RollCall);
    // Whatever fails from here on, all that there is to know is known.
    await this.endUse()
      .then(() => this.awaitEnds(found.present, 1000 * rollCallSeconds))
      .catch(() => {});
    return found;
  }

  /** The store's machine does not answer, and c10d waits for it for as long as TCP does: once the error is told, the process ends. */
  private abandon(): void {
    setTimeout(() => loadNative().endProcess(Number(process.exitCode ?? 1)), 1000);
  }

  protected override gatherBytes(bytes: Uint8Array): Promise<Uint8Array[]> {
    return ofPeers(this.native.gather(bytes));
  }

  protected override broadcast(bytes: Uint8Array): Promise<Uint8Array> {
    return ofPeers(this.native.broadcast(bytes));
  }

  /**
   * Serves the store or waits until it can be reached.
   * @returns the address of this process on the way there, by which the others can reach it too
   */
  private async reachStore(end: number): Promise<string> {
    const { address, port, serves } = this.place;
    const where = `${address}:${port}`;
    const meeting = this.meetingPlace();
    if (serves)
      await this.native.meet(meeting).catch((error: unknown) => {
        if (/EADDRINUSE|address already in use/i.test(messageOf(error)))
          throw new InputError(`${port} is in use on this machine, so the processes cannot meet there`, {
            at: { field: 'MASTER_PORT' },
            fix: 'name another port for all of them, or end what uses it (a run that was left behind?)',
          });
        throw error;
      });
    for (;;) {
      try {
        const local = await addressTowards(address, port);
        // Left to itself c10d waits twice as long, and then prints a stack trace.
        if (!serves) await this.native.meet(meeting);
        return local;
      } catch (error) {
        if (Date.now() + 200 < end) await sleep(200);
        else
          throw new InputError(
            `rank 0, or its launcher, cannot be reached at ${where} within ${counted(this.timeoutSeconds, 'second')}: ${messageOf(error)}`,
            {
              at: { field: 'MASTER_ADDR' },
              fix: 'check that rank 0 has started and says nothing, that name and port are right, and that no firewall is between',
            },
          );
      }
    }
  }

  private meetingPlace(): NativeMeetingPlace {
    const { address, port, serves } = this.place;
    return { address, port, serves, timeout: 1000 * this.timeoutSeconds };
  }

  private async endUse(): Promise<void> {
    await this.board?.set(`ended/${this.rank}`, '');
  }

  private checkFit(own: Hello, other: Hello, rank: number): void {
    const differs = (field: string, is: string, was: string, fix: string) => {
      throw new InputError(`is ${is} on rank ${rank}, and ${was} on rank ${this.rank}`, { at: { field }, fix });
    };
    if (other.size !== own.size)
      differs('WORLD_SIZE', `${other.size}`, `${own.size}`, 'start all processes with the same number');
    if (other.version !== own.version)
      differs('group-robust-po', other.version, own.version, 'install the same version everywhere');
  }

  /** A machine may call itself 127.0.1.1, where nobody else reaches it. */
  private checkAddresses(all: readonly Hello[]): void {
    if (this.place.interface !== undefined) return;
    const apart = all.some(({ host, machine: other }) => host !== all[0]?.host || other !== all[0]?.machine);
    const rank = all.findIndex(({ address }) => /^(127\.|::1$)/.test(address));
    if (!apart || rank < 0) return;
    throw new InputError(
      `names rank ${rank} on ${present(all[rank]).host} by ${present(all[rank]).address}, where the other machines cannot reach it`,
      {
        at: { field: 'MASTER_ADDR' },
        fix: 'use the address of rank 0 in the network, or name the interface on each machine in GLOO_SOCKET_IFNAME',
      },
    );
  }

  /** Of those that have not come at all. */
  private absent(missing: readonly number[]): Error {
    return new GroupRobustError(
      'PEER',
      `${ranks(missing)} of ${this.size} processes ${missing.length === 1 ? 'has' : 'have'} not come within ` +
        `${counted(this.timeoutSeconds, 'second')}\n  fix: look at what ${missing.length === 1 ? 'it says' : 'they say'}, and that ` +
        'WORLD_SIZE is the number of processes that are started',
    );
  }

  /** Who of the others comes, and what those have told that failed by themselves. */
  private async rollCall(board: Board): Promise<RollCall> {
    const end = Date.now() + 1000 * rollCallSeconds;
    const missing: number[] = [];
    const failures: [number, string][] = [];
    const others = [...Array(this.size).keys()].filter((rank) => rank !== this.rank);
    for (const rank of others) {
      if (!(await board.wait(`present/${rank}`, end - Date.now()))) missing.push(rank);
      else {
        const failure = await board.find<string>(`failed/${rank}`);
        if (failure !== undefined) failures.push([rank, failure]);
      }
    }
    return { present: others.filter((rank) => !missing.includes(rank)), missing, failures };
  }

  /** Whoever keeps the store stays until the others have read what they need. */
  private async awaitEnds(others: readonly number[], milliseconds: number): Promise<void> {
    if (!this.place.serves) return;
    const end = Date.now() + milliseconds;
    for (const rank of others) await this.board?.wait(`ended/${rank}`, end - Date.now());
  }

  private lostError(reason: string, { missing, failures }: Pick<RollCall, 'missing' | 'failures'>): Error {
    const goOn = 'a training run goes on from its last checkpoint by the same command with --resume';
    const [failure] = failures;
    if (failure) return new GroupRobustError('PEER', `rank ${failure[0]} has stopped: ${failure[1]}\n  then: ${goOn}`);
    const who =
      missing.length > 0 ? `${ranks(missing)} of ${this.size} processes` : 'the connection to another process';
    return new GroupRobustError(
      'PEER',
      `${who} ${missing.length > 1 ? 'are' : 'is'} lost (${plainReason(reason)})\n  fix: look at what was said there last, and whether it was killed, ` +
        `hangs or has lost its network; ${goOn}`,
    );
  }

  /** c10d's texts for what may go wrong before there is a team. */
  private explained(error: unknown): unknown {
    if (error instanceof GroupRobustError) return error;
    return new GroupRobustError(
      'PEER',
      `the processes of the job cannot be connected: ${plainReason(messageOf(error))}\n  fix: check that all of them reach each other, not only ` +
        'rank 0, through the interface that GLOO_SOCKET_IFNAME names or that leads to rank 0',
      { cause: error },
    );
  }
}

/** "rank 1, 3"; of many the first. */
function ranks(numbers: readonly number[]): string {
  const most = 20;
  return `rank ${numbers.slice(0, most).join(', ')}${numbers.length > most ? ` and ${numbers.length - most} more` : ''}`;
}

/** What all processes find that meet the same error; rank 0 may say more about it. */
function problemOf(error: unknown): string {
  const { problem } = error as { problem?: unknown };
  return typeof problem === 'string' ? problem : messageOf(error);
}

/** Whether an error is about another process. */
function isLost(error: unknown): boolean {
  return error instanceof GroupRobustError && error.code === 'PEER';
}

/** The part of what gloo says that tells something: "[/…/pair.cc:537] Read error [127.0.0.1]:29101: Connection reset by peer. This is …" */
function plainReason(text: string): string {
  return text.replace(/^\[[^\]]*\.cc:\d+\] /, '').replace(/\. This is typically.*/s, '');
}

/** The own address of a connection to there. */
async function addressTowards(address: string, port: number): Promise<string> {
  const socket = await new Promise<Socket>((resolve, reject) => {
    const opened = connect({ host: address, port, timeout: 5000 });
    opened.once('connect', () => resolve(opened));
    opened.once('timeout', () => opened.destroy(new Error('no answer within 5 seconds')));
    opened.once('error', reject);
  });
  const { localAddress } = socket;
  socket.destroy();
  return present(localAddress);
}
