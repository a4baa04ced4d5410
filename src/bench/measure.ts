import { arch, availableParallelism, cpus, platform, totalmem } from 'node:os';

/** What a figure was measured on; goes with every result. */
export interface MachineRecord {
  cpu: string;
  cores: number;
  memory_bytes: number;
  platform: string;
  node: string;
}

export function machineRecord(): MachineRecord {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    memory_bytes: totalmem(),
    platform: `${platform()}-${arch()}`,
    node: process.version,
  };
}

/** Calls `work` until `seconds` have gone by, after one call that is not counted, and returns calls per second. */
export function callsPerSecond(work: () => void, seconds = 1): number {
  work();
  const start = performance.now();
  let calls = 0;
  let elapsed = 0;
  do {
    work();
    calls++;
    elapsed = (performance.now() - start) / 1000;
  } while (elapsed < seconds);
  return calls / elapsed;
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
