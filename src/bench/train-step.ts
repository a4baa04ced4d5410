import type { PairDataset, TokenisedPair } from '../data/pairs/dataset.js';
import { packPairs, pairLogProbabilities, responseCotangents } from '../data/pairs/packing.js';
import type { Team } from '../distributed/team.js';
import { GroupRobustError, present } from '../errors.js';
import { loadNative } from '../native/load.js';
import type { DType, NativeProductCalls } from '../native/types.js';
import { Random } from '../numbers/random.js';
import { type GemmaOptions, GemmaPolicy } from '../policy/gemma.js';
import { counted } from '../terminal/format.js';
import { configSchema } from '../train/config.js';
import { pairMetrics } from '../train/metrics.js';
import { trainPolicy } from '../train/trainer.js';
import { stepFlops } from './flops.js';
import { callsSince, type MachineRecord, machineRecord } from './measure.js';

export interface TrainStepSettings extends GemmaOptions {
  /** As `--model` takes it. */
  model: string;
  /** Pairs a step. */
  batch: number;
  /** Tokens of each prompt. */
  prompt: number;
  /** Tokens of each response, EOS not counted. */
  response: number;
  /** How many of the pairs share one prompt. */
  pairsPerPrompt: number;
  /** Timed steps, after one that is not timed. */
  steps: number;
  /** Processes that share each step. */
  team?: Team;
}

/** What several processes have to do with each other in a step: what this one gives to the others. */
export interface StepExchange {
  processes: number;
  /** Mean seconds a step, in which this process also waits for slower ones. */
  seconds: number;
  /** Bytes a step. */
  bytes: number;
  /** The same by arithmetic: the adapter's gradient, and the sums of the groups with a few marks, 8 bytes each. */
  gradient_bytes: number;
  sums_bytes: number;
}

export interface TrainStepBenchmark {
  machine: MachineRecord & { torch: string; threads: number; device: string; dtype: DType };
  /** Median. */
  seconds_per_step: number;
  pairs_per_second: number;
  /** Tokens of prompts and responses, each prompt once for all pairs that share it. */
  tokens_per_second: number;
  /** Of the arithmetic that the step cannot do without (bench/flops.ts). */
  useful_gflops: number;
  /** Product of two square matrices of the same type on the same device (2048 rows, on a GPU 8192), the best way there is, measured in this run. */
  gemm_gflops: number;
  fraction_of_gemm: number;
  /** Matrix products of the steps, the first one too, by what made them. */
  product_calls: NativeProductCalls;
  /** Largest resident set of the process, LibTorch and Node included; on a GPU most bytes of tensors at once. */
  peak_memory_bytes: number;
  /**
   * Seconds a step, mean over the timed ones; `typescript` is all that is not in the model's thread. Empty on a GPU, whose work goes on
   * behind the calls that a clock would take.
   */
  breakdown: Record<string, number>;
  /** On a GPU: how often a step waits for it, the most of the timed ones. Two are needed: for log-probabilities, and for the gradient's norm. */
  synchronisations?: number;
  /** Relative error of the gradient against a difference of log-probabilities. */
  gradient_error: number;
  /** Largest difference of a pair's log-probability in the batch from that of the pair scored alone. */
  batch_error: number;
  /** Absent where one process makes the steps. */
  exchange?: StepExchange;
  checked: true;
}

const rank = 8;
const eos = 1;

/**
 * Times steps of GR-IPO with LoRA on all projections as `train` makes them, reference scores cached, after checking the
 * first batch: a pair scores the same alone as in the batch, and the gradient predicts what a small step along it does.
 * @throws GroupRobustError CHECK_FAILED
 */
export async function benchmarkTrainStep(
  settings: TrainStepSettings,
  log: (text: string) => void = () => {},
): Promise<TrainStepBenchmark> {
  const { model, steps, team } = settings;
  const native = loadNative();
  using policy = await GemmaPolicy.open(model, settings);
  const data = randomPairs(settings, policy.config.vocabulary, policy.bos);
  await policy.addAdapter({ rank, alpha: 32 }, { accumulators: data.groups.length });
  log(policy.placeText);
  log('checking one batch');
  const batchError = await checkBatch(policy, data);
  const gradientError =
    policy.dtype === 'bfloat16' ? await checkAgainstFloat32(policy, data, settings) : await checkGradient(policy, data);

  const onCpu = policy.device === 'cpu';
  log(`timing ${counted(steps, 'step')}`);
  if (team?.native) policy.stepWith(team.native);
  interface Mark {
    at: number;
    profile: Record<string, number>;
    synchronisations?: number;
    traffic?: { bytes: number; seconds: number };
  }
  const marks: Mark[] = [];
  const config = configSchema.parse({
    model,
    output: 'none',
    data: { train: 'none' },
    objective: { loss: 'ipo', beta: 0.01, weights: 'mirror-ascent', step: 0.01 },
    optimizer: { learningRate: 1e-5 },
    batch: { size: settings.batch },
    steps: steps + 1,
  });
  const before = native.productCalls();
  await trainPolicy(policy, data, undefined, config, {
    team,
    onStep() {},
    async afterStep() {
      const at = performance.now();
      // The timed steps' own: a model of the check may have been there until just now.
      if (!onCpu && marks.length === 0) native.peakDeviceMemory(policy.device);
      marks.push({
        at,
        profile: await policy.native.profile(),
        synchronisations: onCpu ? undefined : await policy.native.synchronisations(),
        traffic: team?.native?.traffic(),
      });
      return true;
    },
  });
  const products = callsSince(native, before);
  const exchange = team && exchangeOf(policy, team, data.groups.length, marks.slice(-steps - 1));
  const timed = marks.slice(-steps);
  const marksBefore = marks.slice(-steps - 1);
  const seconds = timed.map(({ at }, i) => (at - marksBefore[i].at) / 1000);
  const median = [...seconds].sort((a, b) => a - b)[Math.floor(seconds.length / 2)];
  const breakdown: Record<string, number> = {};
  for (const section of Object.keys(timed[0].profile))
    breakdown[section] = timed.reduce((sum, { profile }) => sum + profile[section], 0) / steps;
  const inModel = Object.values(breakdown).reduce((sum, value) => sum + value, 0);
  breakdown.typescript = seconds.reduce((sum, value) => sum + value, 0) / steps - inModel;

  const { batch } = packPairs(data.pairs, { responses: 'both' });
  const useful = stepFlops(policy.config, rank, batch).total / median;
  // Before the arrays that the measurement below takes.
  const peak = onCpu ? process.resourceUsage().maxRSS * 1024 : native.peakDeviceMemory(policy.device);
  policy.dispose();
  const gemm = await gemmRate(policy);
  const info = native.nativeInfo();
  return {
    machine: {
      ...machineRecord(),
      torch: info.torchVersion,
      threads: info.threads,
      device: policy.device,
      dtype: policy.dtype,
    },
    seconds_per_step: median,
    pairs_per_second: settings.batch / median,
    tokens_per_second: batch.tokens.length / median,
    useful_gflops: useful / 1e9,
    gemm_gflops: gemm / 1e9,
    fraction_of_gemm: useful / gemm,
    product_calls: products,
    peak_memory_bytes: peak,
    breakdown: onCpu ? breakdown : {},
    ...(!onCpu && { synchronisations: Math.max(...timed.map((mark) => present(mark.synchronisations))) }),
    gradient_error: gradientError,
    batch_error: batchError,
    ...(exchange && { exchange }),
    checked: true,
  };
}

/**
 * @param marks before the timed steps and after each
 * @throws GroupRobustError CHECK_FAILED where other bytes were sent than arithmetic says
 */
function exchangeOf(
  policy: GemmaPolicy,
  { size }: Team,
  groups: number,
  marks: readonly { traffic?: { bytes: number; seconds: number } }[],
): StepExchange {
  const steps = marks.length - 1;
  const [first, last] = [present(marks[0]?.traffic), present(marks.at(-1)?.traffic)];
  const { layers, hidden, heads, keyValueHeads, headSize, mlp } = policy.config;
  const [queries, keys] = [heads * headSize, keyValueHeads * headSize];
  // A and B of each projection: rank · (in + out) numbers.
  const edges = hidden + queries + 2 * (hidden + keys) + (queries + hidden) + 3 * (hidden + mlp);
  const gradientBytes = layers * rank * edges * (policy.dtype === 'float64' ? 8 : 4);
  // A wish to stop and whether all is finite; of each group losses, weights and counts, of these again, and of each metric.
  const sumsBytes = 8 * (2 + 3 * groups + 2 * groups + pairMetrics.length * (1 + groups));
  const bytes = (last.bytes - first.bytes) / steps;
  if (bytes !== gradientBytes + sumsBytes)
    throw new GroupRobustError(
      'CHECK_FAILED',
      `a step gives ${bytes} bytes to others, not ${gradientBytes + sumsBytes}`,
    );
  const seconds = (last.seconds - first.seconds) / steps;
  return { processes: size, seconds, bytes, gradient_bytes: gradientBytes, sums_bytes: sumsBytes };
}

/** Products a second where a model is, in its type, in flops; for float64, which is no type of the kernels, in float32. */
async function gemmRate({ device, dtype }: Pick<GemmaPolicy, 'device' | 'dtype'>): Promise<number> {
  const bench = new (loadNative().KernelBench)();
  const setting = {
    dtype: dtype === 'float64' ? 'float32' : dtype,
    device,
    seconds: 1,
  } as const;
  try {
    return (await bench.measureMachine(setting)).gemmFlopsPerSecond;
  } finally {
    bench.dispose();
  }
}

/** One batch of random tokens, in two groups by halves; prompts are shared as asked. */
function randomPairs(
  { batch, prompt, response, pairsPerPrompt }: TrainStepSettings,
  vocabulary: number,
  bos: number,
): PairDataset {
  const random = Random.stream(0, 'benchmark pairs');
  const ids = (length: number) => Int32Array.from({ length }, () => 3 + random.integer(vocabulary - 3));
  const answer = () => Int32Array.of(...ids(response), eos);
  const prompts = Array.from({ length: Math.ceil(batch / pairsPerPrompt) }, () =>
    Int32Array.of(bos, ...ids(prompt - 1)),
  );
  const pairs = Array.from({ length: batch }, (_, i): TokenisedPair => {
    const p = Math.floor(i / pairsPerPrompt);
    return {
      id: `pair ${i}`,
      group: p < prompts.length / 2 ? 0 : 1,
      prompt: prompts[p],
      chosen: answer(),
      rejected: answer(),
      weight: 1,
    };
  });
  // A single prompt is in the first group alone.
  const groups = prompts.length > 1 ? ['first', 'second'] : ['first'];
  const counts = groups.map((_, g) => pairs.filter((pair) => pair.group === g).length);
  const report = {
    dropped: { empty: 0, degenerate: 0, tooLong: 0 },
    boundaryDiffers: { count: 0, firstLines: [] },
    warnings: [],
  };
  return { file: 'random', groups, pairs, counts, report };
}

async function checkBatch(policy: GemmaPolicy, { pairs }: PairDataset): Promise<number> {
  const scores = async (some: readonly TokenisedPair[]) => {
    const packed = packPairs(some, { responses: 'both' });
    return pairLogProbabilities(packed, await policy.logProbabilities(packed.batch, 'policy'));
  };
  const together = await scores(pairs);
  const alone = await scores(pairs.slice(-1));
  const last = pairs.length - 1;
  const error = Math.max(
    Math.abs(together.chosen[last] - alone.chosen[0]),
    Math.abs(together.rejected[last] - alone.rejected[0]),
  );
  if (!(error <= (policy.dtype === 'bfloat16' ? bfloat16Bound : 1e-2)))
    throw new GroupRobustError('CHECK_FAILED', `a pair scored alone differs by ${error} nats`);
  return error;
}

/** Nats that eight bits a number, in all layers, may move the score of a response by. */
const bfloat16Bound = 0.5;

/** The first layer's first B, whose derivative has been through every layer and the head. */
function deepestTensor(policy: GemmaPolicy): string {
  return policy.native.trainable().find(({ name }) => name.endsWith('lora_B.weight'))!.name;
}

/** Of the first pair: log-probabilities of both responses, and the gradient of their difference. */
async function scoresAndGradient(policy: GemmaPolicy, { pairs, groups }: PairDataset) {
  const packed = packPairs(pairs.slice(0, 1), { responses: 'both' });
  const scores = await policy.forward(packed.batch);
  const cotangents = responseCotangents(packed, Float64Array.of(1), Float64Array.of(-1));
  await policy.backward(cotangents, packed.treeGroups);
  const gradient = await policy.native.readGradient(deepestTensor(policy), new Float64Array(groups.length).fill(1));
  await policy.native.discardGradients();
  return { packed, cotangents, scores, gradient };
}

/** A small step would be lost in bfloat16: scores and gradient are held against those of the same model in float32, on the same device. */
async function checkAgainstFloat32(
  policy: GemmaPolicy,
  data: PairDataset,
  settings: TrainStepSettings,
): Promise<number> {
  const own = await scoresAndGradient(policy, data);
  using exact = await GemmaPolicy.open(settings.model, { ...settings, dtype: 'float32', baseDtype: 'float32' });
  await exact.addAdapter({ rank, alpha: 32 }, { accumulators: data.groups.length });
  const wanted = await scoresAndGradient(exact, data);
  const difference = Math.max(...own.scores.map((score, i) => Math.abs(score - wanted.scores[i])));
  const length = (vector: Float64Array) => Math.hypot(...vector);
  const error = length(own.gradient.map((value, i) => value - wanted.gradient[i])) / length(wanted.gradient);
  if (!(difference <= bfloat16Bound && error <= 0.3))
    throw new GroupRobustError(
      'CHECK_FAILED',
      `bfloat16 moves a score by ${difference} nats and the gradient by ${error} of its length`,
    );
  return error;
}

/** Along the gradient of the first layer's first B, whose derivative has been through every layer and the head. */
async function checkGradient(policy: GemmaPolicy, data: PairDataset): Promise<number> {
  const { packed, cotangents, scores: before, gradient } = await scoresAndGradient(policy, data);
  const tensor = deepestTensor(policy);
  const start = await policy.native.readTrainable(tensor);
  const slope = gradient.reduce((sum, value) => sum + value * value, 0);
  const predicted = 0.02;
  const moved = start.map((value, i) => value + (predicted / slope) * gradient[i]);
  await policy.native.writeTrainable(tensor, moved);
  const after = await policy.logProbabilities(packed.batch, 'policy');
  await policy.native.writeTrainable(tensor, start);
  const change = cotangents.reduce((sum, cotangent, i) => sum + cotangent * (after[i] - before[i]), 0);
  const error = Math.abs(change - predicted) / predicted;
  if (!(error <= 0.05))
    throw new GroupRobustError('CHECK_FAILED', `a step along the gradient changes ${change}, not ${predicted}`);
  return error;
}
