import { setTimeout as sleep } from 'node:timers/promises';
import type { InputError } from '../errors.js';
import { duration } from '../terminal/progress.js';

/** How long is waited for the hub, and how often it is asked. */
export const patience = {
  /** Seconds before each attempt after the first; there are no attempts after those. */
  delays: [0.5, 1, 2, 4],
  /** A longer wait, in seconds, is not begun at a busy server's request; the hub counts requests over five minutes. */
  longestWait: 300,
  /** For the head of an answer, and between pieces of its body, in ms. */
  answer: 30_000,
  silence: 30_000,
  /** A wait for others is told of after this long, in ms. */
  unmentioned: 5_000,
};

/** Says on stderr what is waited for, or nothing. */
export type Tell = (text: string) => void;

/** A failure after which another attempt may succeed. */
export class Passing extends Error {
  /** Seconds that the server asks to wait. */
  readonly wait: number | undefined;

  constructor(message: string, { wait, cause }: { wait?: number; cause?: unknown } = {}) {
    super(message, { cause });
    this.wait = wait;
  }

  /** What fetch, or the reading of a body, has thrown: its own message says little. */
  static of(error: unknown): Passing {
    const { cause = error } = error as { cause?: unknown };
    const { code, message } = cause as { code?: string; message?: string };
    return new Passing(message || code || String(cause), { cause: error });
  }
}

/**
 * What one thing that is asked of the hub may cost in all, over as many requests as it takes: neither a server that never
 * ends, nor one that always begins anew, is listened to for ever.
 */
export class Budget {
  private readonly end: number;
  private failures = 0;
  private received = 0;

  /** @param refusal makes the error to throw where nothing is left */
  constructor(
    private readonly limits: { seconds: number; bytes: number },
    private readonly refusal: (reason: string, cause?: Passing) => InputError,
    private readonly tell: Tell,
  ) {
    this.end = Date.now() + 1000 * limits.seconds;
  }

  /** Makes attempts until one succeeds, as long as they fail with {@link Passing}. @throws InputError in the end */
  async run<T>(attempt: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await attempt();
      } catch (error) {
        if (!(error instanceof Passing)) throw error;
        await this.wait(error);
      }
    }
  }

  /** To be told of all bytes that come. @throws InputError where they are too many, or take too long */
  spend(bytes: number): void {
    this.received += bytes;
    if (this.received > this.limits.bytes)
      throw this.refusal(`more than ${Math.ceil(this.limits.bytes / 1e6)} MB have come`);
    if (Date.now() > this.end) throw this.refusal(`it takes longer than ${duration(this.limits.seconds)}`);
  }

  /** To be told when something new has come: the failures before do not count. */
  progressed(): void {
    this.failures = 0;
  }

  private async wait(failure: Passing): Promise<void> {
    const delay = patience.delays[this.failures++];
    if (delay === undefined) throw this.refusal(failure.message, failure);
    const seconds = Math.max(delay, failure.wait ?? 0);
    if (seconds > patience.longestWait || Date.now() + 1000 * seconds > this.end)
      throw this.refusal(`${failure.message}; the next attempt would be in ${duration(seconds)}`, failure);
    this.tell(`${failure.message}; trying again in ${duration(seconds)}`);
    await sleep(1000 * seconds);
  }
}

/** Tells what `promise` is waited for, where that takes long. */
export async function tellIfLong<T>(what: string, tell: Tell, promise: Promise<T>): Promise<T> {
  const timer = setTimeout(() => tell(what), patience.unmentioned);
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
  }
}
