import { createHash } from 'node:crypto';
import { existsSync, realpathSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import * as z from 'zod';
import { InputError } from '../errors.js';
import { OpenedFile } from '../files/opened-file.js';
import { checked, readJson } from '../files/read.js';
import { fileDigest } from './identity.js';
import { adapterFiles } from './peft.js';

/**
 * How an adapter was trained, against what and on what prompts, in a small file beside it that PEFT ignores. With another loss, or against
 * another reference, rewards and losses would have another scale, and nothing else in the folder would show it.
 */

export const recordName = 'group_robust.json';

const schema = z.strictObject({
  /** The method of the run, such as `gr-ipo`. */
  method: z.string(),
  /** The loss of a pair, β and what else it has, by the keys of a configuration; runs of earlier versions recorded none. */
  objective: z.record(z.string(), z.union([z.string(), z.number()])).optional(),
  /** An adapter on the same base, the base model itself, or `none`: the loss had no reference. */
  reference: z.union([
    z.strictObject({
      /** A path from the folder of this file, `./…` or `../…`, or an id of the hub with its commit. */
      adapter: z.string().min(1),
      /** See {@link adapterDigest}. */
      sha256: z.string().regex(/^[0-9a-f]{64}$/),
    }),
    z.enum(['base', 'none']),
  ]),
  /** `data.template` of the run; absent where prompts were as in the file. */
  template: z.string().optional(),
});

export type ReferenceRecord = z.infer<typeof schema>;

/** Digest of what an adapter computes, wherever its folder is: its weights, and the settings that scale them. */
export async function adapterDigest(folder: string): Promise<string> {
  const settings = readJson(join(folder, adapterFiles.config)) as Record<string, unknown>;
  const scaling = ['r', 'lora_alpha', 'use_rslora'].map((key) => settings[key] ?? null);
  // Only where there are any, since records were written before these were read.
  for (const key of ['rank_pattern', 'alpha_pattern']) {
    const pattern = settings[key];
    if (pattern && Object.keys(pattern).length > 0) scaling.push([key, pattern]);
  }
  using file = new OpenedFile(join(folder, adapterFiles.weights));
  const weights = await fileDigest(file);
  return createHash('sha256')
    .update(JSON.stringify([scaling, weights]))
    .digest('hex');
}

/**
 * @param at folder that the record will lie in
 * @param adapter folder of the reference
 * @param id its name on the hub, where it came from there
 */
export async function adapterReference(
  at: string,
  adapter: string,
  id?: string,
): Promise<ReferenceRecord['reference']> {
  const path = relative(resolve(at), resolve(adapter));
  return { adapter: id ?? (path.startsWith('.') ? path : `./${path}`), sha256: await adapterDigest(adapter) };
}

/** The text of the file. */
export function recordText(record: ReferenceRecord): string {
  return `${JSON.stringify(record, null, 2)}\n`;
}

/** Undefined where an adapter has none, for example one from another program. @throws InputError where it is malformed */
export function readRecord(folder: string): ReferenceRecord | undefined {
  const file = join(folder, recordName);
  return existsSync(file) ? checked(schema, readJson(file), { file }) : undefined;
}

/** A recorded reference as a path, or an id of the hub. */
export function recordedAdapter(folder: string, adapter: string): string {
  if (!adapter.startsWith('.')) return adapter;
  const path = join(folder, adapter);
  // The folder may be a link, and the path relative to its target.
  return existsSync(path) ? path : join(realpathSync(folder), adapter);
}

/** @throws InputError where the adapter is gone or has changed */
export async function checkRecorded(folder: string, path: string, sha256: string): Promise<void> {
  const fix = 'name the adapter that the run began with with --reference-adapter, wherever it is now';
  const at = { file: join(folder, recordName), field: 'reference' };
  if (!existsSync(join(path, adapterFiles.weights)))
    throw new InputError(`there is no adapter at ${path}, against which this one was trained`, { at, fix });
  if ((await adapterDigest(path)) !== sha256)
    throw new InputError(`${path} is no longer the adapter against which this one was trained`, { at, fix });
}
