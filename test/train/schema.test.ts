import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { configSchema } from '../../src/train/config.js';

/** The JSON Schema by which editors complete and check configurations. */
const file = resolve('schema/train.schema.json');

const examples = readdirSync('experiments', { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.yaml'))
  .map((name) => join('experiments', name));

it('is what the configuration is checked with; after a change: npx vitest run test/train/schema.test.ts -u', async () => {
  const schema = { title: 'Configuration of group-robust train', ...z.toJSONSchema(configSchema, { io: 'input' }) };
  await expect(`${JSON.stringify(schema, null, 2)}\n`).toMatchFileSnapshot(file);
});

describe('in an editor', () => {
  const validate = new Ajv2020().compile(JSON.parse(readFileSync(file, 'utf8')));

  it.each(examples)('%s names the schema, and is valid', (example) => {
    const text = readFileSync(example, 'utf8');
    const [, path] = /^# yaml-language-server: \$schema=(\S+)\n/.exec(text) ?? [];
    expect(resolve(dirname(example), path)).toBe(file);
    expect(validate(parse(text)), JSON.stringify(validate.errors)).toBe(true);
  });

  it.each([
    ['a misspelt key', { optimizer: { learningrate: 1 } }],
    ['a wrong name', { objective: { loss: 'ippo' } }],
    ['a number out of range', { objective: { loss: 'ipo', beta: -1 } }],
    ['a missing key', { model: undefined }],
  ])('%s is marked', (_, change) => {
    const config = { ...parse(readFileSync(examples[0], 'utf8')), ...change };
    expect(validate(JSON.parse(JSON.stringify(config)))).toBe(false);
  });

  it('every key is explained', () => {
    const unexplained = (schema: { properties?: object }, path: string): string[] =>
      Object.entries(schema.properties ?? {}).flatMap(([key, child]) => [
        ...(child.description ? [] : [`${path}${key}`]),
        ...unexplained(child, `${path}${key}.`),
      ]);
    expect(unexplained(JSON.parse(readFileSync(file, 'utf8')), '')).toEqual([]);
  });
});
