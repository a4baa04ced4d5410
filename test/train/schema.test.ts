import { readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { sweepSchema } from '../../src/sweep/config.js';
import { configSchema } from '../../src/train/config.js';

/** The JSON Schemas by which editors complete and check configurations, and files of sweeps. */
const file = resolve('schema/train.schema.json');
const sweepFile = resolve('schema/sweep.schema.json');

const all = readdirSync('experiments', { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.yaml'))
  .map((name) => join('experiments', name));
const isSweep = (name: string) => /(^|-)sweep\.yaml$/.test(basename(name));
const examples = all.filter((name) => !isSweep(name));

it.each([
  [file, 'Configuration of group-robust train', configSchema],
  [sweepFile, 'File of group-robust sweep', sweepSchema],
])(
  '%s is what is checked with; after a change: npx vitest run test/train/schema.test.ts -u',
  async (path, title, checked) => {
    const schema = { title, ...z.toJSONSchema(checked, { io: 'input' }) };
    await expect(`${JSON.stringify(schema, null, 2)}\n`).toMatchFileSnapshot(path);
  },
);

it.each(all.filter(isSweep))('%s names the schema of sweeps, and is valid', (example) => {
  const text = readFileSync(example, 'utf8');
  const [, path] = /^# yaml-language-server: \$schema=(\S+)\n/.exec(text) ?? [];
  expect(resolve(dirname(example), path)).toBe(sweepFile);
  const validate = new Ajv2020().compile(JSON.parse(readFileSync(sweepFile, 'utf8')));
  expect(validate(parse(text)), JSON.stringify(validate.errors)).toBe(true);
  expect(validate({ ...parse(text), jobs: 2 })).toBe(false);
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

  it.each([file, sweepFile])('every key of %s is explained', (path) => {
    const unexplained = (schema: { properties?: object; items?: object }, parent: string): string[] => [
      ...Object.entries(schema.properties ?? {}).flatMap(([key, child]) => [
        ...(child.description ? [] : [`${parent}${key}`]),
        ...unexplained(child, `${parent}${key}.`),
      ]),
      ...(schema.items ? unexplained(schema.items, parent) : []),
    ];
    expect(unexplained(JSON.parse(readFileSync(path, 'utf8')), '')).toEqual([]);
  });
});
