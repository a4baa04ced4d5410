import { existsSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { checked, readJson } from '../files/read.js';

const id = z.int().min(0);
const schema = z.looseObject({ eos_token_id: z.union([id, z.array(id)]).nullish() });

/**
 * Ids that a checkpoint says end what it writes: `eos_token_id`, one or several, of generation_config.json or, where that has none, of
 * config.json. None of random models.
 * @throws InputError naming file and field
 */
export function stopTokens(model: string): number[] {
  if (model.startsWith('random:')) return [];
  for (const name of ['generation_config.json', 'config.json']) {
    const file = join(model, name);
    if (!existsSync(file)) continue;
    const { eos_token_id: stops } = checked(schema, readJson(file), { file });
    if (stops != null) return [stops].flat();
  }
  return [];
}
