import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { hostname } from 'node:os';

/** Telling whether the process that left something behind is gone. */

/**
 * Names a place where process ids mean the same: one host from boot to boot, and in it one container. (Containers may share the host's
 * name, and have processes of the same ids.)
 */
export function machine(): string {
  const linux = (read: () => string) => {
    try {
      return read();
    } catch {
      return '';
    }
  };
  const boot = linux(() => fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8'));
  const namespace = linux(() => fs.readlinkSync('/proc/self/ns/pid'));
  return createHash('sha256').update([hostname(), boot, namespace].join('\0')).digest('hex').slice(0, 16);
}

/** Whether a process of this machine has ended; of others nothing is known. */
export function isGone(owner: { machine: string; pid: number }): boolean {
  return owner.machine === machine() && !isAlive(owner.pid);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // Another user's process may not be sent signals.
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
