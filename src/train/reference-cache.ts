import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Team } from '../distributed/team.js';
import { messageOf } from '../errors.js';
import { writeFileWhole } from '../files/write.js';
import { cacheFolder } from '../install/cache.js';
import type { NativeBatch } from '../native/types.js';
import { onAnyCard } from '../policy/identity.js';

/** First bytes of a file; the number changes with the layout of the file. */
const magic = Buffer.from('refscr01', 'latin1');
const headerBytes = magic.length + 32;

/** Where the reference scores of all runs of this user are kept; the folder may be removed at any time. */
export function referenceFolder(): string {
  return join(cacheFolder(), 'reference');
}

/**
 * Reference scores on disk. One file holds the scores of one sequence of batches by one model, and its key is made of both. So anything
 * that could change a score changes the key, and nothing else does (group names, weights, losses, the order of training).
 *
 * A file is magic, SHA-256 of key and scores, then the scores: float64, one per response in batch order, 16 bytes a pair. It
 * may hold the first batches only, where a run was stopped; whoever comes next goes on from there. Files are written
 * beside their place and renamed, so two writers end with one whole file, and either's is right.
 */
export class ReferenceCache {
  private alike: Promise<boolean> | undefined;

  /**
   * @param identity everything besides the batches that the scores depend on; see src/policy/identity.ts
   * @param warn told about a damaged file, or a folder that cannot be written; neither stops a run
   */
  constructor(
    private readonly identity: () => Promise<Record<string, unknown>>,
    private readonly warn: (text: string) => void,
    private readonly folder: string = referenceFolder(),
  ) {}

  /**
   * Whether all processes of a team score to the same bits, so that their scores may be kept as those of rank 0; warns once where they do
   * not. All processes call it.
   */
  alikeIn(team: Team): Promise<boolean> {
    this.alike ??= this.compare(team);
    return this.alike;
  }

  private async compare(team: Team): Promise<boolean> {
    const own = JSON.stringify(onAnyCard(await this.identity()));
    const all = await team.gatherJson(createHash('sha256').update(own).digest('hex'));
    const rank = all.findIndex((digest) => digest !== all[0]);
    if (rank < 0) return true;
    this.warn(
      `reference scores are not kept: rank ${rank} has another processor, card, build or environment than rank 0, so last bits may differ`,
    );
    return false;
  }

  /** The entry of these batches: every id and length counts, and so do the boundaries of the batches. */
  async entry(batches: Iterable<NativeBatch>): Promise<ReferenceEntry> {
    const hash = createHash('sha256').update(JSON.stringify(await this.identity()));
    for (const { tokens, promptLengths, responseCounts, responseLengths } of batches)
      for (const numbers of [tokens, promptLengths, responseCounts, responseLengths])
        hash.update(Int32Array.of(numbers.length)).update(numbers);
    return new ReferenceEntry(this.folder, hash.digest('hex'), this.warn);
  }
}

/** The scores of one sequence of batches, in its file. */
class ReferenceEntry {
  readonly file: string;

  constructor(
    folder: string,
    private readonly key: string,
    private readonly warn: (text: string) => void,
  ) {
    this.file = join(folder, `${key}.f64`);
  }

  /** Fills the front of `scores` with what the file has, and returns how many: 0 where nothing can be trusted. */
  read(scores: Float64Array): number {
    if (!existsSync(this.file)) return 0;
    let bytes: Buffer;
    try {
      bytes = readFileSync(this.file);
    } catch (error) {
      this.warn(`reference scores are not read: ${messageOf(error)}`);
      return 0;
    }
    const payload = bytes.subarray(headerBytes);
    const whole = bytes.subarray(0, headerBytes).equals(this.header(payload));
    if (!whole || payload.length % 8 !== 0 || payload.length > scores.byteLength) {
      this.warn(`${this.file} is damaged; the reference is scored again`);
      return 0;
    }
    const kept = new Float64Array(Uint8Array.from(payload).buffer);
    scores.set(kept);
    return kept.length;
  }

  /** Keeps these scores, of all batches or of the first ones. */
  write(scores: Float64Array): void {
    const payload = Buffer.from(scores.buffer, scores.byteOffset, scores.byteLength);
    try {
      writeFileWhole(this.file, Buffer.concat([this.header(payload), payload]));
    } catch (error) {
      this.warn(`reference scores are not kept: ${messageOf(error)}`);
    }
  }

  /** The checksum covers the key too: a file under another name is as wrong as a damaged one. */
  private header(payload: Uint8Array): Buffer {
    return Buffer.concat([magic, createHash('sha256').update(this.key).update(payload).digest()]);
  }
}
