import { existsSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { GroupRobustError, InputError } from '../errors.js';
import { staleSeconds, takeLock } from '../files/lock.js';
import { makeFolder, writeFault } from '../files/write.js';

/** Lies in a run folder while a process works on it. */
export const runLockName = '.lock';

/** A run folder for one process alone. */
export interface RunLock extends AsyncDisposable {
  /** @throws GroupRobustError where the lock was lost, so that nothing more may be written */
  check(): void;
}

/**
 * Takes a run folder. It is made if it is missing, and removed again at the end if nothing was written to it.
 * @throws InputError where another process works on it, or it cannot be made
 */
export async function lockRun(run: string): Promise<RunLock> {
  const made = makeFolder(run);
  let lost = false;
  const removeMade = () => {
    try {
      for (const folder of made) rmdirSync(folder);
    } catch {
      // It is not empty.
    }
  };
  try {
    const lock = await takeLock(
      join(run, runLockName),
      () => {
        lost = true;
      },
      (holder) =>
        new InputError(
          `another process${holder ? ` (${holder.pid} on ${holder.host})` : ''} works on this run folder`,
          {
            at: { file: run },
            fix:
              'let it end or stop it, or name another output; if there is no such process any more, try again in ' +
              `${staleSeconds} s`,
          },
        ),
    );
    return {
      check() {
        if (!existsSync(join(run, runLockName)))
          throw new GroupRobustError(
            'LOCK_LOST',
            `${run}: has been moved or removed, or its ${runLockName} has, while this run was going on\n  fix: put it back; ` +
              'the same command with --resume goes on from the last checkpoint',
          );
        if (lost || !lock.isOurs())
          throw new GroupRobustError(
            'LOCK_LOST',
            `${run}: another process has taken this run over while this one was suspended\n  fix: let that one end; only the ` +
              'steps since the last checkpoint are lost',
          );
      },
      async [Symbol.asyncDispose]() {
        await lock[Symbol.asyncDispose]();
        removeMade();
      },
    };
  } catch (error) {
    removeMade();
    throw error instanceof InputError ? error : writeFault(run, error);
  }
}
