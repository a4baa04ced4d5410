import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { refuseSpecial } from '../../src/files/read.js';
import { inputError } from '../data/helpers.js';
import { temporaryFolder } from '../temporary-folder.js';

/** Inputs that are no files: to open a pipe that nobody writes to would wait for ever. */

const folder = temporaryFolder();
const at = (name: string) => join(folder, name);
const pipe = (name: string) => execFileSync('mkfifo', [at(name)]);

const fixture = resolve('test/fixtures/gemma-tiny');
for (const name of ['model', 'weights', 'config', 'adapter', 'tokenizer'])
  cpSync(fixture, at(name), { recursive: true });
const inside = {
  weights: 'weights/model.safetensors',
  config: 'config/config.json',
  adapter: 'adapter/adapter/adapter_model.safetensors',
};
for (const name of Object.values(inside)) rmSync(at(name));
for (const name of ['pipe', 'pipe.csv', 'pipe.parquet', 'tokenizer/tokenizer.json', ...Object.values(inside)])
  pipe(name);
const ids = '{"group":"a","prompt_ids":[2,5],"chosen_ids":[6,1],"rejected_ids":[7,1]}\n';
writeFileSync(at('ids.jsonl'), ids);
cpSync(resolve('test/fixtures/preferences/survey-python.csv'), at('survey-python.csv'));
writeFileSync(at('text.jsonl'), '{"group":"a","prompt":"x","chosen":"y","rejected":"z"}\n');
const config = (name: string, train: string, more = '') =>
  writeFileSync(
    at(name),
    `model: random:tiny\noutput: out\ndata: { train: ${train} }\nobjective: { loss: dpo, beta: 0.1 }\nsteps: 1\n${more}`,
  );
config('pipe-data.yaml', 'pipe');
config('pipe-adapter.yaml', 'ids.jsonl', 'adapter: pipe\n');
config('stdin.yaml', '/dev/stdin');

/** Through bash, whose pipes are pipes: those of Node are sockets. */
function run(command: string) {
  const program = `'${process.execPath}' '${resolve('dist/cli/main.js')}'`;
  const line = command.replace('group-robust', program);
  const { status, stderr, error } = spawnSync('bash', ['-c', line], { cwd: folder, encoding: 'utf8', timeout: 30_000 });
  rmSync(at('out'), { recursive: true, force: true });
  return { status, stderr, error };
}

describe('a pipe', () => {
  it.each([
    ['the model', 'pipe', 'logprobs --model pipe --pairs ids.jsonl --out out'],
    ['the weights', inside.weights, 'logprobs --model weights --pairs ids.jsonl --out out'],
    ['the configuration of a model', inside.config, 'logprobs --model config --pairs ids.jsonl --out out'],
    ['the tokenizer of a model', 'tokenizer/tokenizer.json', 'logprobs --model tokenizer --pairs text.jsonl --out out'],
    ['the tokenizer', 'pipe', 'logprobs --model model --tokenizer pipe --pairs text.jsonl --out out'],
    ['the adapter', 'pipe', 'logprobs --model model --adapter pipe --pairs ids.jsonl --out out'],
    [
      'the weights of an adapter',
      inside.adapter,
      'logprobs --model model --adapter adapter/adapter --pairs ids.jsonl --out out',
    ],
    ['pairs', 'pipe', 'logprobs --model random:tiny --pairs pipe --out out'],
    ['pairs as CSV', 'pipe.csv', 'logprobs --model random:tiny --pairs pipe.csv --out out'],
    ['pairs as Parquet', 'pipe.parquet', 'logprobs --model random:tiny --pairs pipe.parquet --out out'],
    ['prompts', 'pipe', 'sample --model random:tiny --prompts pipe --out out'],
    ['a survey', 'pipe', 'data global-opinions --file pipe --groups a,b --out out'],
    ['what is merged', inside.weights, 'merge --model weights --adapter model/adapter --out out'],
    ['a problem', 'pipe', 'converge --problem pipe'],
    ['a configuration', 'pipe', 'train pipe'],
    ['pairs of a run', 'pipe', 'train pipe-data.yaml'],
    ['the adapter of a run', 'pipe', 'train pipe-adapter.yaml'],
  ])('as %s is refused by name', (_, name, command) => {
    const { status, stderr } = run(`group-robust ${command}`);
    expect(stderr).toMatch(
      new RegExp(`^(warning: nothing in .*\n)?error: (\\S*/)?${name}: is a pipe, not a file\n {2}fix: `),
    );
    expect(status).toBe(2);
  });

  it.each([
    'cat ids.jsonl | group-robust logprobs --model random:tiny --pairs /dev/stdin --out out',
    'group-robust logprobs --model random:tiny --pairs <(cat ids.jsonl) --out out',
    'group-robust logprobs --model random:tiny --pairs /dev/stdin --out out < ids.jsonl',
    'cat survey-python.csv | group-robust data global-opinions --file /dev/stdin --groups Nigeria --out out',
  ])('of the shell is read: %s', (command) => {
    const { status, stderr } = run(command);
    expect(stderr).not.toContain('error');
    expect(status).toBe(0);
  });

  it('of the shell is refused as pairs of a run, which reads them more than once', () => {
    const { status, stderr } = run('cat ids.jsonl | group-robust train stdin.yaml');
    expect(stderr).toMatch(/^error: \/dev\/stdin: is a pipe, not a file\n {2}fix: /);
    expect(status).toBe(2);
  });
});

it('devices and sockets are refused too; files, folders and what is missing are left to the reader', async () => {
  for (const device of ['/dev/null', '/dev/zero'])
    expect((await inputError(() => refuseSpecial(device, { once: true }))).message).toContain('is a device');
  const server = createServer();
  await new Promise<void>((done) => server.listen(at('socket'), done));
  expect((await inputError(() => refuseSpecial(at('socket')))).message).toContain('is a socket');
  server.close();
  for (const name of ['ids.jsonl', 'model', 'missing', 'ids.jsonl/missing']) refuseSpecial(at(name));
});
