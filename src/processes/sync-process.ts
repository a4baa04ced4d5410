import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads';
import { forkArguments, LATE, longestWait, type Outcome } from './bounded-process.js';

/**
 * The thread that talks to the process, one request at a time. As text, because a loader of TypeScript would wait for the thread
 * that waits for this one.
 */
const THREAD = `
const { fork } = require('node:child_process');
const { workerData: { port, signal, forked } } = require('node:worker_threads');
let child;
let ended = false;
const ask = (request, seconds, wait) => new Promise((done) => {
  const asked = child ??= fork(...forked);
  const timer = setTimeout(() => finish('late'), 1000 * wait);
  const finish = (outcome) => {
    clearTimeout(timer);
    asked.removeAllListeners().on('error', () => {});
    if (typeof outcome === 'string') {
      asked.kill('SIGKILL');
      child = undefined;
    }
    done(outcome);
  };
  asked.once('message', (reply) => finish({ reply }));
  asked.once('error', () => finish('ended'));
  asked.once('exit', (_, signal) => finish(signal === '${LATE}' ? 'late' : 'ended'));
  asked.send({ request, seconds }, (error) => error && finish('ended'));
});
port.on('message', async ({ request, seconds, wait }) => {
  const reused = child !== undefined;
  let outcome = await ask(request, seconds, wait);
  // It may have had the memory of requests before.
  if (outcome === 'ended' && reused && !ended) outcome = await ask(request, seconds, wait);
  port.postMessage(outcome);
  Atomics.store(signal, 0, 1);
  Atomics.notify(signal, 0);
});
port.on('close', () => {
  ended = true;
  child?.kill('SIGKILL');
});
`;

/**
 * A bounded process that is asked synchronously: this thread waits, and another one talks to the process. It starts with the
 * first request and anew after one that it did not answer; it does not keep this process alive.
 */
export class SyncProcess<Request extends object, Reply> {
  private thread: { port: MessagePort; signal: Int32Array } | undefined;

  /** @param megabytes as of `startBounded` */
  constructor(
    private readonly moduleUrl: string,
    private readonly megabytes: number,
  ) {}

  /** @param seconds of the processor, for the answer */
  ask(request: Request, seconds: number): Outcome<Reply> {
    this.send(request, seconds);
    return this.wait();
  }

  /** The first half of {@link ask}: others can be sent theirs before this one is waited for. */
  send(request: Request, seconds: number): void {
    this.thread ??= this.start();
    const { port, signal } = this.thread;
    Atomics.store(signal, 0, 0);
    port.postMessage({ request, seconds, wait: longestWait(seconds) });
  }

  /** Whether what was sent has its outcome. */
  get answered(): boolean {
    return this.thread !== undefined && Atomics.load(this.thread.signal, 0) !== 0;
  }

  /** The outcome of what was sent, which is waited for once. */
  wait(): Outcome<Reply> {
    const { port, signal } = this.thread!;
    // What wakes this thread may be the notification of the request before, come late: it is sent after that one's signal is set.
    while (Atomics.load(signal, 0) === 0) Atomics.wait(signal, 0, 0);
    return receiveMessageOnPort(port)!.message;
  }

  /** Ends the process, whatever it is doing. */
  end(): void {
    this.thread?.port.close();
    this.thread = undefined;
  }

  private start() {
    const { port1: port, port2 } = new MessageChannel();
    const signal = new Int32Array(new SharedArrayBuffer(4));
    const workerData = { port: port2, signal, forked: forkArguments(this.moduleUrl, this.megabytes) };
    new Worker(THREAD, { eval: true, execArgv: [], workerData, transferList: [port2] }).unref();
    return { port, signal };
  }
}
