import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { expect, it } from 'vitest';
import { configKeys } from '../../src/train/config.js';
import { configurationReference } from '../../src/train/config-reference.js';

const file = resolve('docs/configuration.md');

it('docs/configuration.md is what the schema says; after a change: npx vitest run test/train/config-reference.test.ts -u', async () =>
  await expect(configurationReference()).toMatchFileSnapshot(file));

it('has every key, and says what each means', () => {
  const rows = [...readFileSync(file, 'utf8').matchAll(/^\| `(.*?)` \| .+ \| .* \| (.+) \|$/gm)];
  expect(rows.map(([, key]) => key).sort()).toEqual(configKeys().sort());
});
