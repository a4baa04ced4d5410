import { InterruptedError } from '../errors.js';

/** Signals that ask a run to save and stop. */
export type StopSignal = 'SIGINT' | 'SIGTERM';
const stopSignals: readonly StopSignal[] = ['SIGINT', 'SIGTERM'];

/**
 * Tells `first` of the first signal that asks to stop. From then on signals act as they do by default, so a second one ends
 * the process at once; so they do after dispose.
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

/** What a run does about them: the first one is noted, and obeyed where all that was done is kept. */
export class StopRequest implements Disposable {
  private signal?: StopSignal;
  private readonly handler: Disposable;

  /**
   * @param noted told of the first signal
   * @param again what to run to go on, for the error's text
   */
  constructor(
    noted: (signal: StopSignal) => void,
    private readonly again: string,
  ) {
    this.handler = onStopSignal((signal) => {
      this.signal = signal;
      noted(signal);
    });
  }

  get made(): boolean {
    return this.signal !== undefined;
  }

  /** @throws InterruptedError where a signal has come; `when` says how far the run is then */
  check(when: string): void {
    if (this.signal)
      throw new InterruptedError(`stopped by ${this.signal} ${when}\n  fix: run ${this.again} to go on`, this.signal);
  }

  [Symbol.dispose](): void {
    this.handler[Symbol.dispose]();
  }
}
