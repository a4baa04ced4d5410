import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { GroupRobustError, InputError } from '../errors.js';
import { checkUnchanged, type FileState } from '../files/opened-file.js';
import { writeFileWhole, writeFolderWhole } from '../files/write.js';
import { loadNative } from '../native/load.js';
import type {
  DType,
  NativeBatch,
  NativeGemma,
  NativeGemmaConfig,
  NativeGemmaOptions,
  NativeOptimizerConfig,
  NativePeers,
  NativeSource,
} from '../native/types.js';
import { type AdaptedModule, adaptedModules, type LoraSettings, loraTargets } from './adapted-modules.js';
import { type Device, defaultDType, resolveDevice } from './device.js';
import { type GemmaSource, resolveGemma } from './gemma-config.js';
import { fileDigest, modelIdentity } from './identity.js';
import { adapterFiles, bareName, readAdapter, writeAdapterConfig } from './peft.js';
import type { Policy, StepReport, StepSettings } from './policy.js';
import { type ReferenceRecord, recordName, recordText } from './reference-record.js';
import { SafetensorsFile, type TensorEntry } from './safetensors.js';
import { isVision, namesAmong, peftNames, visionNote } from './weight-names.js';

export interface GemmaOptions {
  /** `cpu`, `cuda`, `cuda:N`, or `auto`, the default: the first GPU where the addon is built for CUDA and sees one, else the CPU. */
  device?: string;
  /**
   * Type of base weights and activations; adapters, log-softmax and losses are float32 or better. Default float32 on the CPU, bfloat16
   * on a GPU.
   */
  dtype?: DType;
  /** Type the base weights are kept in: `dtype` (the default), or bfloat16 for half the memory of float32. */
  baseDtype?: DType;
  /** Keep less for the backward pass, which then computes every layer again. Default false. */
  recompute?: boolean;
  /** Threads of one LibTorch operation, for the whole process; default LibTorch's choice. */
  threads?: number;
}

/** How a trainable adapter starts and is optimised. */
export interface AdapterTraining {
  /** Seeds A; default 0. */
  seed?: number;
  /** Number of gradient accumulators, as `gradientAccumulators` says for a training, or more; default 1. */
  accumulators?: number;
  /**
   * Whether it is to be a reward model: a score head, trained whole with the adapter, which starts at 0 where the adapter has none yet.
   * An adapter that has one is a reward model in any case.
   */
  scoreHead?: boolean;
  /** AdamW; default betas 0.9 and 0.999, epsilon 1e-8, no weight decay. */
  optimizer?: NativeOptimizerConfig;
}

/** What changes the numbers of a model, besides its files. */
type OpenedWith = Omit<NativeGemmaOptions, 'recompute' | 'device'> & { device: Device };

const defaultOptimizer: NativeOptimizerConfig = { betas: [0.9, 0.999], epsilon: 1e-8, weightDecay: 0 };

/**
 * A Gemma of generation 1, 2 or 3 with a LoRA adapter, through LibTorch. Calls run in order on one C++ thread, even
 * those made at the same time. Dispose of it (or declare it with `using`): the weights live outside V8's heap.
 *
 * Every method rejects with an InputError where the caller can fix the cause, and with code DISPOSED after {@link dispose}. Weights may be
 * read from their files at any time: leave those as they are, and call {@link checkFiles} before you keep results.
 *
 * @example
 * ```ts
 * import { GemmaPolicy } from 'group-robust-po';
 *
 * using policy = await GemmaPolicy.open('random:tiny', { threads: 1 });
 * await policy.addAdapter({ rank: 8, alpha: 32 }, { seed: 1 });
 * policy.config.layers; // → 2
 * ```
 */
export class GemmaPolicy implements Policy<NativeBatch> {
  private adapter: LoraSettings | undefined;
  private scoreHead = false;
  private accumulators = 0;
  private peers: NativePeers | undefined;
  /** Digest of the frozen adapter of the reference; undefined while that is the base model. */
  private frozen: string | undefined;

  private constructor(
    private readonly source: GemmaSource,
    /** Digests of the source's files. */
    private readonly weights: readonly string[],
    /** Weights and adapters, as they were when they were read. */
    private readonly files: FileState[],
    /** What the model was opened with, as far as it changes the numbers. */
    private readonly settings: OpenedWith,
    /** What whoever opens a model or loads an adapter should be told: what of their files is left alone. */
    readonly notes: string[],
    /** The C++ model, for tests and tools that look at single tensors. */
    readonly native: NativeGemma,
  ) {}

  get config(): NativeGemmaConfig {
    return this.source.config;
  }

  /** Where it is computed. */
  get device(): Device {
    return this.settings.device;
  }

  /** Type of its activations. */
  get dtype(): DType {
    return this.settings.dtype;
  }

  /** Both for people, for whoever runs a model says at the start where. */
  get placeText(): string {
    return `device: ${this.device}, ${this.dtype}`;
  }

  /** Whether its adapter is a reward model: {@link forward} and {@link logProbabilities} of `policy` then give scores r(x, y). */
  get isReward(): boolean {
    return this.scoreHead;
  }

  /** Whether its checkpoint holds a vision model too, which is not loaded. */
  private get multimodal(): boolean {
    return this.source.kind === 'checkpoint' && this.source.multimodal;
  }

  /** Id of the BOS token, with which every prompt should start. */
  get bos(): number {
    return this.source.bos;
  }

  /**
   * Opens a model without an adapter.
   * @param model a checkpoint folder in Hugging Face's layout, or `random:tiny`, `random:gemma-2b?layers=6&vocab=64000`
   * @throws InputError naming file and field or tensor, or what is missing for the device; NativeUnavailableError when the addon is not
   * built
   */
  static async open(model: string, { threads, ...options }: GemmaOptions = {}): Promise<GemmaPolicy> {
    const source = resolveGemma(model);
    const addon = loadNative();
    const device = resolveDevice(options.device);
    const { dtype = defaultDType(device), baseDtype = dtype, recompute = false } = options;
    const settings: OpenedWith = { device, dtype, baseDtype };
    const native = translatedNow(() => {
      if (threads !== undefined) addon.setThreads(threads);
      return new addon.Gemma(source.config, { ...settings, recompute });
    });
    try {
      const { digests, states, notes } = await loadWeights(native, source, model);
      return new GemmaPolicy(source, digests, states, settings, notes, native);
    } catch (error) {
      native.dispose();
      throw error;
    }
  }

  /** Makes a new trainable adapter (A random, B zero: at first it changes nothing; a score head zero), replacing any that is there. */
  async addAdapter(lora: LoraSettings, training: AdapterTraining = {}): Promise<void> {
    const { layers } = this.config;
    const refuse = (key: string, problem: string): never => {
      throw new InputError(problem, { at: { field: `lora.${key}` } });
    };
    const { modules } = adaptedModules(lora, { layers, prefix: peftNames(this.multimodal).model }, refuse);
    await this.makeAdapter({ ...lora, targets: lora.targets ?? loraTargets }, modules, training);
  }

  private async makeAdapter(
    settings: LoraSettings,
    modules: readonly AdaptedModule[],
    { seed = 0, accumulators = 1, optimizer = defaultOptimizer, scoreHead = false }: AdapterTraining,
  ): Promise<void> {
    await translated(this.native.addAdapter(modules, scoreHead, seed, accumulators, optimizer));
    this.adapter = settings;
    this.scoreHead = scoreHead;
    this.accumulators = accumulators;
  }

  /** Makes the adapter of a PEFT folder the trainable one. @throws InputError naming file and field or tensor */
  async loadAdapter(folder: string, training: AdapterTraining = {}): Promise<void> {
    const { multimodal } = this;
    const { settings, modules, scoreHead } = readAdapter(folder, { layers: this.config.layers, multimodal });
    using file = new SafetensorsFile(join(folder, adapterFiles.weights));
    const { used, skipped } = withoutVision(file.entries, multimodal);
    const names = used.map(({ name }) => bareName(name));
    await this.makeAdapter(settings, modules, { ...training, scoreHead: scoreHead || training.scoreHead });
    const { path, descriptor } = file;
    await translated(this.native.loadAdapter({ path, descriptor, entries: used }, namesAmong(names, multimodal).model));
    this.files.push(file.state);
    if (skipped.length > 0) this.notes.push(visionNote(folder, skipped));
  }

  /** @throws InputError naming a file of the model or of an adapter that is no longer what it was when it was read */
  checkFiles(): void {
    checkUnchanged(this.files);
  }

  /**
   * Writes the trainable adapter as a PEFT folder, whole or not at all.
   * @param base what adapter_config.json names as the base, and its commit where that is a model of the hub
   * @param options `trained`: what is recorded beside the adapter of its training; `replace`: overwrites an adapter that is there
   * @throws InputError when `folder` exists and is not to be replaced
   */
  async saveAdapter(
    folder: string,
    base: { baseModel?: string; revision?: string } = {},
    options: { trained?: ReferenceRecord; replace?: boolean } = {},
  ): Promise<void> {
    const { adapter } = this;
    if (!adapter) throw new InputError('there is no adapter to save', { at: { file: folder } });
    const write = async (partial: string) => {
      await translated(this.native.saveAdapter(join(partial, adapterFiles.weights), peftNames(this.multimodal).model));
      writeAdapterConfig(partial, adapter, base, { multimodal: this.multimodal, scoreHead: this.scoreHead });
      if (options.trained) writeFileWhole(join(partial, recordName), recordText(options.trained));
    };
    await writeFolderWhole(folder, write, { replace: options.replace });
  }

  /**
   * Writes the trainable adapter's values, their mean where there is one, and the state of its optimiser, as they are: what
   * {@link loadState} needs to continue bit for bit.
   * @throws InputError where `file` cannot be written
   */
  async saveState(file: string): Promise<void> {
    await translated(this.native.saveState(file));
  }

  /**
   * Puts back what {@link saveState} wrote for an adapter of the same shape and type; gradients are discarded.
   * @throws InputError naming file and tensor, with nothing changed
   */
  async loadState(file: string): Promise<void> {
    using opened = new SafetensorsFile(file);
    await translated(this.native.loadState(opened));
  }

  /**
   * From now on the reference is a frozen copy of the trainable adapter as it is; before, it is the base model.
   * @throws InputError for a reward model, which has no log-probabilities to compare with
   */
  async freezeReference(): Promise<void> {
    if (this.scoreHead) throw new InputError('a reward model cannot be the reference of a policy');
    await translated(this.native.freezeReference());
    this.frozen = await this.adapterDigest();
  }

  /** All that the reference's scores depend on besides the batch; see {@link modelIdentity}. */
  async referenceIdentity(): Promise<Record<string, unknown>> {
    return modelIdentity(this.source, this.weights, this.settings, this.frozen);
  }

  /** What it computes, by content and wherever its files are: weights, type of numbers, adapter, and the adapter of the reference. */
  async content(): Promise<Record<string, unknown>> {
    const { config, weights, adapter: reference } = await this.referenceIdentity();
    const { dtype, baseDtype } = this.settings;
    const adapter = this.adapter && (await this.adapterDigest());
    return { model: { config, weights }, dtype, baseDtype, adapter, reference };
  }

  /** SHA-256 of the trainable adapter's settings and values. */
  private async adapterDigest(): Promise<string> {
    const hash = createHash('sha256').update(JSON.stringify(this.adapter));
    for (const { name, shape } of this.native.trainable())
      hash.update(JSON.stringify([name, shape])).update(await translated(this.native.readTrainable(name)));
    return hash.digest('hex');
  }

  /** As {@link Policy.logProbabilities}; `base` is the model with no adapter, whatever the reference is. */
  logProbabilities(batch: NativeBatch, source: NativeSource): Promise<Float64Array> {
    return translated(this.native.forward(batch, source, false));
  }

  forward(batch: NativeBatch): Promise<Float64Array> {
    return translated(this.native.forward(batch, 'policy', true));
  }

  backward(cotangents: Float64Array, accumulators: Int32Array): Promise<void> {
    return translated(this.native.backward(cotangents, accumulators));
  }

  discardGradients(): Promise<void> {
    return translated(this.native.discardGradients());
  }

  /**
   * From now on a step is on the sum of the gradients of all these processes, each of which calls {@link step} with the same coefficients and
   * settings. Their adapters then stay equal to the bit.
   */
  stepWith(peers: NativePeers): void {
    this.peers = peers;
  }

  /** AdamW on the adapter; the base never changes. @throws GroupRobustError PEER where another process is gone or does not answer */
  async step(coefficients: Float64Array, { learningRate, maxGradNorm, average }: StepSettings): Promise<StepReport> {
    const clip = maxGradNorm ?? Number.POSITIVE_INFINITY;
    const all = new Float64Array(Math.max(this.accumulators, coefficients.length));
    all.set(coefficients);
    const gradNorm = await translated(this.native.step(all, learningRate, clip, this.peers));
    if (average && Number.isFinite(gradNorm)) await translated(this.native.average());
    return { gradNorm };
  }

  /**
   * As {@link Policy.averaged}: of the matrices A and B, of which each is averaged by itself, in the type of the adapter. {@link saveAdapter}
   * within `use` writes that mean; {@link saveState}, which is for outside of it, keeps both.
   */
  async averaged<T>(use: () => Promise<T>): Promise<T> {
    await translated(this.native.exchangeAverage());
    try {
      return await use();
    } finally {
      await translated(this.native.exchangeAverage());
    }
  }

  /**
   * Computes a prompt by the policy, and keeps what its continuations need, as a sequence; see {@link NativeGemma.prefill}. A change of
   * the adapter ends all sequences.
   */
  prefill(prompt: Int32Array): Promise<{ sequence: number; logits: Float32Array }> {
    return translated(this.native.prefill(prompt));
  }

  /** Another sequence of the same tokens, with room for more. */
  fork(sequence: number, room: number): Promise<number> {
    return translated(this.native.fork(sequence, room));
  }

  /** Adds a token to each sequence. @returns logits of the next, [sequences, vocabulary] */
  decode(sequences: readonly number[], tokens: Int32Array): Promise<Float32Array> {
    return translated(this.native.decode(sequences, tokens));
  }

  /** Frees a sequence. */
  release(sequence: number): Promise<void> {
    return translated(this.native.release(sequence));
  }

  /** Frees the model once queued calls are done. */
  dispose(): void {
    this.native.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * Fills the native model. A checkpoint's files are opened once, so that the same files are loaded, digested and watched, whatever is moved
 * to their paths meanwhile.
 */
async function loadWeights(
  native: NativeGemma,
  source: GemmaSource,
  model: string,
): Promise<{ digests: string[]; states: FileState[]; notes: string[] }> {
  if (source.kind === 'random') {
    await translated(native.randomize(source.seed, source.standardDeviation));
    return { digests: [], states: [], notes: [] };
  }
  const { multimodal } = source;
  const files: SafetensorsFile[] = [];
  try {
    for (const file of source.files) files.push(new SafetensorsFile(file));
    const parts = files.map(({ path, descriptor, entries }) => ({
      path,
      descriptor,
      ...withoutVision(entries, multimodal),
    }));
    const names = parts.flatMap(({ used }) => used.map(({ name }) => name));
    await translated(
      native.load(
        parts.map(({ path, descriptor, used }) => ({ path, descriptor, entries: used })),
        namesAmong(names, multimodal),
      ),
    );
    const digests: string[] = [];
    for (const file of files) digests.push(await fileDigest(file));
    const skipped = parts.flatMap((part) => part.skipped);
    const notes = skipped.length > 0 ? [visionNote(model, skipped)] : [];
    return { digests, states: files.map(({ state }) => state), notes };
  } finally {
    for (const file of files) file[Symbol.dispose]();
  }
}

/** The weights of the language model, and those of the vision model. */
function withoutVision(
  entries: readonly TensorEntry[],
  multimodal: boolean,
): { used: TensorEntry[]; skipped: TensorEntry[] } {
  const used: TensorEntry[] = [];
  const skipped: TensorEntry[] = [];
  for (const entry of entries) (multimodal && isVision(bareName(entry.name)) ? skipped : used).push(entry);
  return { used, skipped };
}

/** Turns the addon's errors into this package's; NATIVE_INPUT, whose text names file and tensor, into InputErrors. */
function translateError(error: unknown): unknown {
  const { code, message } = error as { code?: unknown; message: string };
  if (code === 'NATIVE_INPUT') return new InputError(message, { cause: error });
  if (code === 'NATIVE' || code === 'DISPOSED' || code === 'PEER')
    return new GroupRobustError(code, message, { cause: error });
  return error;
}

async function translated<T>(result: Promise<T>): Promise<T> {
  try {
    return await result;
  } catch (error) {
    throw translateError(error);
  }
}

/** The same for calls that return at once. */
function translatedNow<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw translateError(error);
  }
}
