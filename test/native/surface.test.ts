import { expect, it } from 'vitest';
import { loadNative } from '../../src/native/load.js';
import type { NativeAddon, NativeGemma, NativeKernelBench, NativePeers } from '../../src/native/types.js';

/** The names are written down once; the compiler holds them against types.ts, the tests against the addon. */
const ADDON = [
  'Gemma',
  'KernelBench',
  'Peers',
  'cardName',
  'endProcess',
  'limitRegisters',
  'liveTensors',
  'nativeInfo',
  'peakDeviceMemory',
  'productCalls',
  'setKernels',
  'setThreads',
] as const;
const BENCH = ['dispose', 'measureKernel', 'measureMachine', 'runKernel'] as const;
const GEMMA = [
  'addAdapter',
  'average',
  'backward',
  'decode',
  'discardGradients',
  'dispose',
  'exchangeAverage',
  'fork',
  'forward',
  'freezeReference',
  'load',
  'loadAdapter',
  'loadState',
  'prefill',
  'profile',
  'randomize',
  'readGradient',
  'readTrainable',
  'recordedNodes',
  'release',
  'saveAdapter',
  'saveState',
  'step',
  'synchronisations',
  'trainable',
  'writeTrainable',
] as const;
const PEERS = [
  'broadcast',
  'connect',
  'count',
  'disconnect',
  'dispose',
  'gather',
  'get',
  'meet',
  'open',
  'set',
  'traffic',
  'wait',
] as const;
const INFO = [
  'bfloat16Products',
  'cudaBuilt',
  'cudaDevices',
  'cxx11Abi',
  'kernels',
  'napiVersion',
  'products',
  'registers',
  'threads',
  'torchVersion',
];

type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : never) : never;
const addonNames: Same<(typeof ADDON)[number], keyof NativeAddon> = true;
const benchNames: Same<(typeof BENCH)[number], keyof NativeKernelBench> = true;
const peersNames: Same<(typeof PEERS)[number], keyof NativePeers> = true;
const gemmaNames: Same<(typeof GEMMA)[number], keyof NativeGemma> = true;

it('exports what types.ts lists, nothing missing and nothing extra', () => {
  expect([addonNames, benchNames, gemmaNames, peersNames]).toEqual([true, true, true, true]);
  const native = loadNative();
  expect(Object.keys(native).sort()).toEqual([...ADDON]);
  const methods = (type: { prototype: object }) =>
    Object.getOwnPropertyNames(type.prototype)
      .filter((name) => name !== 'constructor')
      .sort();
  expect(methods(native.Gemma)).toEqual([...GEMMA]);
  expect(methods(native.KernelBench)).toEqual([...BENCH]);
  expect(methods(native.Peers)).toEqual([...PEERS]);
});

it('says what it was built with', () => {
  const info = loadNative().nativeInfo();
  expect(Object.keys(info).sort()).toEqual(INFO);
  expect(info.torchVersion).toMatch(/^2\.1[1-4]\./);
  expect(info.napiVersion).toBe(8);
  expect(info.cxx11Abi).toBe(true);
});

it('gives back the same addon at the second call', () => expect(loadNative()).toBe(loadNative()));
