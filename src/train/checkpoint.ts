import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { GroupRobustError, InputError, messageOf } from '../errors.js';
import { hashFile } from '../files/read.js';
import { removePartials, writeFolderWhole } from '../files/write.js';
import type { LogPosition } from './run-log.js';
import type { TrainerState } from './trainer-hooks.js';

/**
 * Checkpoints of a run, one folder each: checkpoints/step-00000100/ with
 *
 * - policy.safetensors: the adapter's values and the optimiser's moments and count;
 * - checkpoint.json: everything else, see {@link Checkpoint};
 * - SHA256SUMS over both, which `sha256sum -c` checks too.
 *
 * They are written under another name and renamed, so one that is there is whole unless something damaged it later.
 */

/** What a run needs besides the policy's own file to go on as if it had never stopped. Plain JSON. */
export interface Checkpoint {
  trainer: TrainerState;
  /** The log at that step. */
  log: LogPosition;
  /** What the run is made of; see identity.ts. */
  identity: Record<string, unknown>;
  /** Versions of programs, number of threads and device: with others, results may differ in their last bits. */
  made: Record<string, unknown>;
  /** Made because the run was asked to stop; removed once the next one is there, as if the run had not been interrupted. */
  unscheduled?: boolean;
}

export interface FoundCheckpoint extends Checkpoint {
  policyFile: string;
}

const files = { policy: 'policy.safetensors', state: 'checkpoint.json', sums: 'SHA256SUMS' } as const;

/** The checkpoints of one run folder. */
export class Checkpoints {
  readonly folder: string;

  constructor(
    run: string,
    private readonly keep: number,
    private readonly best: boolean,
  ) {
    this.folder = join(run, 'checkpoints');
  }

  /**
   * Adds a checkpoint, then removes all but the newest `keep` (and the newest one, if that is unscheduled) and, with `best`,
   * the best ones that those know of.
   * @param savePolicy writes the policy's state to the file it is given
   * @param check called when all is written, and may throw: then the checkpoint does not appear
   * @throws GroupRobustError where writing fails, and whatever `check` throws; earlier checkpoints are as they were
   */
  async save(checkpoint: Checkpoint, savePolicy: (file: string) => Promise<void>, check: () => void): Promise<void> {
    const { step } = checkpoint.trainer;
    let refused = false;
    try {
      const write = async (partial: string) => {
        await savePolicy(join(partial, files.policy));
        writeFileSync(join(partial, files.state), `${JSON.stringify(checkpoint, null, 2)}\n`);
        const sums: string[] = [];
        for (const name of [files.policy, files.state]) sums.push(await sumOf(partial, name));
        writeFileSync(join(partial, files.sums), sums.join(''));
        refused = true;
        check();
        refused = false;
      };
      // A step that was saved before its evaluation is saved again after it.
      await writeFolderWhole(join(this.folder, folderName(step)), write, { replace: true });
    } catch (cause) {
      if (refused) throw cause;
      throw new GroupRobustError(
        'CHECKPOINT',
        `the checkpoint of step ${step} is not saved: ${messageOf(cause)}\n  fix: solve that (earlier checkpoints are ` +
          'as they were), then run the same command with --resume to go on from the last one',
        { cause },
      );
    }
    this.prune();
  }

  /**
   * The newest checkpoint that is whole and passes `fits`, which returns what is wrong with one, or throws. Those skipped are removed,
   * since they would be in the way when the run reaches their steps again. Undefined where there is none at all.
   * @param skipped is told of each that is skipped
   * @throws InputError where there are some and none is whole; then, or where `fits` throws, nothing is removed
   */
  async newest(
    fits: (checkpoint: Checkpoint) => string | undefined,
    skipped: (text: string) => void,
  ): Promise<FoundCheckpoint | undefined> {
    if (!existsSync(this.folder)) return undefined;
    removePartials(this.folder);
    const faults: [name: string, fault: string][] = [];
    for (const name of this.names()) {
      const folder = join(this.folder, name);
      const fault = (await damage(folder)) ?? fits(readState(folder)) ?? (await this.damageOfBest(folder));
      if (fault === undefined) {
        for (const [bad, why] of faults) {
          skipped(`skipped the checkpoint ${join(this.folder, bad)}, which cannot be gone on from: ${why}`);
          rmSync(join(this.folder, bad), { recursive: true });
        }
        this.prune();
        return { ...readState(folder), policyFile: join(folder, files.policy) };
      }
      faults.push([name, fault]);
    }
    if (faults.length === 0) return undefined;
    throw new InputError(`holds no whole checkpoint (${faults.map(([name, why]) => `${name}: ${why}`).join('; ')})`, {
      at: { file: this.folder },
      fix: 'restore one, or remove the run folder to start over',
    });
  }

  /**
   * The policy's file of the checkpoint of one step.
   * @throws GroupRobustError where that is not whole
   */
  async policyFile(step: number): Promise<string> {
    const folder = join(this.folder, folderName(step));
    const fault = await damage(folder);
    if (fault !== undefined)
      throw new GroupRobustError('CHECKPOINT', `${folder} is not whole: ${fault}\n  fix: restore it, or run anew`);
    return join(folder, files.policy);
  }

  /** Why the best checkpoint that another refers to is not whole, which would otherwise come out only after the last step. */
  private async damageOfBest(folder: string): Promise<string | undefined> {
    const best = this.best ? readState(folder).trainer.best : undefined;
    const name = best && folderName(best.step);
    if (name === undefined || name === basename(folder)) return undefined;
    const fault = await damage(join(this.folder, name));
    return fault && `the best one that it knows of, ${name}, is not whole: ${fault}`;
  }

  /** Names of checkpoint folders, newest first. */
  private names(): string[] {
    return stepFolders(this.folder).sort((a, b) => stepOf(b) - stepOf(a));
  }

  private prune(): void {
    const all = this.names().map((name) => ({ name, state: this.stateOf(name) }));
    const scheduled = all.filter(({ state }) => !state?.unscheduled);
    const kept = new Set([...all.slice(0, 1), ...scheduled.slice(0, this.keep)]);
    // A run may go on from any of them, so the best one that each refers to must still be there at the end.
    const best = this.best ? [...kept].map(({ state }) => state?.trainer.best?.step) : [];
    for (const one of all)
      if (!kept.has(one) && !best.includes(stepOf(one.name))) rmSync(join(this.folder, one.name), { recursive: true });
  }

  /** Undefined where it cannot be read any more. */
  private stateOf(name: string): Checkpoint | undefined {
    try {
      return readState(join(this.folder, name));
    } catch {
      return undefined;
    }
  }
}

/** The step of the newest checkpoint of a run, whole or not; 0 where there is none. */
export function newestStep(run: string): number {
  const folder = join(run, 'checkpoints');
  return existsSync(folder) ? Math.max(0, ...stepFolders(folder).map(stepOf)) : 0;
}

function stepFolders(folder: string): string[] {
  return readdirSync(folder).filter((name) => /^step-\d+$/.test(name));
}

function folderName(step: number): string {
  return `step-${String(step).padStart(8, '0')}`;
}

function stepOf(name: string): number {
  return Number(name.slice('step-'.length));
}

function readState(folder: string): Checkpoint {
  return JSON.parse(readFileSync(join(folder, files.state), 'utf8')) as Checkpoint;
}

/** Why a checkpoint is not whole; undefined where it is. */
async function damage(folder: string): Promise<string | undefined> {
  try {
    const sums = readFileSync(join(folder, files.sums), 'utf8');
    for (const name of [files.policy, files.state])
      if (!sums.includes(await sumOf(folder, name))) return `${name} is damaged`;
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}

/** The line of a file in SHA256SUMS. */
async function sumOf(folder: string, name: string): Promise<string> {
  return `${(await hashFile(join(folder, name))).digest('hex')}  ${name}\n`;
}
