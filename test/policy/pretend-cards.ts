import { vi } from 'vitest';
import { loadNative } from '../../src/native/load.js';
import type { NativeGemmaOptions } from '../../src/native/types.js';

/**
 * An addon that is built for CUDA and sees cards, but computes on the CPU whatever it is asked for, until vi.restoreAllMocks().
 * @returns what each model is opened with from now on
 */
export function pretendCards(cards: number): NativeGemmaOptions[] {
  const native = loadNative();
  const { Gemma } = native;
  const opened: NativeGemmaOptions[] = [];
  vi.spyOn(native, 'nativeInfo').mockReturnValue({ ...native.nativeInfo(), cudaBuilt: true, cudaDevices: cards });
  vi.spyOn(native, 'cardName').mockImplementation((device) => `pretended ${device}`);
  vi.spyOn(native, 'Gemma').mockImplementation(function onCpu(config, options) {
    opened.push(options);
    return new Gemma(config, { ...options, device: 'cpu' });
  });
  return opened;
}
