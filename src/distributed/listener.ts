import { loadNative } from '../native/load.js';
import type { NativeMeetingPlace, NativePeers } from '../native/types.js';
import { Board } from './board.js';

/** What is left of a team, as a process finds it that has noticed. */
export interface RollCall {
  /** The other ranks that answer. */
  present: readonly number[];
  missing: readonly number[];
  /** Errors of those that have stopped by themselves. */
  failures: readonly (readonly [rank: number, text: string])[];
}

/** Milliseconds between two questions to the store: short against the time that the others wait for an answer. */
const askEvery = 500;

/**
 * Answers for a process that computes, and so does not notice that another one is lost before its next exchange: whoever has noticed need not
 * take it for lost too, and it learns what has happened though nobody else may be left by then. By a connection and a thread of its own, since
 * a store that hangs keeps whoever has asked it, and the time limit of an exchange must not wait behind that.
 */
export class Listener {
  /** What the process has found that has noticed first. */
  heard: RollCall | undefined;
  private readonly native: NativePeers = new (loadNative().Peers)();
  private readonly timer: NodeJS.Timeout;
  private asking = false;

  /** @param prefix of the keys of this use of the store */
  constructor(
    place: NativeMeetingPlace,
    prefix: string,
    private readonly rank: number,
  ) {
    const board = new Board(this.native, prefix);
    const met = this.native.meet({ ...place, serves: false });
    // Whatever fails here fails in the exchanges too, where it is told.
    met.catch(() => {});
    this.timer = setInterval(() => {
      if (this.asking) return;
      this.asking = true;
      this.ask(met, board).then(
        () => {
          this.asking = false;
        },
        () => clearInterval(this.timer),
      );
    }, askEvery).unref();
  }

  private async ask(met: Promise<void>, board: Board): Promise<void> {
    await met;
    if (!(await board.wait('lost', 1))) return;
    await board.set(`present/${this.rank}`, '');
    this.heard ??= await board.find<RollCall>('found');
    if (!this.heard) return;
    clearInterval(this.timer);
    await board.set(`ended/${this.rank}`, '');
  }

  [Symbol.dispose](): void {
    clearInterval(this.timer);
    this.native.dispose();
  }
}
