/**
 * Everything that the addon exports, written by hand. No other TypeScript may make assumptions about it;
 * test/native/surface.test.ts compares this list with the addon.
 *
 * Slow calls return promises and run, in order, on the one C++ thread their object owns. Every failure is an Error with a
 * `code`: `NATIVE_INPUT` for what the caller can fix (a bad file, a wrong shape), `DISPOSED`, `PEER` for what concerns another process, `NATIVE`
 * for the rest.
 */

export type DType = 'float32' | 'bfloat16' | 'float64';

/** What a layer's attention sees, and how it turns positions into angles. */
export interface NativeAttentionKind {
  /** Keys that a row sees, itself included; 0: all before it. */
  window: number;
  ropeTheta: number;
  /** Positions are divided by it. */
  ropeFactor: number;
}

/**
 * Shape of a Gemma of generation 1, 2 or 3, which differ only in these values; native/gemma/config.h has them in a table, and
 * src/policy/gemma-config.ts the names of Hugging Face's config.json.
 */
export interface NativeGemmaConfig {
  layers: number;
  hidden: number;
  heads: number;
  /** Divides `heads`. */
  keyValueHeads: number;
  headSize: number;
  mlp: number;
  vocabulary: number;
  rmsEpsilon: number;
  /** Where a layer normalises: the input of attention and MLP, or also their output. */
  norms: 'before' | 'around';
  /** RMSNorm of every head's query and key. */
  queryKeyNorms: boolean;
  /** Scores are multiplied by it. */
  attentionScale: number;
  /** Scaled scores become cap · tanh(score / cap); 0: as they are. */
  attentionCap: number;
  /** The same for the logits. */
  logitCap: number;
  attentionKinds: NativeAttentionKind[];
  /** Indices into `attentionKinds`, one per layer, repeated from the first layer on. */
  layerPattern: number[];
}

export interface NativeGemmaOptions {
  /** Where the model lives and is computed: `cpu`, or `cuda:N`. */
  device: string;
  /** Type of the activations. */
  dtype: DType;
  /** Type the base weights are kept in: `dtype`, or bfloat16, which is then widened a matrix at a time. */
  baseDtype: DType;
  /** Keep only the input of each layer for backward, which computes the layer again. */
  recompute: boolean;
}

/** LoRA on one projection of one layer: y += scale · x Aᵀ Bᵀ, A [rank, in] random, B [out, rank] zero. */
export interface NativeLoraModule {
  layer: number;
  /** Any of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj. */
  target: string;
  rank: number;
  /** alpha / r, or alpha / √r for rank-stabilised LoRA. */
  scale: number;
}

/** How the tensors of the language model are named in a checkpoint. */
export interface NativeWeightNames {
  /** Before "layers.0.…", "embed_tokens.weight" and "norm.weight": "model." in a text model. */
  model: string;
  /** Of the head, which may be there if it equals the embedding. */
  head: string;
}

export interface NativeOptimizerConfig {
  betas: [number, number];
  epsilon: number;
  weightDecay: number;
}

/**
 * A batch of trees, laid end to end without padding: for each tree its prompt, then its responses one after another.
 * Every prompt and every response has at least one token.
 */
export interface NativeBatch {
  /** [total tokens] ids, in tree order: prompt, response 0, response 1, … */
  tokens: Int32Array;
  /** [trees] tokens of each prompt. */
  promptLengths: Int32Array;
  /** [trees] responses of each tree. */
  responseCounts: Int32Array;
  /** [responses] tokens of each response. */
  responseLengths: Int32Array;
}

/** `policy`: base + trainable adapter. `reference`: base + the frozen copy (or base alone). `base`: no adapter. */
export type NativeSource = 'policy' | 'reference' | 'base';

/** A tensor of a safetensors file. */
export interface NativeTensorEntry {
  name: string;
  /** As safetensors names it, such as BF16. */
  dtype: string;
  shape: number[];
  /** Bytes of the file, from 0: [begin, end). */
  begin: number;
  end: number;
}

/**
 * A safetensors file whose header is read and checked; src/policy/safetensors.ts makes them. The addon never reads a header,
 * and holds the entries against the size of the file.
 */
export interface NativeTensorFile {
  /** For messages. */
  readonly path: string;
  /** The file, open until the call that it is given to has settled. */
  readonly descriptor: number;
  readonly entries: readonly NativeTensorEntry[];
}

export interface NativeGemma {
  /** Reads the base weights from safetensors files (all shards). Strict: every tensor once, none extra, shapes equal. */
  load(files: readonly NativeTensorFile[], names: NativeWeightNames): Promise<void>;
  /** Fills the base weights with N(0, standardDeviation²) numbers, norms with 0; the same seed gives the same model. */
  randomize(seed: number, standardDeviation: number): Promise<void>;
  /**
   * Makes a new trainable adapter (A: Kaiming-uniform as PEFT, B: 0) with its optimiser and gradient accumulators.
   * @param scoreHead whether it is a reward model's, with a head w ("score.weight", [1, hidden], 0): the score of a response is
   * ⟨w, normed hidden state of its last token⟩, as of a ForSequenceClassification of transformers with one label
   */
  addAdapter(
    lora: readonly NativeLoraModule[],
    scoreHead: boolean,
    seed: number,
    accumulators: number,
    optimizer: NativeOptimizerConfig,
  ): Promise<void>;
  /**
   * Replaces the trainable adapter's values by those of an adapter_model.safetensors in PEFT's names, in which `model` stands for
   * "model.". Strict, but that a score head which the file lacks stays as it is.
   */
  loadAdapter(file: NativeTensorFile, model: string): Promise<void>;
  /** Writes the trainable adapter as float32 safetensors in such names (to exactly this path). */
  saveAdapter(file: string, model: string): Promise<void>;
  /** Writes the trainable adapter's values, its mean where there is one, and its optimiser's state, as they are, to exactly this path. */
  saveState(file: string): Promise<void>;
  /** Puts back what saveState wrote for an adapter of the same shape and type; empties the accumulators. */
  loadState(file: NativeTensorFile): Promise<void>;
  /** From now on `reference` is a frozen copy of the trainable adapter as it is, without any score head. */
  freezeReference(): Promise<void>;
  /**
   * log π(response | prompt) of every response, summed over its tokens, float64; by an adapter with a score head (`policy`), the scores.
   * With `record`, keeps the graph for one `backward` (only for `policy`). Rejects where a file that holds weights was
   * written to or cut short since it was loaded.
   */
  forward(batch: NativeBatch, source: NativeSource, record: boolean): Promise<Float64Array>;
  /**
   * Adds the vector-Jacobian product to the accumulators: cotangents [responses], accumulators [trees]. Where it rejects, a part of it may
   * have been added: discardGradients before anything else.
   */
  backward(cotangents: Float64Array, accumulators: Int32Array): Promise<void>;
  /**
   * AdamW on Σ_k coefficients_k · accumulator_k, summed over all processes where there are `peers`, and clipped to maxGradNorm
   * (Infinity: never); zeroes the accumulators.
   * Returns the norm before clipping; when that is not finite, no parameter and no optimiser state has changed.
   */
  step(coefficients: Float64Array, learningRate: number, maxGradNorm: number, peers?: NativePeers): Promise<number>;
  /** Zeroes the accumulators without a step. */
  discardGradients(): Promise<void>;
  /** Takes the adapter as it is into its running mean, in which all that this was called on count the same. */
  average(): Promise<void>;
  /**
   * Puts that mean in the place of the adapter, and the adapter in its place; the next call undoes it. Meanwhile `step`, `average` and
   * `saveState` reject. Where there is no mean, it does nothing.
   */
  exchangeAverage(): Promise<void>;
  /**
   * Computes a prompt by the policy, which must have no score head, and keeps its keys and values. @returns the sequence's number, and the logits of the
   * token after it, float32 [vocabulary]. Whatever changes weights or adapter ends all sequences.
   */
  prefill(prompt: Int32Array): Promise<{ sequence: number; logits: Float32Array }>;
  /** A sequence with the same tokens so far, and room for `room` more. The first one has none. */
  fork(sequence: number, room: number): Promise<number>;
  /**
   * Adds a token to each of different sequences. @returns the logits of the next, float32 [sequences, vocabulary]; those of a
   * sequence are the same to the bit whatever sequences it is computed with. Where it rejects in the midst, the sequences are released.
   */
  decode(sequences: readonly number[], tokens: Int32Array): Promise<Float32Array>;
  /** Frees a sequence's keys and values. */
  release(sequence: number): Promise<void>;
  /** Names and shapes of the trainable tensors, in PEFT's names without the `base_model.model.` prefix. */
  trainable(): { name: string; shape: number[] }[];
  readTrainable(name: string): Promise<Float64Array>;
  writeTrainable(name: string, values: Float64Array): Promise<void>;
  /** Σ_k coefficients_k · accumulator_k of one trainable tensor. */
  readGradient(name: string, coefficients: Float64Array): Promise<Float64Array>;
  /** How many nodes of each name the graph of the recorded forward pass has. */
  recordedNodes(): Promise<Record<string, number>>;
  /**
   * Seconds of the model's thread by section of the work, since the last call: embedding, attention, mlp, … The first call
   * starts the clock.
   */
  profile(): Promise<Record<string, number>>;
  /**
   * How often the model's thread has waited for its card since the last call. The first call starts the count. Rejects in a build
   * without CUDA.
   */
  synchronisations(): Promise<number>;
  /** Frees the weights once queued work is done; later calls reject with code DISPOSED. */
  dispose(): void;
}

/** Where the processes of a job meet. */
export interface NativeMeetingPlace {
  address: string;
  port: number;
  /** Whether this process keeps the store at that address, or reaches it there. */
  serves: boolean;
  /** Milliseconds that anything may wait for another process, here and later. */
  timeout: number;
}

/** How this process speaks to the others. */
export interface NativeEndpoint {
  /** Name of a network interface; empty: the one that has the address. */
  interface: string;
  address: string;
}

/**
 * The processes of a job, through c10d: a store of values by key, and, once connected, collectives, which all processes call in the same
 * order. What concerns another process, or the store, rejects with code PEER.
 */
export interface NativePeers {
  /** Serves or reaches the store; comes before everything else. */
  meet(place: NativeMeetingPlace): Promise<void>;
  set(key: string, value: Uint8Array): Promise<void>;
  /** Whether there is a value within so many milliseconds, at least 1. */
  wait(key: string, milliseconds: number): Promise<boolean>;
  get(key: string): Promise<Uint8Array>;
  /** Adds one to a count that begins at 0. @returns the new count */
  count(key: string): Promise<number>;
  /** Opens the way to the others, and waits for none of them; comes before {@link connect}. */
  open(endpoint: NativeEndpoint): Promise<void>;
  /**
   * Connects every process with every other one.
   * @param prefix before the keys of the connections, to keep apart jobs that follow one another in one store
   */
  connect(rank: number, size: number, prefix: string): Promise<void>;
  /** What each process has given, by rank; all give the same number of bytes. */
  gather(bytes: Uint8Array): Promise<Uint8Array[]>;
  /** What rank 0 has given; the others give as many bytes. */
  broadcast(bytes: Uint8Array): Promise<Uint8Array>;
  /**
   * Breaks the connections off, which the others notice at once.
   * @param finished whether all that was begun has been waited for; else what runs between GPUs is given up
   */
  disconnect(finished: boolean): Promise<void>;
  /** Bytes that this process has given to collectives, and the seconds they took, waits included. */
  traffic(): { bytes: number; seconds: number };
  /** Leaves the store and ends its thread once queued work is done; later calls reject with code DISPOSED. */
  dispose(): void;
}

export interface NativeInfo {
  torchVersion: string;
  /** Value of _GLIBCXX_USE_CXX11_ABI the addon was built with. */
  cxx11Abi: boolean;
  napiVersion: number;
  cudaBuilt: boolean;
  cudaDevices: number;
  threads: number;
  /** What setKernels() has chosen. */
  kernels: NativeKernels;
  /** Float32 numbers in a vector register that the kernels' sums use on a CPU: 16 with AVX-512, 8 with AVX2, else 4. */
  registers: 4 | 8 | 16;
  /** Whether the processor multiplies bfloat16 itself, which makes a bfloat16 step about twice as fast as one in float32. */
  bfloat16Products: boolean;
  /**
   * What makes large float32 products on a CPU: `onednn`, by an entry that is private to LibTorch, or `libtorch`, its public
   * operations, where this LibTorch has no such entry.
   */
  products: 'onednn' | 'libtorch';
}

export type NativeProductCalls = Record<NativeInfo['products'], number>;

/** Where tensors live; `cuda` is the first card. */
export type NativeDevice = 'cpu' | 'cuda' | `cuda:${number}`;

/**
 * `fused`: the addon's own kernels, for float32 and bfloat16. `libtorch`: the same in LibTorch's operations, the oracle of the
 * fused ones and what every other type takes. `gpu-plan`: `fused`, but for what is planned
 * otherwise on a GPU: attention by sequences, and the head's products of bfloat16.
 */
export type NativeKernels = 'fused' | 'libtorch' | 'gpu-plan';

export interface NativeMachineSetting {
  dtype: 'float32' | 'bfloat16';
  device: NativeDevice;
}

export interface NativeKernelSetting extends NativeMachineSetting {
  /** A name of the table in native/bench/kernel_table.cc. */
  kernel: string;
  /** Every size the kernel has, by name. */
  sizes: Record<string, number>;
}

/** Of many measurements: a quarter of them lie below `first`, three quarters below `third`. */
export interface NativeQuartiles {
  first: number;
  median: number;
  third: number;
}

/** One pass of a kernel. Errors are the largest absolute difference from a float64 oracle over the oracle's largest value. */
export interface NativePassMeasurement {
  error: number;
  /** Error of LibTorch's composition in the same type. */
  torchError: number;
  /** A second run gave the same bits, and on the CPU one with a single thread, unless LibTorch's products do the sums. */
  repeatable: boolean;
  seconds: NativeQuartiles;
  torchSeconds: NativeQuartiles;
  /** Bytes the pass must at least read and write; 0 where arithmetic is what counts. */
  bytes: number;
  /** Floating-point operations; 0 where bytes are what counts. */
  flops: number;
}

export interface NativeMachineMeasurement {
  /** Read and written together, arrays far larger than any cache. */
  copyBytesPerSecond: number;
  /** Product of 2048 × 2048 matrices of the type, on a GPU of 8192 × 8192, the best of the ways there are. */
  gemmFlopsPerSecond: number;
}

export interface NativeKernelBench {
  /** Checks the fused kernel against the oracle, then times it and LibTorch's composition in turn, `seconds` for each pass. */
  measureKernel(
    setting: NativeKernelSetting & { seconds: number },
  ): Promise<{ forward: NativePassMeasurement; backward: NativePassMeasurement }>;
  /** What limits a kernel of this type on this machine, from measurements of `seconds` each. */
  measureMachine(setting: NativeMachineSetting & { seconds: number }): Promise<NativeMachineMeasurement>;
  /**
   * Both passes of one implementation on given inputs, laid out flat: those of the table's entry, the backward pass's
   * cotangent last. For tests with oracles of their own.
   */
  runKernel(
    setting: NativeKernelSetting,
    kernels: NativeKernels,
    inputs: Float64Array[],
  ): Promise<{ forward: Float64Array[]; backward: Float64Array[] }>;
  /** Ends its thread once queued work is done; later calls reject with code DISPOSED. */
  dispose(): void;
}

/** Most threads to ask LibTorch for: where the system refuses more, OpenMP ends the process without a message. */
export const maxThreads = 1024;

export interface NativeAddon {
  nativeInfo(): NativeInfo;
  /** Ends the process at once, without waiting for running jobs: for one that waits for a machine that does not answer. */
  endProcess(status: number): never;
  /** Threads of one LibTorch operation, process-wide, from the next job on. */
  setThreads(count: number): void;
  /** Number of tensors' storages alive in models of this process, for leak tests. */
  liveTensors(): number;
  /** What a card is called, such as NVIDIA H100 80GB HBM3. */
  cardName(device: string): string;
  /** Most bytes of tensors that were alive at once on a card since the last call. */
  peakDeviceMemory(device: string): number;
  /** Matrix products of this process so far that models and kernels asked for, by what made them; see NativeInfo.products. */
  productCalls(): NativeProductCalls;
  /** Which kernels models use, process-wide, from the next operation on; `fused` at first. */
  setKernels(kernels: NativeKernels): void;
  /** For tests: as on a processor with smaller vector registers, process-wide, from the next operation on; see NativeInfo. */
  limitRegisters(registers: NativeInfo['registers']): void;
  KernelBench: new () => NativeKernelBench;
  Peers: new () => NativePeers;
  Gemma: new (config: NativeGemmaConfig, options: NativeGemmaOptions) => NativeGemma;
}
