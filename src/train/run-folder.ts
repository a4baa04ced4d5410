import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { checked, readJson } from '../files/read.js';
import { writeFileWhole } from '../files/write.js';
import type { TrainConfig } from './config.js';
import type { RunLock } from './run-lock.js';

/** Files and folders of a run folder, besides checkpoints and TensorBoard's. */
export const runFiles = {
  config: 'config.yaml',
  record: 'run.json',
  metrics: 'metrics.jsonl',
  alpha: 'alpha.csv',
  adapter: 'adapter',
  evaluation: 'evaluation.json',
  testPairs: 'evaluation-pairs.jsonl',
  bestAdapter: 'adapter-best',
  bestEvaluation: 'evaluation-best.json',
  bestTestPairs: 'evaluation-best-pairs.jsonl',
  report: 'report.html',
} as const;
type Name = keyof typeof runFiles;

const recordSchema = z.record(z.string(), z.unknown());

/**
 * Whether the run in a folder has ended. A run writes its report last, but a report alone tells nothing: `group-robust report` writes the same
 * file, of whatever is there. So the record has to name the steps of the end too, and all figures of these have to be there.
 */
export function hasEnded(folder: string, { data, checkpoint }: Pick<TrainConfig, 'data' | 'checkpoint'>): boolean {
  const has = (name: Name) => existsSync(join(folder, runFiles[name]));
  if (!has('report') || !has('record')) return false;
  const { steps, best, longer } = recordOf(join(folder, runFiles.record));
  // One that is being made longer still has what its earlier end left.
  if (steps === undefined || longer !== undefined) return false;
  const test = data.test !== undefined;
  return (!test || has('evaluation')) && (!checkpoint.best || (best !== undefined && (!test || has('bestEvaluation'))));
}

/** The folder of a run that this process holds. */
export class RunFolder {
  constructor(
    readonly path: string,
    private readonly lock: RunLock,
  ) {}

  at(name: Name): string {
    return join(this.path, runFiles[name]);
  }

  has(name: Name): boolean {
    return existsSync(this.at(name));
  }

  /** @throws GroupRobustError where the folder no longer belongs to this process, which must write nothing more */
  checkHeld(): void {
    this.lock.check();
  }

  /** Writes a file whole. @throws as {@link checkHeld} */
  write(name: Name, text: string): void {
    this.checkHeld();
    writeFileWhole(this.at(name), text);
  }

  writeJson(name: Name, value: object): void {
    this.write(name, `${JSON.stringify(value, null, 2)}\n`);
  }

  /** run.json as it stands. */
  readRecord(): Record<string, unknown> {
    return recordOf(this.at('record'));
  }
}

function recordOf(file: string): Record<string, unknown> {
  return checked(recordSchema, readJson(file), { file });
}
