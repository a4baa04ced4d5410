import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../temporary-folder.js';

/**
 * The CUDA kernels where there is no card: every .cu file is compiled by the C++ compiler against test/cuda-on-host, with its memory
 * accesses checked, and what it computes is compared with float64 (test/cuda-on-host/check.cc).
 */
const folder = temporaryFolder();
const emulation = resolve('test/cuda-on-host');
const kernels = readdirSync('native/kernels')
  .filter((name) => name.endsWith('.cu'))
  .map((name) => basename(name, '.cu'));

function run(command: string, ...args: string[]) {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: folder, encoding: 'utf8' });
  return { status, stdout, said: stdout + stderr };
}

/** Compiles `source` of this folder to `object`; what it includes from native/ comes from `tree`. */
function compile(source: string, object: string, tree: string, ...flags: string[]): void {
  const include = ['-I', tree, '-I', emulation];
  const { status, said } = run(
    'c++',
    '-std=c++20',
    '-O1',
    '-Wno-unknown-pragmas',
    ...flags,
    ...include,
    '-c',
    source,
    '-o',
    object,
  );
  expect(status, said).toBe(0);
}

/** The one thing in a .cu file that is no C++: `kernel<T, 4><<<grid, threads>>>(run)` becomes `launch(kernel<T, 4>, grid, threads)(run)`. */
const launches = /([\w:]+(?:<(?:[^<>;]|<[^<>;]*>)*>)?)<<<(.*?)>>>\(/gs;
const sanitized = ['-fsanitize=address,undefined', '-fno-sanitize-recover=all'];

function compileKernel(name: string, object: string, tree = resolve('native')): void {
  const source = readFileSync(join(tree, 'kernels', `${name}.cu`), 'utf8').replace(
    launches,
    'cuda_on_host::launch($1, $2)(',
  );
  expect(source).toContain('cuda_on_host::launch');
  writeFileSync(join(folder, `${object}.cc`), source);
  compile(`${object}.cc`, object, tree, ...sanitized);
}

/** Links the check with the kernels' objects and runs it, `only` for kernels of a name. */
function check(objects: string[], ...only: string[]) {
  const linked = run('c++', ...sanitized, 'check.o', ...objects, '-o', 'check');
  expect(linked.status, linked.said).toBe(0);
  return run('./check', ...only);
}

beforeAll(() => {
  compile(join(emulation, 'check.cc'), 'check.o', resolve('native'), '-Wall', '-Wextra');
  for (const name of kernels) compileKernel(name, `${name}.o`);
});

it('agree with float64: odd sizes, rows off 16 bytes, chunks of a vocabulary, both types of element', () => {
  const { status, stdout, said } = check(kernels.map((name) => `${name}.o`));
  expect(status, said).toBe(0);
  const results = JSON.parse(stdout) as Record<string, { cases: number; worst: number }>;
  expect(Object.keys(results)).toEqual([
    ...['GeGLU backward', 'GeGLU forward', 'RMSNorm backward', 'RMSNorm forward'],
    ...['log-sum backward', 'log-sum forward', 'rotary'],
  ]);
  for (const { cases, worst } of Object.values(results)) {
    expect(cases).toBeGreaterThanOrEqual(12);
    expect(worst).toBeLessThanOrEqual(1);
  }
});

/** Faults that a kernel may have: `right` in `file` becomes `wrong`, and `checked`, the name in check.cc, shows it. */
const faults = [
  {
    fault: 'a row too far',
    kernel: 'rms_norm',
    file: 'rms_norm.cu',
    right: 'run.y + row * run.columns',
    wrong: 'run.y + (row + 1) * run.columns',
    checked: 'RMSNorm',
    shows: /heap-buffer-overflow/,
  },
  {
    fault: 'a missing barrier',
    kernel: 'rms_norm',
    file: 'cuda/pack.h',
    right: '__syncthreads();',
    wrong: '',
    checked: 'RMSNorm',
    shows: /RMSNorm .* in place of/,
  },
  {
    fault: 'a barrier for a part of a block',
    kernel: 'token_log_prob',
    file: 'token_log_prob.cu',
    right: '__syncthreads();',
    wrong: 'if (lane == 0) __syncthreads();',
    checked: 'log-sum',
    shows: /never reaches/,
  },
  {
    fault: 'the neighbour of a target',
    kernel: 'token_log_prob',
    file: 'token_log_prob.cu',
    right: 'n * kWidth + i == place',
    wrong: 'n * kWidth + i == place + 1',
    checked: 'log-sum',
    shows: /log-sum backward.* in place of/,
  },
  {
    fault: 'the other half of a head',
    kernel: 'rotary',
    file: 'rotary.cu',
    right: 'storePack(run.y, second, w)',
    wrong: 'storePack(run.y, first, w)',
    checked: 'rotary',
    shows: /rotary.* in place of/,
  },
  {
    fault: 'wide reads of rows off 16 bytes',
    kernel: 'geglu',
    file: 'cuda/pack.h',
    right: '% 16 == 0',
    wrong: '% 4 == 0',
    checked: 'GeGLU',
    shows: /misaligned address/,
  },
];

describe('a fault shows', () => {
  it.for(faults)('$fault', ({ fault, kernel, file, right, wrong, checked, shows }) => {
    const tree = join(folder, fault);
    mkdirSync(tree);
    cpSync('native/kernels', join(tree, 'kernels'), { recursive: true });
    const at = join(tree, 'kernels', file);
    const before = readFileSync(at, 'utf8');
    expect(before).toContain(right);
    writeFileSync(at, before.replace(right, wrong));
    compileKernel(kernel, 'faulty.o', tree);
    const others = kernels.filter((name) => name !== kernel).map((name) => `${name}.o`);
    const { status, said } = check([...others, 'faulty.o'], checked);
    expect(said).toMatch(shows);
    expect(status).not.toBe(0);
  });
});
