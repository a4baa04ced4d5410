import { createHash } from 'node:crypto';
import { closeSync, existsSync, fsyncSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import { writeFault, writeFileWhole } from '../files/write.js';
import { type MetricsLine, metricsLineSchema } from './metrics-line.js';

/** How far a log had come: so many bytes, with this SHA-256. */
export interface LogPosition {
  bytes: number;
  sha256: string;
}

/**
 * metrics.jsonl while a run writes it; knows its length and checksum at any time, for checkpoints. Each process writes a file of its own,
 * renamed into place, and every line at its own position. So if this process took the run over from a stalled one, what that one still
 * writes goes to the old file, and a line that anyone adds to this one is overwritten.
 */
export class RunLog {
  private bytes = 0;
  private readonly hash = createHash('sha256');

  private constructor(
    private readonly file: string,
    private readonly descriptor: number,
  ) {}

  /** An empty log, in place of whatever the file holds. */
  static create(file: string): RunLog {
    return RunLog.open(file, Buffer.alloc(0));
  }

  /** Continues a log at `position`, which {@link logUntil} has found good; what was written after it is cut off. */
  static resume(file: string, { bytes }: LogPosition): RunLog {
    return RunLog.open(file, readFileSync(file).subarray(0, bytes));
  }

  private static open(file: string, kept: Buffer): RunLog {
    writeFileWhole(file, kept);
    try {
      const log = new RunLog(file, openSync(file, 'r+'));
      log.count(kept);
      return log;
    } catch (error) {
      throw writeFault(file, error);
    }
  }

  append(line: MetricsLine): void {
    const bytes = Buffer.from(`${JSON.stringify(line)}\n`);
    try {
      for (let done = 0; done < bytes.length; )
        done += writeSync(this.descriptor, bytes, done, bytes.length - done, this.bytes + done);
    } catch (error) {
      throw writeFault(this.file, error);
    }
    this.count(bytes);
  }

  /** Makes sure that everything appended is on the disk, and returns how far that is. */
  sync(): LogPosition {
    try {
      ftruncateSync(this.descriptor, this.bytes);
      fsyncSync(this.descriptor);
    } catch (error) {
      throw writeFault(this.file, error);
    }
    return { bytes: this.bytes, sha256: this.hash.copy().digest('hex') };
  }

  close(): void {
    closeSync(this.descriptor);
  }

  private count(bytes: Buffer): void {
    this.bytes += bytes.length;
    this.hash.update(bytes);
  }
}

/** The lines of a log up to `position`; undefined where the file no longer starts with what it held then. */
export function logUntil(file: string, position: LogPosition): MetricsLine[] | undefined {
  if (!existsSync(file)) return undefined;
  const kept = readFileSync(file).subarray(0, position.bytes);
  if (createHash('sha256').update(kept).digest('hex') !== position.sha256) return undefined;
  return kept
    .toString('utf8')
    .split('\n')
    .slice(0, -1)
    .map((line) => metricsLineSchema.parse(JSON.parse(line)));
}
