import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { checkUnchanged, type OpenedFile } from '../files/opened-file.js';
import { writeFileWhole } from '../files/write.js';
import { cacheFolder } from '../install/cache.js';
import { findGpus } from '../install/tools.js';
import { addonCandidates, loadNative } from '../native/load.js';
import type { GemmaSource } from './gemma-config.js';

/** Environment variables by which LibTorch and its libraries choose other kernels, and so other roundings; what torchrun and several processes set does not. */
const kernelVariables = /^(ATEN|DNNL|MKL|ONEDNN|OPENBLAS|TORCH(?!_(CPP|NCCL)_))_|^GLIBC_TUNABLES$/;
/** The same of a GPU. Schedulers give each job other cards, which says nothing of what a CPU computes. */
const cudaVariables = /^(CUBLAS_.*|CUDA_DEVICE_ORDER|CUDA_VISIBLE_DEVICES|NVIDIA_TF32_OVERRIDE)$/;

/**
 * All that the scores of a model depend on, to the last bit, besides the batch: weights by content, every setting it was
 * opened with, an adapter by content, the code that computes (addon and LibTorch) and the machine's arithmetic. Plain JSON,
 * equal for equal models wherever their files are; used for the keys of caches.
 * @param weights digests of the source's files, as they were when the model was read from them
 * @param settings how the model was opened; settings added later are covered as they come
 * @param adapter digest of the adapter in use; undefined for none
 */
export function modelIdentity(
  source: GemmaSource,
  weights: readonly string[],
  settings: Readonly<{ device: string }>,
  adapter: string | undefined,
): Record<string, unknown> {
  const addon = addonCandidates().find(existsSync);
  const onCpu = settings.device === 'cpu';
  return {
    config: source.config,
    weights: source.kind === 'random' ? { seed: source.seed, standardDeviation: source.standardDeviation } : weights,
    settings,
    adapter: adapter ?? null,
    addon: addon && createHash('sha256').update(readFileSync(addon)).digest('hex'),
    // LibTorch's version and the number of threads, which decides how sums are split.
    native: loadNative().nativeInfo(),
    processor: processorIdentity(),
    // The addon does not say which cards they are.
    cards: onCpu ? undefined : findGpus(),
    environment: Object.entries(process.env)
      .filter(([name]) => kernelVariables.test(name) || (!onCpu && cudaVariables.test(name)))
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  };
}

/**
 * A {@link modelIdentity} but for which of the cards of a machine it is on, and how many this process sees: each process of a job has one of
 * its own.
 */
export function onAnyCard({
  settings,
  native,
  environment,
  ...rest
}: Record<string, unknown>): Record<string, unknown> {
  const { device, ...others } = settings as { device: string };
  return {
    ...rest,
    settings: { ...others, device: device.replace(/:.*/, '') },
    native: { ...(native as object), cudaDevices: undefined },
    environment: (environment as [string, string][]).filter(([name]) => name !== 'CUDA_VISIBLE_DEVICES'),
  };
}

/**
 * The processor as far as kernels are chosen by it. Many virtual machines, and most of ARM, share one name whatever they can
 * do, and a cache may be shared by several machines: hence its features too, where the system lists them.
 */
export function processorIdentity(cpuinfo = '/proc/cpuinfo'): (string | undefined)[] {
  const features = existsSync(cpuinfo) ? /^(?:flags|Features)\s*:(.*)$/m.exec(readFileSync(cpuinfo, 'utf8')) : null;
  return [process.arch, cpus()[0]?.model, features?.[1]?.trim()];
}

/** A file modified less than this many ms ago may change again without a change of its times. */
const settleTime = 10_000;

/**
 * SHA-256 of an open file's content. Gigabytes take seconds, so the digest is remembered under the file's state.
 * @throws InputError where the file changes while it is read
 */
export async function fileDigest(file: OpenedFile, folder = join(cacheFolder(), 'digests')): Promise<string> {
  const memo = join(folder, createHash('sha256').update(file.state.id).digest('hex'));
  const known = existsSync(memo) ? readFileSync(memo, 'utf8') : '';
  if (/^[0-9a-f]{64}$/.test(known)) return known;
  const hash = createHash('sha256');
  for await (const chunk of file.bytes()) hash.update(chunk);
  const digest = hash.digest('hex');
  checkUnchanged([file.state]);
  if (Date.now() - file.changed > settleTime) remember(memo, digest);
  return digest;
}

/** A cache that cannot be written costs time only. */
function remember(memo: string, digest: string): void {
  try {
    writeFileWhole(memo, digest);
  } catch {}
}
