import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { InputError } from '../../src/errors.js';
import { missingForGpu } from '../../src/install/gpu.js';
import { resolveDevice } from '../../src/policy/device.js';
import { GemmaPolicy } from '../../src/policy/gemma.js';
import { temporaryFolder } from '../temporary-folder.js';
import { pretendCards } from './pretend-cards.js';

/** Which device a wish means, on machines that are told of rather than there. */

const card = '580.95.05, NVIDIA H100';

function machine(cudaBuilt: boolean, cudaDevices: number, gpus?: readonly string[]) {
  return { info: () => ({ cudaBuilt, cudaDevices }), gpus: () => gpus };
}

function refusal(wish: string, on: ReturnType<typeof machine>): string {
  try {
    resolveDevice(wish, '--device', undefined, on);
  } catch (error) {
    expect(error).toBeInstanceOf(InputError);
    return (error as InputError).message;
  }
  return expect.fail('nothing was refused');
}

afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
});

describe('a wish', () => {
  it.each([
    ['auto', 2, 'cuda:0'],
    ['auto', 0, 'cpu'],
    ['cpu', 2, 'cpu'],
    ['cuda', 2, 'cuda:0'],
    ['cuda:0', 1, 'cuda:0'],
    ['cuda:1', 2, 'cuda:1'],
    ['cuda:11', 12, 'cuda:11'],
  ])('%s with %i cards is %s', (wish, cards, device) => {
    expect(resolveDevice(wish, '--device', undefined, machine(true, cards, [card]))).toBe(device);
  });

  it('auto is the default, and takes the CPU where the addon is not built for CUDA, whatever the driver shows', () => {
    expect(resolveDevice(undefined, 'device', undefined, machine(false, 0, [card]))).toBe('cpu');
    expect(resolveDevice(undefined, 'device', undefined, machine(true, 1))).toBe('cuda:0');
  });

  it('for the CPU, or granted, asks no driver, and the CPU no addon either', () => {
    const never = () => expect.fail('was asked');
    expect(resolveDevice('cpu', 'device', undefined, { info: never, gpus: never })).toBe('cpu');
    for (const wish of ['auto', 'cuda'])
      expect(resolveDevice(wish, 'device', undefined, { ...machine(true, 1), gpus: never })).toBe('cuda:0');
  });

  it.each(['gpu', 'CUDA', 'cuda:', 'cuda:-1', 'cuda:01', 'cuda:x', 'cuda0', ''])('%j is no device', (wish) => {
    expect(refusal(wish, machine(true, 1, [card]))).toBe(
      `field "--device": "${wish}" is not a device\n  fix: use cpu, cuda, cuda:N or auto`,
    );
  });
});

describe('a GPU that cannot be had is refused with what is missing:', () => {
  it.each<[what: string, on: ReturnType<typeof machine>, problem: RegExp, fix: RegExp]>([
    ['the build', machine(false, 0, [card]), /the addon is not built for CUDA$/, /GROUP_ROBUST_CUDA=1 npm run build, /],
    [
      'the build and the driver',
      machine(false, 0),
      /the addon is not built for CUDA, and nvidia-smi finds no driver either$/,
      /GROUP_ROBUST_CUDA=1 npm run build, /,
    ],
    ['the driver', machine(true, 0), /there is no NVIDIA driver: .*$/, /install the driver of the card, 580 or later/],
    [
      'a newer driver, before a build that would be for nothing',
      machine(false, 0, ['550.54.14, NVIDIA A100']),
      /the driver is too old \(550\.54\.14, NVIDIA A100\)$/,
      /install a driver 580 or later/,
    ],
    ['the card', machine(true, 0, []), /the addon sees no GPU, and the driver shows no card$/, /nvidia-smi/],
    [
      'the card, hidden from the addon',
      machine(true, 0, [card]),
      /the addon sees no GPU, though the driver shows 580\.95\.05, NVIDIA H100$/,
      /check CUDA_VISIBLE_DEVICES/,
    ],
  ])('%s', (_, on, problem, fix) => {
    for (const wish of ['cuda', 'cuda:0', 'cuda:3']) {
      const [first, second, ...others] = refusal(wish, on).split('\n');
      expect(first).toMatch(new RegExp(`^field "--device": ${wish} cannot be had: `));
      expect(first).toMatch(problem);
      expect(second).toMatch(/^ {2}fix: .*; or use cpu$/);
      expect(second).toMatch(fix);
      expect(others).toEqual([]);
    }
  });

  it('a number beyond the cards, with how many there are', () => {
    expect(refusal('cuda:1', machine(true, 1, [card]))).toMatch(/: there is one card\n {2}fix: use cuda:0$/);
    expect(refusal('cuda:4', machine(true, 4))).toMatch(/: there are 4 cards\n {2}fix: use one of cuda:0 to cuda:3$/);
  });

  it('and a CMake too old to build for CUDA', () => {
    const found = (version: string) =>
      missingForGpu({ info: undefined, gpus: [card], cmake: { command: 'cmake', version } })?.fix;
    expect(found('cmake version 3.22.1')).toMatch(/^get CMake 3\.24 or later .* then run GROUP_ROBUST_CUDA=1 /);
    expect(found('cmake version 3.24.0')).toMatch(/^run GROUP_ROBUST_CUDA=1 /);
  });
});

describe('a model', () => {
  it('is opened where it was asked for, on a GPU in bfloat16 unless another type is asked for', async () => {
    const opened = pretendCards(2);
    using first = await GemmaPolicy.open('random:tiny?layers=1', { threads: 1 });
    using second = await GemmaPolicy.open('random:tiny?layers=1', { device: 'cuda:1', dtype: 'float32' });
    using third = await GemmaPolicy.open('random:tiny?layers=1', { device: 'cpu' });
    expect(opened).toEqual([
      { device: 'cuda:0', dtype: 'bfloat16', baseDtype: 'bfloat16', recompute: false },
      { device: 'cuda:1', dtype: 'float32', baseDtype: 'float32', recompute: false },
      { device: 'cpu', dtype: 'float32', baseDtype: 'float32', recompute: false },
    ]);
    expect([first, second, third].map(({ placeText }) => placeText)).toEqual([
      'device: cuda:0, bfloat16',
      'device: cuda:1, float32',
      'device: cpu, float32',
    ]);
  });

  it('has other scores on another device, in another type and on another card, and on a CPU the same whatever cards there are', async () => {
    pretendCards(2);
    const bin = temporaryFolder();
    const identity = async (device: string, dtype: 'float32' | 'bfloat16', cards: string) => {
      writeFileSync(join(bin, 'nvidia-smi'), `#!/bin/sh\necho "${cards}"\n`);
      chmodSync(join(bin, 'nvidia-smi'), 0o755);
      vi.stubEnv('PATH', `${bin}:${process.env.PATH}`);
      using policy = await GemmaPolicy.open('random:tiny?layers=1', { device, dtype, threads: 1 });
      return JSON.stringify(await policy.referenceIdentity());
    };
    const [h100, a100] = [card, '580.95.05, NVIDIA A100'];
    const different = [
      await identity('cpu', 'float32', h100),
      await identity('cuda', 'float32', h100),
      await identity('cuda', 'bfloat16', h100),
      await identity('cuda', 'float32', a100),
    ];
    expect(new Set(different).size).toBe(4);
    expect(await identity('cuda:0', 'float32', h100)).toBe(different[1]);
    expect(await identity('cpu', 'float32', a100)).toBe(different[0]);
  });
});
