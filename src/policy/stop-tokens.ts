import { existsSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { checked, readJson } from '../files/read.js';

const id = z.int().min(0);
const named = z.union([id, z.array(id)]).nullish();
const schema = z.looseObject({ eos_token_id: named, text_config: z.looseObject({ eos_token_id: named }).nullish() });

/** What transformers' configurations of all Gemma generations take where a file names none. */
const defaultStop = 1;

/**
 * Ids that a checkpoint says end what it writes: `eos_token_id`, one or several, of generation_config.json or, where that has none, of
 * config.json; of a multimodal one transformers 5 writes it in `text_config` alone. None of random models.
 * @throws InputError naming file and field
 */
export function stopTokens(model: string): number[] {
  if (model.startsWith('random:')) return [];
  for (const name of ['generation_config.json', 'config.json']) {
    const file = join(model, name);
    if (!existsSync(file)) continue;
    const { eos_token_id: own, text_config: text } = checked(schema, readJson(file), { file });
    const stops = own ?? text?.eos_token_id;
    if (stops != null) return [stops].flat();
  }
  return [defaultStop];
}
