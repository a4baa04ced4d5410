/** Signals that ask a run to save and stop. */
export type StopSignal = 'SIGINT' | 'SIGTERM';
const stopSignals: readonly StopSignal[] = ['SIGINT', 'SIGTERM'];

/**
 * Tells `first` of the first signal that asks to stop. From then on signals act as they do by default, so a second one ends
 * the process at once; so they do after dispose.
 */
export function onStopSignal(first: (signal: StopSignal) => void): Disposable {
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
