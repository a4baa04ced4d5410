import { GroupRobustError, messageOf } from '../errors.js';
import type { NativePeers } from '../native/types.js';

/** What the processes of a job leave for each other to read: values of plain JSON by key, in c10d's store. */
export class Board {
  /** @param prefix before all keys */
  constructor(
    private readonly native: NativePeers,
    private readonly prefix: string,
  ) {}

  set(key: string, value: unknown): Promise<void> {
    return ofPeers(this.native.set(this.prefix + key, Buffer.from(JSON.stringify(value))));
  }

  /** @returns whether there is a value within so many milliseconds */
  wait(key: string, milliseconds: number): Promise<boolean> {
    // c10d takes 0 for no limit.
    return ofPeers(this.native.wait(this.prefix + key, Math.max(1, Math.ceil(milliseconds))));
  }

  /** A value that has been set. */
  async get<T>(key: string): Promise<T> {
    return JSON.parse(Buffer.from(await ofPeers(this.native.get(this.prefix + key))).toString()) as T;
  }

  /** A value that may have been set. */
  async find<T>(key: string): Promise<T | undefined> {
    return (await this.wait(key, 1)) ? this.get<T>(key) : undefined;
  }

  count(key: string): Promise<number> {
    return ofPeers(this.native.count(this.prefix + key));
  }
}

/** Turns what the addon says of other processes into this package's error. */
export async function ofPeers<T>(result: Promise<T>): Promise<T> {
  try {
    return await result;
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'PEER') throw error;
    throw new GroupRobustError('PEER', messageOf(error), { cause: error });
  }
}
