import { type Command, Option } from '@commander-js/extra-typings';
import type { DistributedBenchmark } from '../bench/distributed.js';
import type { KernelBenchmark, KernelDType, KernelShape } from '../bench/kernels.js';
import type { TrainStepBenchmark } from '../bench/train-step.js';
import { InputError } from '../errors.js';
import { maxThreads, type NativeDevice, type NativeProductCalls } from '../native/types.js';
import { counted } from '../terminal/format.js';
import { textTable } from '../terminal/text-table.js';
import { countOption, defineAction, deviceOption, numberOption } from './command.js';

/** `group-robust bench`: programs that first check their result, then time it. */
export function registerBench(program: Command): void {
  const bench = program.command('bench').description('measure speed, after checking the result');
  defineAction(
    bench
      .command('bandit')
      .description(
        'updates per second of the simulator, full-batch and per-sample, against plain loops in typed arrays',
      )
      .addOption(numberOption('--seconds <s>', 'time for each measurement', { min: 0.01, max: 600 }).default(1))
      .option('--numpy', 'the full batch in NumPy too, with the Python that PYTHON names, else python3'),
    async ({ seconds, numpy }, output) => {
      const { benchmarkBandit } = await import('../bench/bandit.js');
      const result = await benchmarkBandit(seconds, { numpy });
      const rate = (value: number) => Math.round(value).toLocaleString('en-US');
      const { cpu, cores, node, load } = result.machine;
      output.log(`${cpu}, one of ${cores} cores, Node ${node}, load ${load.toFixed(1)}`);
      output.log(
        result.vector_width === null
          ? "in TypeScript: the simulator's addon is not built, see npm run build"
          : `by the simulator's addon, in vectors of ${result.vector_width}`,
      );
      output.log('checked: all agree with the plain loops in typed arrays to 1e-9');
      output.log(
        `full batch, 300 pairs, d = 4: ${rate(result.full_batch_iterations_per_second)} iterations/s, ${result.full_batch_ratio.toFixed(1)} times the plain loop`,
      );
      if (result.numpy)
        output.log(
          `  NumPy ${result.numpy.version}: ${rate(result.numpy.full_batch_iterations_per_second)} iterations/s; ours is ${result.numpy.full_batch_ratio.toFixed(1)} times as fast`,
        );
      output.log(
        `per sample, 16 runs side by side: ${rate(result.per_sample_steps_per_second)} steps/s, ${result.per_sample_ratio.toFixed(1)} times the plain loop`,
      );
      output.log(`two workers: ${result.two_workers_ratio.toFixed(2)} times as fast as one`);
      return result;
    },
  );

  const shapes = ['gemma-2b', 'tiny'] as const satisfies KernelShape[];
  const dtypes = ['float32', 'bfloat16'] as const satisfies KernelDType[];
  const devices = ['cpu', 'cuda'] as const satisfies NativeDevice[];
  const choice = <const Flags extends string, Name extends string>(
    flags: Flags,
    description: string,
    choices: readonly [Name, ...Name[]],
  ) => new Option(flags, description).choices(choices).default(choices[0]);
  defineAction(
    bench
      .command('kernels')
      .description("each kernel, forward and backward: error against float64, time, and share of the machine's limit")
      .addOption(choice('--shape <name>', 'the sizes of this model', shapes))
      .addOption(choice('--dtype <type>', 'type of the data', dtypes))
      .addOption(choice('--device <device>', 'where to run', devices))
      .addOption(numberOption('--seconds <s>', 'time for each measurement', { min: 0.001, max: 600 }).default(1))
      .option('--quiet', 'no progress'),
    async ({ quiet = false, ...settings }, output) => {
      const { benchmarkKernels } = await import('../bench/kernels.js');
      const result = await benchmarkKernels({ ...settings, quiet });
      output.log(describeKernels(result));
      if (!result.ok) process.exitCode = 1;
      return result;
    },
  );

  defineAction(
    bench
      .command('train-step')
      .description('GR-IPO steps with LoRA on random weights: speed, share of the matrix product rate, memory')
      .addOption(choice('--shape <name>', 'the model’s sizes', shapes))
      .addOption(countOption('--layers <n>', 'number of layers (default: the shape’s)', { min: 1 }))
      .addOption(countOption('--vocab <n>', 'size of the vocabulary (default: the shape’s)', { min: 4 }))
      .addOption(countOption('--batch <n>', 'pairs per step', { min: 1 }).default(4))
      .addOption(countOption('--prompt <n>', 'tokens of each prompt', { min: 1 }).default(86))
      .addOption(countOption('--response <n>', 'tokens of each response, EOS not counted', { min: 1 }).default(1))
      .addOption(countOption('--pairs-per-prompt <n>', 'how many of the pairs share a prompt', { min: 1 }).default(1))
      .addOption(countOption('--steps <n>', 'timed steps, after one that is not timed', { min: 1 }).default(3))
      .addOption(deviceOption('auto, a GPU where there is one'))
      .addOption(
        new Option('--dtype <type>', 'type of the step (default: float32 on the CPU, bfloat16 on a GPU)').choices(
          dtypes,
        ),
      )
      .addOption(
        new Option('--base-dtype <type>', 'type the base weights are kept in (default: that of the step)').choices(
          dtypes,
        ),
      )
      .option('--recompute', 'compute every layer again in the backward pass, for less memory')
      .addOption(countOption('--threads <n>', 'LibTorch threads (default: all cores)', { min: 1, max: maxThreads })),
    async ({ shape, layers, vocab, ...settings }, output) => {
      const { benchmarkTrainStep } = await import('../bench/train-step.js');
      const { resolveDevice } = await import('../policy/device.js');
      const { together } = await import('../distributed/process-team.js');
      return together(undefined, async (team) => {
        const device = resolveDevice(settings.device, '--device', team?.localRank);
        const sizes = Object.entries({ layers, vocab }).flatMap(([name, size]) => (size ? [`${name}=${size}`] : []));
        const model = `random:${shape}${sizes.length > 0 ? `?${sizes.join('&')}` : ''}`;
        const result = await benchmarkTrainStep({ ...settings, device, model, team }, output.log);
        output.log(describeTrainStep(result));
        return result;
      });
    },
  );

  defineAction(
    bench
      .command('distributed')
      .description('the same training steps on one process and on several that share its threads; what they exchange')
      .addOption(countOption('--processes <n>', 'how many share the threads', { min: 2, max: maxThreads }).default(2))
      .addOption(
        countOption('--threads <n>', 'threads of the one process, a multiple of --processes (default: all cores)', {
          min: 2,
          max: maxThreads,
        }),
      )
      .addOption(choice('--shape <name>', 'the model’s sizes', shapes))
      .addOption(countOption('--layers <n>', 'number of layers (default: the shape’s)', { min: 1 }))
      .addOption(countOption('--vocab <n>', 'size of the vocabulary (default: the shape’s)', { min: 4 }))
      .addOption(countOption('--batch <n>', 'pairs per step', { min: 1 }).default(4))
      .addOption(countOption('--steps <n>', 'timed steps, after one that is not timed', { min: 1 }).default(3))
      .addOption(countOption('--rounds <n>', 'times that both are measured, in turn', { min: 1 }).default(3)),
    async ({ processes, threads: asked, rounds, json: _, ...step }: DistributedOptions, output) => {
      const { availableParallelism } = await import('node:os');
      const { benchmarkDistributed } = await import('../bench/distributed.js');
      const threads = asked ?? Math.max(processes, availableParallelism() - (availableParallelism() % processes));
      if (threads % processes !== 0)
        throw new InputError(`is ${threads}, which ${processes} processes cannot share evenly`, {
          at: { field: '--threads' },
          fix: 'use a multiple of --processes',
        });
      const args = Object.entries(step).flatMap(([name, value]) =>
        value === undefined ? [] : [`--${name}`, `${value}`],
      );
      const result = await benchmarkDistributed({ processes, threads, rounds, step: args }, output.log);
      output.log(describeDistributed(result));
      return result;
    },
  );
}

interface DistributedOptions {
  processes: number;
  threads?: number;
  rounds: number;
  json?: boolean;
  shape: string;
  layers?: number;
  vocab?: number;
  batch: number;
  steps: number;
}

function describeDistributed(result: DistributedBenchmark): string {
  const { machine, processes, threads, exchange, arithmetic } = result;
  const milliseconds = (seconds: number) => `${(1000 * seconds).toPrecision(3)} ms`;
  return [
    `${machine.cpu}, load ${machine.load.toFixed(1)}`,
    `one process of ${threads} threads: ${result.alone_seconds.toFixed(3)} s a step`,
    `${processes} processes of ${threads / processes}: ${result.shared_seconds.toFixed(3)} s a step, ${result.efficiency.toFixed(2)} of the speed of one`,
    `exchange: ${milliseconds(exchange.seconds)} a step with waits, ${(100 * result.exchange_share).toFixed(1)} %; each process gives ${exchange.bytes} bytes (gradient ${exchange.gradient_bytes}, sums of the groups ${exchange.sums_bytes}), as arithmetic says`,
    'By arithmetic, not measured: the least that summing the gradient of Gemma-2B’s adapter of rank 8 takes around a ring',
    textTable(
      ['cards', 'Gbit/s', 'a step'],
      arithmetic.map(({ cards, gigabits_per_second: rate, seconds }) => [`${cards}`, `${rate}`, milliseconds(seconds)]),
    ),
  ].join('\n');
}

function describeTrainStep(result: TrainStepBenchmark): string {
  const { machine, breakdown } = result;
  const total = Object.values(breakdown).reduce((sum, seconds) => sum + seconds, 0);
  const parts = Object.entries(breakdown).map(([part, seconds]) => [
    part,
    `${(1000 * seconds).toFixed(1)} ms`,
    `${((100 * seconds) / total).toFixed(1)} %`,
  ]);
  const gigabytes = (result.peak_memory_bytes / 1e9).toFixed(2);
  return [
    `${machine.cpu}, ${machine.threads} threads, load ${machine.load.toFixed(1)}, LibTorch ${machine.torch}`,
    `checked: gradient within ${(100 * result.gradient_error).toFixed(2)} % of ${machine.dtype === 'bfloat16' ? 'that in float32' : 'a finite difference'}, a pair scored alone within ${result.batch_error.toExponential(0)} nats`,
    `${result.seconds_per_step.toFixed(3)} s per step, ${result.pairs_per_second.toPrecision(3)} pairs/s, ${Math.round(result.tokens_per_second)} tokens/s, peak memory ${gigabytes} GB`,
    describeProducts(result.product_calls),
    ...(result.synchronisations === undefined
      ? []
      : [
          `a step waits for the card ${counted(result.synchronisations, 'time')}; it must for log-probabilities and for one norm`,
        ]),
    ...(result.exchange
      ? [
          `${result.exchange.processes} processes: ${(1000 * result.exchange.seconds).toPrecision(3)} ms of a step in exchanges, waits included; ${result.exchange.bytes} bytes given`,
        ]
      : []),
    `${result.useful_gflops.toFixed(0)} useful GFLOP/s of ${result.gemm_gflops.toFixed(0)} that a plain product reaches: ${(100 * result.fraction_of_gemm).toFixed(0)} %`,
    ...(parts.length > 0 ? [textTable(['part', 'a step', 'share'], parts)] : []),
  ].join('\n');
}

/** Which way the matrix products went, for a LibTorch may lack the faster one. */
function describeProducts({ onednn, libtorch }: NativeProductCalls): string {
  const ways = [
    onednn > 0 && `${onednn} by LibTorch's private entry to oneDNN`,
    libtorch > 0 && `${libtorch} by its public operations`,
  ].filter(Boolean);
  return `matrix products: ${ways.join(', ') || 'none'}`;
}

/** Why a part of a limit can be above 100 %. */
const aboveLimit: Record<KernelBenchmark['rows'][number]['unit'], string> = {
  'GB/s': '* above 100 %: data that fits into the caches does not wait for memory, whose rate is the limit shown',
  'GFLOP/s':
    '* above 100 % of GFLOP/s: the limit is what one large product reached when it was measured; a changing clock or load, or sizes ' +
    'that suit the processor better, can let others go faster',
};

/** What each kernel is held against. */
const limitOf: [KernelBenchmark['rows'][number]['unit'], string][] = [
  ['GB/s', 'GB/s: a kernel that passes over its data once or twice waits for memory; its limit is the rate of a copy'],
  [
    'GFLOP/s',
    'GFLOP/s: a kernel that uses each number many times (LoRA, attention, the head of 16 positions or more) waits for arithmetic; its limit is a ' +
      'large matrix product. Attention counts only positions that see each other',
  ],
];

function microseconds(seconds: number): string {
  return (seconds * 1e6).toFixed(0);
}

/** The measuring table for people, with the machine's limits above it. */
export function describeKernels({ machine, product_calls, rows }: KernelBenchmark): string {
  const where = machine.device_name || `${machine.cpu}, ${machine.threads} threads, load ${machine.load.toFixed(1)}`;
  const limits = `copy ${machine.copy_gb_per_second.toFixed(1)} GB/s, matrix product ${machine.gemm_gflops.toFixed(0)} GFLOP/s`;
  const table = textTable(
    [
      'kernel',
      'pass',
      'size',
      'type',
      'error',
      "LibTorch's",
      'median µs',
      'quartiles',
      'rate',
      'of limit',
      'times LibTorch',
      '',
    ],
    rows.map((row) => [
      row.kernel,
      row.pass,
      row.size,
      row.dtype,
      row.error.toExponential(1),
      row.torch_error.toExponential(1),
      microseconds(row.median_seconds),
      `${microseconds(row.first_quartile_seconds)} ${microseconds(row.third_quartile_seconds)}`,
      `${row.rate.toFixed(1)} ${row.unit}`,
      `${(100 * row.fraction_of_limit).toFixed(0)} %${row.fraction_of_limit > 1 ? ' *' : ''}`,
      (row.torch_median_seconds / row.median_seconds).toFixed(2),
      row.ok ? 'ok' : 'WRONG',
    ]),
  );
  const units = new Set(rows.map(({ unit }) => unit));
  const beyond = rows.filter(({ fraction_of_limit: part }) => part > 1);
  const notes = (['GB/s', 'GFLOP/s'] as const).filter((unit) => beyond.some((row) => row.unit === unit));
  return [
    `${where}, LibTorch ${machine.torch}: ${limits}`,
    describeProducts(product_calls),
    table,
    ...limitOf.filter(([unit]) => units.has(unit)).map(([, text]) => text),
    ...notes.map((unit) => aboveLimit[unit]),
  ].join('\n');
}
