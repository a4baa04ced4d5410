import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { checked, readJson } from '../files/read.js';
import { writeFileWhole } from '../files/write.js';
import type { RunLock } from './run-lock.js';

/** Files and folders of a run folder, besides checkpoints and TensorBoard's. */
const names = {
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
} as const;
type Name = keyof typeof names;

const recordSchema = z.record(z.string(), z.unknown());

/** The folder of a run that this process holds. */
export class RunFolder {
  constructor(
    readonly path: string,
    private readonly lock: RunLock,
  ) {}

  at(name: Name): string {
    return join(this.path, names[name]);
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
    const file = this.at('record');
    return checked(recordSchema, readJson(file), { file });
  }
}
