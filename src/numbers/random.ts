import { createHash } from 'node:crypto';
import { xoroshiro128plusFromState } from 'pure-rand/generator/xoroshiro128plus';
import type { JumpableRandomGenerator } from 'pure-rand/types/JumpableRandomGenerator';

/**
 * Seeded random numbers, one independent stream per purpose.
 *
 * A stream is named by a seed and any number of labels (`Random.stream(2021, 'bandit', 'train')`); its xoroshiro128+
 * state is the SHA-256 of that name. So adding a draw to one purpose never shifts another's numbers, and the order in
 * which streams are made, or the process they are made in, does not matter.
 */
export class Random {
  private constructor(private readonly generator: JumpableRandomGenerator) {}

  /** The stream of that name; equal names give equal streams. */
  static stream(seed: number, ...purpose: (string | number)[]): Random {
    const digest = createHash('sha256')
      .update(JSON.stringify([seed, ...purpose]))
      .digest();
    return Random.restore([0, 4, 8, 12].map((offset) => digest.readInt32LE(offset)));
  }

  /** The generator's state, to be stored in a checkpoint. */
  state(): number[] {
    return [...this.generator.getState()];
  }

  /** The state as the two 64-bit words of xoroshiro128+. */
  words(): [bigint, bigint] {
    const [high0, low0, high1, low1] = this.generator.getState().map((part) => BigInt(part >>> 0));
    return [(high0 << 32n) | low0, (high1 << 32n) | low1];
  }

  /** The stream that continues from `state()`. */
  static restore(state: readonly number[]): Random {
    return new Random(xoroshiro128plusFromState(state));
  }

  /** Uniform on [0, 1) with 53 random bits. */
  uniform(): number {
    const high = this.generator.next() >>> 5;
    const low = this.generator.next() >>> 6;
    return (high * 0x4000000 + low) / 0x20000000000000;
  }

  /** A whole number in 0..bound-1, bound below 2³², without modulo bias. */
  integer(bound: number): number {
    // Numbers of the incomplete last block of `bound` numbers are drawn again.
    for (;;) {
      const drawn = (this.generator.next() ^ 0x80000000) >>> 0;
      const value = drawn % (bound >>> 0);
      if (drawn - value <= 0x100000000 - bound) return value;
    }
  }

  /** A standard normal number (Box–Muller, one of the pair). */
  normal(): number {
    return Math.sqrt(-2 * Math.log(1 - this.uniform())) * Math.cos(2 * Math.PI * this.uniform());
  }

  /** An index drawn with probability proportional to `weights`. */
  categorical(weights: ArrayLike<number>): number {
    let total = 0;
    for (let i = 0; i < weights.length; i++) total += weights[i];
    let left = this.uniform() * total;
    for (let i = 0; i < weights.length - 1; i++) {
      left -= weights[i];
      if (left < 0) return i;
    }
    return weights.length - 1;
  }

  /** Shuffles `items` in place (Fisher–Yates) and returns it. */
  shuffle<T extends { length: number; [index: number]: unknown }>(items: T): T {
    for (let i = items.length - 1; i > 0; i--) {
      const j = this.integer(i + 1);
      const kept = items[i];
      items[i] = items[j];
      items[j] = kept;
    }
    return items;
  }
}
