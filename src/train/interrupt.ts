import { type StopSignal, stopSignals, type Team } from '../distributed/team.js';
import { InterruptedError } from '../errors.js';

/**
 * Tells `first` of the first signal that asks to stop. After that, and after dispose, signals act as they do by default, so a second one ends
 * the process at once.
 */
function onStopSignal(first: (signal: StopSignal) => void): Disposable {
  const handle = (signal: StopSignal) => {
    release();
    first(signal);
  };
  const release = () => {
    for (const signal of stopSignals) process.removeListener(signal, handle);
  };
  for (const signal of stopSignals) process.on(signal, handle);
  return { [Symbol.dispose]: release };
}

/** How a run handles them: the first one is noted, and obeyed at a point where all the work is saved. */
export class StopRequest implements Disposable {
  /** The signal that this process was sent. */
  asked?: StopSignal;
  /** The one that is obeyed: the same, or what one of several processes was sent, once all know of it. */
  private signal?: StopSignal;
  private readonly handler: Disposable;

  /**
   * @param noted told of the first signal
   * @param again the command that continues the run, for the error's text
   * @param team processes that stop together
   */
  constructor(
    noted: (signal: StopSignal) => void,
    private readonly again: string,
    private readonly team?: Team,
  ) {
    this.handler = onStopSignal((signal) => {
      this.asked = signal;
      if (!team) this.signal = signal;
      noted(signal);
    });
    if (team) team.signals = this;
  }

  obey(signal: StopSignal): void {
    this.signal ??= signal;
  }

  get made(): boolean {
    return this.signal !== undefined;
  }

  /** @throws InterruptedError after a signal; `when` says how far the run has come */
  check(when: string): void {
    if (this.signal)
      throw new InterruptedError(`stopped by ${this.signal} ${when}\n  fix: run ${this.again} to go on`, this.signal);
  }

  [Symbol.dispose](): void {
    if (this.team) this.team.signals = undefined;
    this.handler[Symbol.dispose]();
  }
}
