import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpus } from 'node:os';
import type { Team } from '../distributed/team.js';
import { orderedRecord } from '../files/ordered-record.js';
import { hashFile } from '../files/read.js';
import { loadNative } from '../native/load.js';
import { methodName } from '../objective/method-name.js';
import { packageVersion } from '../package.js';
import type { Device } from '../policy/device.js';
import type { TrainConfig } from './config.js';
import type { RunData } from './inputs.js';
import type { RunFolder } from './run-folder.js';

/** run.json: how a run was made. */

/** What the last bits of a run's numbers depend on, besides its identity. */
type Making = {
  versions: Record<string, string>;
  threads: number;
  device: Device;
  /** Name of the card, or of the processor where the device is `cpu`. */
  processor: string;
  /** Absent where there is one. */
  processes?: number;
};

export function makingOn(device: Device, team?: Pick<Team, 'size'>): Making {
  const native = loadNative();
  const { torchVersion, threads } = native.nativeInfo();
  return {
    versions: { 'group-robust-po': packageVersion(), node: process.version, torch: torchVersion },
    threads,
    device,
    processor: device === 'cpu' ? (cpus()[0]?.model.trim() ?? 'unknown') : native.cardName(device),
    ...(team && { processes: team.size }),
  };
}

export async function provenance(config: TrainConfig, data: RunData, made: object): Promise<object> {
  const splits = splitsOf(data);
  return {
    method: methodName(config.objective),
    seed: config.seed,
    created: new Date().toISOString(),
    ...made,
    git: gitCommit(),
    dataHash: await hashOf(
      [...splits.map(({ split }) => split.file), ...(config.data.people ? [config.data.people.file] : [])],
      config.data.template,
    ),
    template: config.data.template,
    dropped: Object.fromEntries(splits.map(({ name, split }) => [name, split.report.dropped])),
    pairs: Object.fromEntries(splits.map(({ name, split }) => [name, split.pairs.length])),
    groups: groupSizes(data),
  };
}

/** Changes or adds entries of run.json. */
export function amendRecord(
  folder: RunFolder,
  data: RunData,
  change: (record: Record<string, unknown>) => object,
): void {
  const record = folder.readRecord();
  // What is parsed has lost the order of names that look like numbers.
  folder.writeJson('record', { ...record, groups: groupSizes(data), ...change(record) });
}

/** Pairs of each split, by group; those of several groups count in each. */
function groupSizes({ train, validation, test }: RunData): object {
  return orderedRecord(
    train.groups.map((name, g) => [
      name,
      { train: train.counts[g], validation: validation?.counts[g] ?? 0, test: test?.counts[g] ?? 0 },
    ]),
  );
}

function splitsOf({ train, validation, test }: RunData) {
  return Object.entries({ train, validation, test }).flatMap(([name, split]) => (split ? [{ name, split }] : []));
}

/** SHA-256 over the bytes of all data files, in order, that of the people last, and the template where there is one. */
async function hashOf(files: string[], template = ''): Promise<string> {
  const hash = createHash('sha256');
  for (const file of files) await hashFile(file, hash);
  hash.update(template);
  return hash.digest('hex');
}

/** Commit of the folder the command runs in; null outside a repository. */
function gitCommit(): string | null {
  try {
    return execFileSync('git', ['rev-parse', 'HEAD'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return null;
  }
}
