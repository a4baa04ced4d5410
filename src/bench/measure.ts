import { arch, availableParallelism, cpus, loadavg, platform, totalmem } from 'node:os';
import type { NativeAddon, NativeProductCalls } from '../native/types.js';

/** What a figure was measured on; goes with every result. */
export interface MachineRecord {
  cpu: string;
  cores: number;
  memory_bytes: number;
  platform: string;
  node: string;
  /** Mean number of running programs over the last minute: above `cores`, times are not to be trusted. */
  load: number;
}

export function machineRecord(): MachineRecord {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    memory_bytes: totalmem(),
    platform: `${platform()}-${arch()}`,
    node: process.version,
    load: loadavg()[0],
  };
}

/**
 * Calls per second of processor time, of each of `works`. They are called in turn, a slice of time each, until each has had
 * `seconds`: so whatever else the machine does slows all alike. One call of each is not counted.
 */
export function callsPerSecond(works: readonly (() => void)[], seconds: number): number[] {
  const slice = Math.min(seconds, 0.05);
  const rounds = Math.ceil(seconds / slice);
  const calls = works.map(() => 0);
  const used = works.map(() => 0);
  for (const work of works) work();
  for (let round = 0; round < rounds; round++)
    for (const [n, work] of works.entries()) {
      const start = processorSeconds();
      let elapsed = 0;
      do {
        work();
        calls[n]++;
        elapsed = processorSeconds() - start;
      } while (elapsed < slice);
      used[n] += elapsed;
    }
  return works.map((_, n) => calls[n] / used[n]);
}

function processorSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

/** Matrix products since `before`, by what made them. */
export function callsSince(native: NativeAddon, before: NativeProductCalls): NativeProductCalls {
  const now = native.productCalls();
  return { onednn: now.onednn - before.onednn, libtorch: now.libtorch - before.libtorch };
}

/** Relative distance of two vectors, ‖a − b‖ / ‖b‖. */
export function relativeDistance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let difference = 0;
  let length = 0;
  for (let i = 0; i < b.length; i++) {
    difference += (a[i] - b[i]) ** 2;
    length += b[i] ** 2;
  }
  return Math.sqrt(difference / length);
}
