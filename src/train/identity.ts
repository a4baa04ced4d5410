import { createHash } from 'node:crypto';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { InputError, messageOf } from '../errors.js';
import { type FileState, OpenedFile } from '../files/opened-file.js';
import { missingFile, refuseSpecial } from '../files/read.js';
import { fileDigest } from '../policy/identity.js';
import type { TrainConfig } from './config.js';

/**
 * What a run is made of: the settings that decide its numbers, and the content of the files it reads. A run may be moved, or continued with
 * another number of threads, on another device or with other checkpoints; with another identity it would be another run.
 */
export type RunIdentity = Record<string, unknown>;

/** Keys that may differ when a run is resumed. */
const free = /^(output|device|threads|recompute|checkpoint\.(every|keep)|distributed\..*|nonFinite\..*)$/;
/** Keys that name files: their content counts, not where they lie. */
const inputs = ['model', 'tokenizer', 'adapter', 'data.train', 'data.validation', 'data.test', 'data.people.file'];

/**
 * Settings by dotted key, in the order of the configuration; files as SHA-256.
 * @param opened gets what each of the files was
 */
export async function runIdentity(config: TrainConfig, opened: FileState[] = []): Promise<RunIdentity> {
  const identity: RunIdentity = {};
  for (const [key, value] of settingsOf(config))
    identity[key] = inputs.includes(key) ? await inputIdentity(key, String(value), opened) : value;
  return identity;
}

/** The settings that decide a run's numbers, by dotted key; those of a configuration as it stands in a file too. */
export function settingsOf(config: object): [key: string, value: unknown][] {
  return [...leavesOf(config)].filter(([key]) => !free.test(key));
}

/** Whether runs of one method and choice of settings, with a seed and a split each, differ in this key. */
export function isOfOneRun(key: string): boolean {
  return /^(seed|adapter|data\.(train|validation|test|people\.file))$/.test(key);
}

/**
 * Refuses to continue a run as another one.
 * @throws InputError naming the key
 */
export function checkIdentity(saved: RunIdentity, now: RunIdentity, run: string): void {
  for (const key of new Set([...Object.keys(saved), ...Object.keys(now)])) {
    const [was, is] = [saved[key], now[key]].map((value) => JSON.stringify(value) ?? 'absent');
    if (was === is) continue;
    const known = (value: unknown) => typeof value === 'string' && value.startsWith(contentPrefix);
    const problem = known(saved[key])
      ? known(now[key])
        ? 'has changed since the run began'
        : `${is} is not what was there when the run began`
      : `is ${is}, but was ${was} when the run began`;
    throw new InputError(`${problem}, so ${run} cannot be continued`, {
      at: { field: key },
      fix: `put it back, or start a new run with another output`,
    });
  }
}

/** @throws InputError where the file is missing or cannot be read */
async function inputIdentity(key: string, path: string, opened: FileState[]): Promise<string> {
  // The other inputs may have names that are not paths.
  if (key.startsWith('data.') && !existsSync(path)) throw missingFile(path);
  // It is read again for the run itself.
  refuseSpecial(path);
  try {
    return await contentOf(path, opened, key === 'tokenizer' ? besideTokenizer : []);
  } catch (cause) {
    if (cause instanceof InputError) throw cause;
    throw new InputError(`cannot be read: ${messageOf(cause)}`, { at: { file: path, field: key }, cause });
  }
}

/** Settings by dotted key. */
export function* leavesOf(value: object, prefix = ''): Generator<[key: string, value: unknown]> {
  for (const [name, child] of Object.entries(value)) {
    if (child === undefined) continue;
    if (typeof child === 'object' && child !== null && !Array.isArray(child))
      yield* leavesOf(child, `${prefix}${name}.`);
    else yield [prefix + name, child];
  }
}

/** What is read of the folder of a model, adapter or tokenizer; other files there change nothing. */
const readNames =
  /^(config|tokenizer|tokenizer_config|adapter_config|model\.safetensors\.index)\.json$|^chat_template\.jinja$|\.safetensors$/;

/** What is read beside a tokenizer.json that is named itself. */
const besideTokenizer = ['chat_template.jinja', 'tokenizer_config.json'];

/**
 * A digest of a file, or of what is read of a folder; for anything else (`random:tiny`) the name itself.
 * @param beside names that are read too, where a file is named and they are in its folder
 */
async function contentOf(path: string, opened: FileState[], beside: readonly string[]): Promise<string> {
  if (!existsSync(path)) return path;
  const files = statSync(path).isDirectory()
    ? readdirSync(path)
        .filter((name) => readNames.test(name))
        .sort()
        .map((name) => ({ name, at: join(path, name) }))
    : [{ name: '', at: path }, ...beside.map((name) => ({ name, at: join(dirname(path), name) }))];
  const hash = createHash('sha256');
  for (const { name, at } of files) {
    if (name !== '' && !existsSync(at)) continue;
    using file = new OpenedFile(at);
    hash.update(`${name}\0${await fileDigest(file)}\0`);
    opened.push(file.state);
  }
  return contentPrefix + hash.digest('hex');
}

const contentPrefix = 'sha256:';
