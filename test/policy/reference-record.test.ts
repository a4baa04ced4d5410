import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { adapterDigest } from '../../src/policy/reference-record.js';
import { temporaryFolder } from '../temporary-folder.js';

it('an adapter’s digest changes with whatever scales its update, and with nothing else of its settings', async () => {
  const folder = join(temporaryFolder(), 'adapter');
  cpSync('test/fixtures/gemma-tiny/adapter', folder, { recursive: true });
  const file = join(folder, 'adapter_config.json');
  const settings = JSON.parse(readFileSync(file, 'utf8')) as { use_rslora?: boolean };
  const digestWith = (changes: object) => {
    writeFileSync(file, JSON.stringify({ ...settings, ...changes }));
    return adapterDigest(folder);
  };
  const plain = await digestWith({ rank_pattern: undefined, alpha_pattern: undefined });
  expect(await digestWith({ rank_pattern: {}, alpha_pattern: null, base_model_name_or_path: 'elsewhere' })).toBe(plain);
  const others = [
    { lora_alpha: 1 },
    { r: 5 },
    { use_rslora: !settings.use_rslora },
    { alpha_pattern: { q_proj: 2 } },
    { alpha_pattern: { q_proj: 3 } },
    { rank_pattern: { q_proj: 2 } },
  ];
  const digests = [plain];
  for (const changes of others) digests.push(await digestWith(changes));
  expect(new Set(digests).size).toBe(others.length + 1);
});
