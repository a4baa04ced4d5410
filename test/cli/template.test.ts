import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { temporaryFolder } from '../temporary-folder.js';
import { groupRobust } from './run.js';

/** A run's template goes with its adapter: `eval` and `logprobs` read prompts as the run did. */
const folder = temporaryFolder();
const at = (...names: string[]) => join(folder, ...names);
const template = 'You are {group}. {prompt}';

const responses = { chosen: 'A', rejected: 'B' };
const rows = ['Egypt', 'Peru'].flatMap((group) =>
  ['Is it?\n', 'Or not?\n'].map((prompt) => ({ group, prompt, ...responses })),
);
const write = (name: string, lines: object[]) => {
  writeFileSync(at(name), lines.map((line) => JSON.stringify(line)).join('\n'));
  return at(name);
};
const pairs = write('pairs.jsonl', rows);
const filled = write(
  'filled.jsonl',
  rows.map((row) => ({ ...row, prompt: `You are ${row.group}. ${row.prompt}` })),
);

const train = (output: string, data: object, ...more: string[]) => {
  const objective = { loss: 'ipo', beta: 0.1 };
  const lora = { rank: 2 };
  writeFileSync(at('config.yaml'), stringify({ model: 'random:tiny', output, data, objective, lora, steps: 2 }));
  return groupRobust(['train', at('config.yaml'), '--quiet', ...more]);
};
const adapter = at('run', 'adapter');
const score = (command: string, file: string, ...more: string[]) =>
  groupRobust([command, '--model', 'random:tiny', '--pairs', file, '--quiet', '--json', ...more]);

beforeAll(() => {
  const { status, stderr } = train(at('run'), { train: pairs, test: pairs, template });
  expect(status, stderr).toBe(0);
});

it('a run records it, and scores what a file with such prompts has', () => {
  const record = JSON.parse(readFileSync(at('run', 'run.json'), 'utf8'));
  expect(record.template).toBe(template);
  expect(JSON.parse(readFileSync(join(adapter, 'group_robust.json'), 'utf8')).template).toBe(template);
  expect(train(at('by-hand'), { train: filled, test: filled }).status).toBe(0);
  const evaluation = (run: string) => readFileSync(at(run, 'evaluation.json'), 'utf8');
  expect(evaluation('run')).toBe(evaluation('by-hand'));
});

it('--resume refuses another one', () => {
  for (const other of ['{group}: {prompt}', undefined]) {
    const { status, stderr } = train(at('run'), { train: pairs, test: pairs, template: other }, '--resume');
    expect([status, stderr]).toEqual([2, expect.stringMatching(/field "data\.template": .*cannot be continued/)]);
  }
  expect(train(at('run'), { train: pairs, test: pairs, template }, '--resume').status).toBe(0);
});

it('eval and logprobs take it from the adapter, or from --template', () => {
  const byDefault = score('eval', pairs, '--adapter', adapter);
  expect(byDefault.json.template).toBe(template);
  const asIs = ['--template', '{prompt}'];
  const byHand = score('eval', filled, '--adapter', adapter, ...asIs);
  expect(byHand.json.groups).toEqual(byDefault.json.groups);
  expect(byHand.stderr).toContain(`trained with the template "${template}", and is scored with "{prompt}"`);
  const lines = (...args: Parameters<typeof score>) => score(...args).json.logprobs;
  const scored = lines('logprobs', pairs, '--adapter', adapter, '--out', '-');
  expect(scored).toEqual(lines('logprobs', filled, '--adapter', adapter, '--out', '-', ...asIs));
  expect(scored).not.toEqual(lines('logprobs', pairs, '--adapter', adapter, '--out', '-', ...asIs));
  const country = write(
    'country.jsonl',
    rows.map(({ group, ...row }) => ({ country: group, ...row })),
  );
  expect(lines('logprobs', country, '--adapter', adapter, '--group-by', 'country', '--out', '-')).toEqual(scored);
  expect(lines('logprobs', pairs, '--template', template, '--out', '-')).toEqual(
    lines('logprobs', filled, '--out', '-'),
  );
});

it('a wrong one is refused, and a run from the adapter without it says so', () => {
  const { status, stderr } = score('eval', pairs, '--template', 'From {country}: {prompt}');
  expect([status, stderr]).toEqual([2, expect.stringContaining('{country}')]);
  writeFileSync(
    at('more.yaml'),
    stringify({
      model: 'random:tiny',
      adapter,
      output: at('more'),
      data: { train: pairs },
      objective: { loss: 'ipo', beta: 0.1 },
      steps: 1,
    }),
  );
  const more = groupRobust(['train', at('more.yaml'), '--quiet']);
  expect([more.status, more.stdout]).toEqual([0, expect.stringContaining(`trained with the template "${template}"`)]);
});

it('merge warns that the checkpoint does not carry it', () => {
  cpSync('test/fixtures/gemma-tiny', at('model'), { recursive: true });
  const merge = (out: string) =>
    groupRobust(['merge', '--model', at('model'), '--adapter', at('model', 'adapter'), '--out', at(out), '--json']);
  const plain = merge('plain');
  expect([plain.status, plain.json.template]).toEqual([0, undefined]);
  expect(plain.stderr).not.toContain('warning');
  writeFileSync(
    at('model', 'adapter', 'group_robust.json'),
    JSON.stringify({ method: 'ipo', reference: 'base', template }),
  );
  const warned = merge('warned');
  expect([warned.status, warned.json.template]).toEqual([0, template]);
  expect(warned.stderr).toContain(`trained with the template "${template}"`);
});
