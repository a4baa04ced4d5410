import { setTimeout as sleep } from 'node:timers/promises';
import type { InputError } from '../errors.js';
import { duration } from '../terminal/progress.js';

/** How long to wait for the hub, and how often to ask it. */
export const patience = {
  /** Seconds before each attempt after the first; there are no attempts after those. */
  delays: [0.5, 1, 2, 4],
  /** The longest wait, in seconds, that a busy server may ask for; the hub counts requests over five minutes. */
  longestWait: 300,
  /** Longest wait for the head of an answer, then for each piece of its body, in ms. */
  answer: 30_000,
  silence: 30_000,
  /** The user is told of a wait after this long, in ms. */
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

  /** From what fetch, or reading a body, has thrown; its cause says more than its own message. */
  static of(error: unknown): Passing {
    const { cause = error } = error as { cause?: unknown };
    const { code, message } = cause as { code?: string; message?: string };
    return new Passing(message || code || String(cause), { cause: error });
  }
}

/**
 * What one task may cost in all, over as many requests as it takes, so that no server can keep it going for ever: not one whose answer
 * never ends, nor one that always starts over.
 */
export class Budget {
  private readonly end: number;
  private failures = 0;
  private received = 0;

  /** @param refusal makes the error to throw when the budget is used up */
  constructor(
    private readonly limits: { seconds: number; bytes: number },
    private readonly refusal: (reason: string, cause?: Passing) => InputError,
    private readonly tell: Tell,
  ) {
    this.end = Date.now() + 1000 * limits.seconds;
  }

  /** Repeats `attempt` until it succeeds, while it fails with {@link Passing}. @throws InputError when the budget is used up */
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

  /** Call with the number of bytes received. @throws InputError where they are too many, or take too long */
  spend(bytes: number): void {
    this.received += bytes;
    if (this.received > this.limits.bytes)
      throw this.refusal(`more than ${Math.ceil(this.limits.bytes / 1e6)} MB were received`);
    if (Date.now() > this.end) throw this.refusal(`it takes longer than ${duration(this.limits.seconds)}`);
  }

  /** Call when something new was received: the failures before no longer count. */
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

/** Tells the user what `promise` waits for, if that takes long. */
export async function tellIfLong<T>(what: string, tell: Tell, promise: Promise<T>): Promise<T> {
  const timer = setTimeout(() => tell(what), patience.unmentioned);
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
  }
}
