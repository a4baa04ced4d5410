import { InputError } from '../errors.js';
import { missingForGpu } from '../install/gpu.js';
import { findCmake, findGpus } from '../install/tools.js';
import { loadNative } from '../native/load.js';
import type { DType, NativeInfo } from '../native/types.js';

/** Where a model is computed: what may be asked for, and what is taken. */

/** `cuda` is the first card; `auto` that one where it can be had, else the CPU. */
export const devicePattern = /^(auto|cpu|cuda(:(0|[1-9]\d{0,2}))?)$/;
export const deviceNames = 'cpu, cuda, cuda:N or auto';

/** A device that there is. */
export type Device = 'cpu' | `cuda:${number}`;

/** What decides, looked at only as far as it is needed. */
interface Machine {
  info(): Pick<NativeInfo, 'cudaBuilt' | 'cudaDevices'>;
  /** Cards that the driver shows, such as "580.95.05, NVIDIA H100"; undefined without a driver. */
  gpus(): readonly string[] | undefined;
}

const thisMachine: Machine = { info: () => loadNative().nativeInfo(), gpus: () => findGpus() };

/**
 * The device that a wish means on this machine.
 * @param field where the wish stands, for errors
 * @param localRank of one of several processes, its number on this machine: each takes a card of its own, unless the wish names one
 * @param machine another one in tests
 * @throws InputError where it cannot be had, with what is missing for it; NativeUnavailableError when the addon is not built
 */
export function resolveDevice(
  wish = 'auto',
  field = 'device',
  localRank?: number,
  machine: Machine = thisMachine,
): Device {
  const [kind, index] = checkDevice(field, wish).split(':');
  if (kind === 'cpu') return 'cpu';
  const info = machine.info();
  const cards = info.cudaDevices;
  if (kind === 'auto' && cards === 0) return 'cpu';
  const missing = cards > 0 ? undefined : missingForGpu({ info, gpus: machine.gpus(), cmake: findCmake() });
  const refuse = (problem: string, fix: string): never => {
    throw new InputError(`${wish} cannot be had: ${problem}`, { at: { field }, fix });
  };
  if (missing) refuse(missing.problem, `${missing.fix}; or use cpu`);
  if (index === undefined) {
    // A launcher may show each process one card only, its own.
    if (localRank === undefined || cards === 1) return 'cuda:0';
    if (localRank >= cards)
      refuse(`this process has LOCAL_RANK ${localRank}, and there are ${cards} cards`, 'start a process for each card');
    return `cuda:${localRank}`;
  }
  const number = Number(index);
  if (number >= cards)
    refuse(
      cards === 1 ? 'there is one card' : `there are ${cards} cards`,
      cards === 1 ? 'use cuda:0' : `use one of cuda:0 to cuda:${cards - 1}`,
    );
  return `cuda:${number}`;
}

/** @throws InputError where `text` names no kind of device */
export function checkDevice(field: string, text: string): string {
  if (devicePattern.test(text)) return text;
  throw new InputError(`"${text}" is not a device`, {
    at: { field },
    fix: `use ${deviceNames}`,
  });
}

/** Type of weights and activations where none is asked for. */
export function defaultDType(device: Device): DType {
  return device === 'cpu' ? 'float32' : 'bfloat16';
}
