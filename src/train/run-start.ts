import { readdirSync } from 'node:fs';
import { z } from 'zod';
import { InputError } from '../errors.js';
import { byName } from '../files/by-name.js';
import { checked } from '../files/read.js';
import { refuseExisting, removePartials } from '../files/write.js';
import type { Checkpoint, Checkpoints, FoundCheckpoint } from './checkpoint.js';
import type { TrainConfig } from './config.js';
import { loadConfig } from './config-file.js';
import { evaluationDue } from './evaluate.js';
import { checkIdentity, type RunIdentity } from './identity.js';
import { hubNamesSchema, type namesAsBegun } from './inputs.js';
import type { MetricsLine } from './metrics-line.js';
import type { RunFolder } from './run-folder.js';
import { runLockName } from './run-lock.js';
import { logUntil } from './run-log.js';
import { dependsOnEnd } from './schedule.js';
import type { TrainerState } from './trainer-hooks.js';

/** Where a run goes on. */
export interface Start extends FoundCheckpoint {
  /** The log up to there. */
  lines: MetricsLine[];
  /** Whether the run is made longer than it was when this was saved. */
  longer: boolean;
}

/**
 * Where a run goes on; undefined where it has to start, because there is no checkpoint.
 * @throws InputError where the folder holds something else, no checkpoint is whole, or the run is of another identity
 */
export async function findStart(
  config: TrainConfig,
  folder: RunFolder,
  checkpoints: Checkpoints,
  identity: RunIdentity,
  warn: (text: string) => void,
): Promise<Start | undefined> {
  removePartials(folder.path);
  // Of the checkpoint that was checked last, which is the one that is found.
  let lines: MetricsLine[] = [];
  const fits = (checkpoint: Checkpoint) => {
    const logged = logUntil(folder.at('metrics'), checkpoint.log);
    if (!logged) return 'metrics.jsonl no longer has the lines that it had then';
    lines = logged;
    const length = lengthened(checkpoint.identity, identity);
    if (length === undefined) {
      checkIdentity(checkpoint.identity, identity, folder.path);
      return undefined;
    }
    checkIdentity({ ...checkpoint.identity, [length.key]: length.is }, identity, folder.path);
    return whyNotLonger(config, folder, length, checkpoint.trainer, checkpoints);
  };
  const found = await checkpoints.newest(fits, warn);
  if (found) return { ...found, lines, longer: lengthened(found.identity, identity) !== undefined };
  // A run that was killed before its first checkpoint is started over; anything else must not be overwritten.
  if (!folder.has('config') || folder.has('adapter')) refuseExisting(folder.path, runLockName);
  else warn(`${folder.path} has no checkpoint yet; the run starts over`);
  return undefined;
}

/** What a run began with: the names of model, adapter and tokenizer, and its type of numbers; nothing where its folder does not tell. */
export function begunWith(
  folder: RunFolder,
): Parameters<typeof namesAsBegun>[1] & { names: Partial<Pick<TrainConfig, 'dtype'>> } {
  if (!folder.has('config') || !folder.has('record')) return { names: {}, hub: {} };
  const { hub = {} } = checked(z.object({ hub: hubNamesSchema.optional() }), folder.readRecord(), {
    file: folder.at('record'),
  });
  return { names: loadConfig(folder.at('config')), hub };
}

interface Length {
  key: 'steps' | 'epochs';
  was: number;
  is: number;
}

/** The key by which the run is to be longer than it was; undefined where it is not. */
function lengthened(saved: RunIdentity, now: RunIdentity): Length | undefined {
  for (const key of ['steps', 'epochs'] as const) {
    const [was, is] = [saved[key], now[key]];
    if (typeof was === 'number' && typeof is === 'number' && is > was) return { key, was, is };
  }
  return undefined;
}

/**
 * Why the longer run could not have come to this checkpoint; an older one may still do. Undefined where it could.
 * @throws InputError where no checkpoint can do
 */
function whyNotLonger(
  config: TrainConfig,
  folder: RunFolder,
  { key, was, is }: Length,
  { step, finished, unevaluated }: TrainerState,
  checkpoints: Checkpoints,
): string | undefined {
  const { optimizer, data } = config;
  const run = folder.path;
  const fix =
    `put ${key} back to ${was}; or start a run of ${is} ${key} with another output; or start one from ` +
    `${folder.at('adapter')}, as its adapter, which is then its reference too`;
  const { warmupRatio = 0, schedule } = optimizer;
  if (dependsOnEnd(optimizer))
    throw new InputError(
      `is ${is}, but was ${was} when the run began: with ${warmupRatio > 0 ? `warmupRatio: ${warmupRatio}` : `schedule: ${schedule}`} ` +
        `all learning rates depend on the number of steps, so a run of ${is} ${key} has another past, and ${run} cannot be made longer`,
      { at: { field: key }, fix },
    );
  if (data.validation === undefined || !finished || unevaluated) return undefined;
  if (evaluationDue(step, config, trainPairs(folder))) return undefined;
  const problem = `step ${step} was evaluated as the last of ${was} ${key}, which the longer run would not do`;
  if (readdirSync(checkpoints.folder).filter((name) => name.startsWith('step-')).length > 1) return problem;
  throw new InputError(`${problem}, and no older checkpoint is kept, so ${run} cannot be made longer`, {
    at: { field: key },
    fix,
  });
}

const sizesSchema = z.object({
  // Runs of earlier versions have none, and no groups that overlap.
  pairs: z.object({ train: z.number() }).optional(),
  groups: byName(z.object({ train: z.number() })),
});

/** Training pairs of a run that has begun. */
function trainPairs(folder: RunFolder): number {
  const { pairs, groups } = checked(sizesSchema, folder.readRecord(), { file: folder.at('record') });
  return pairs?.train ?? [...groups.values()].reduce((sum, { train }) => sum + train, 0);
}
