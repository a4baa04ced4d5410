import { existsSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { InputError } from '../errors.js';
import { checked, readJson, refuseSpecial } from '../files/read.js';
import { SafetensorsFile } from './safetensors.js';

/** Files of a checkpoint's tokenizer; only the first is always there. */
export const tokenizerNames = [
  'tokenizer.json',
  'tokenizer_config.json',
  'chat_template.jinja',
  'special_tokens_map.json',
  'added_tokens.json',
  'tokenizer.model',
];
/** Files that belong to a checkpoint besides its weights; a merged model keeps them. The last two prepare images. */
export const checkpointCompanions = [
  'config.json',
  ...tokenizerNames,
  'generation_config.json',
  'processor_config.json',
  'preprocessor_config.json',
];

const wholeName = 'model.safetensors';
/** Names the shard of each tensor. */
export const indexName = 'model.safetensors.index.json';
const shard = /^model-\d+-of-\d+\.safetensors$/;

/** The files of a repository that hold weights; as in loading, a single file is preferred to shards. */
export function weightNames(names: readonly string[]): string[] {
  return names.includes(wholeName) ? [wholeName] : names.filter((name) => name === indexName || shard.test(name));
}

const indexSchema = z.looseObject({ weight_map: z.record(z.string(), z.string()) });

/**
 * The safetensors files of a checkpoint folder: model.safetensors, or the shards of model.safetensors.index.json, each
 * of which must hold exactly the tensors the index says.
 * @throws InputError naming the missing file, or the tensor that is not where the index has it
 */
export function checkpointFiles(folder: string): string[] {
  const whole = join(folder, wholeName);
  if (existsSync(whole)) {
    refuseSpecial(whole);
    return [whole];
  }
  const index = join(folder, indexName);
  if (!existsSync(index))
    throw new InputError(`holds neither ${wholeName} nor ${indexName}`, {
      at: { file: folder },
      fix: 'download the safetensors files of the checkpoint; older .bin files are not read',
    });
  const { weight_map: weightMap } = checked(indexSchema, readJson(index), { file: index });
  const shards = new Map<string, Set<string>>();
  for (const [tensor, name] of Object.entries(weightMap)) {
    if (!/^[^/\\]+\.safetensors$/.test(name))
      throw new InputError(`"${name}" is not the name of a safetensors file beside the index`, {
        at: { file: index, tensor },
      });
    const tensors = shards.get(name) ?? new Set();
    shards.set(name, tensors.add(tensor));
  }
  if (shards.size === 0) throw new InputError('is empty', { at: { file: index, field: 'weight_map' } });
  const missing = [...shards.keys()].filter((name) => !existsSync(join(folder, name)));
  if (missing.length > 0)
    throw new InputError(`names files that are missing: ${missing.join(', ')}`, {
      at: { file: index, field: 'weight_map' },
      fix: 'download them too',
    });
  return [...shards].map(([name, expected]) => {
    const file = join(folder, name);
    refuseSpecial(file);
    const found = tensorNames(file);
    for (const tensor of expected)
      if (found && !found.has(tensor))
        throw new InputError('is not in this file, where the index has it', { at: { file, tensor } });
    return file;
  });
}

/** Names in a safetensors header; undefined where it cannot be read, which loading then explains in full. */
export function tensorNames(path: string): Set<string> | undefined {
  try {
    using file = new SafetensorsFile(path);
    return new Set(file.entries.map(({ name }) => name));
  } catch {
    return undefined;
  }
}
